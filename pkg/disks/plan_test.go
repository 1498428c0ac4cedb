package disks_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// show writes a table, one line a partition.
func show(p disks.Present) string {
	var b strings.Builder
	if p.Table == nil {
		return p.What
	}
	for _, e := range p.Table.Entries {
		fmt.Fprintf(&b, "%d %s %d+%d\n", e.Number, e.Label, e.First*512/mib, (e.Last-e.First+1)*512/mib)
	}
	return b.String()
}

// What a disk of 1000 MiB holds after its plan; or the error, and then it holds what it held.
func TestPlanMakesWhatIsDeclaredAndMay(t *testing.T) {
	type P = catalog.Partition
	type M = map[string]P
	two := M{"boot": {Number: new(1), Size: new(int64(100))}, "scratch": {Number: new(2), Size: new(int64(300))}}
	dos := func() *ram {
		r := newRAM(1000 * mib)
		b := make([]byte, 512)
		copy(b[446:], []byte{0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0})
		copy(b[510:], "\x55\xaa")
		r.write(0, b)
		return r
	}
	filled := func() *ram {
		r := newRAM(1000 * mib)
		r.write(700000, []byte("somebody's data"))
		return r
	}
	for name, tc := range map[string]struct {
		disk *ram
		d    catalog.Disk
		want string // the table
		err  string
		fix  string
	}{
		"an empty disk is taken": {newRAM(1000 * mib), parts(two), "1 boot 1+100\n2 scratch 101+300\n", "", ""},
		"one of no size takes what is left, wherever it is named": {newRAM(1000 * mib), parts(M{"a": {}, "b": {Size: new(int64(200))}, "c": {Number: new(1), Size: new(int64(50))}}),
			"1 c 1+50\n2 b 51+200\n3 a 251+748\n", "", ""},
		"a start is kept":                       {newRAM(1000 * mib), parts(M{"a": {Start: new(int64(500)), Size: new(int64(10))}, "b": {Size: new(int64(400))}}), "1 a 500+10\n2 b 1+400\n", "", ""},
		"no room":                               {newRAM(1000 * mib), parts(M{"a": {Size: new(int64(600))}, "b": {Size: new(int64(600))}}), "nothing", "no room for partition b: 398 MiB are free in one piece", "wipe_table"},
		"a start that is taken":                 {newRAM(1000*mib).layout(t, parts(two)), parts(M{"a": {Start: new(int64(50))}}), "1 boot 1+100\n2 scratch 101+300\n", "cannot start at 50 MiB", ""},
		"what is there stays beside it":         {newRAM(1000*mib).layout(t, parts(two)), parts(M{"new": {Size: new(int64(10))}}), "1 boot 1+100\n2 scratch 101+300\n3 new 401+10\n", "", ""},
		"unknown data stays":                    {filled(), parts(two), "data of unknown kind", "it holds data of unknown kind, and nothing permits", "wipe_table"},
		"unknown data goes when it may":         {filled(), catalog.Disk{Wipe: new(true), Partitions: two}, "1 boot 1+100\n2 scratch 101+300\n", "", ""},
		"an old table stays":                    {dos(), parts(two), "a partition table (DOS)", "it holds a partition table (DOS)", "wipe_table"},
		"an old table goes when it may":         {dos(), catalog.Disk{Wipe: new(true), Partitions: two}, "1 boot 1+100\n2 scratch 101+300\n", "", ""},
		"a table goes without another":          {dos(), catalog.Disk{Wipe: new(true)}, "", "", ""},
		"a disk of which nothing is said":       {dos(), catalog.Disk{}, "a partition table (DOS)", "", ""},
		"wiping a table leaves data without it": {filled(), catalog.Disk{Wipe: new(true)}, "data of unknown kind", "", ""},
		"another size": {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Size: new(int64(200))}}), "1 boot 1+100\n2 scratch 101+300\n",
			"partition 2 is not as declared: it has 300 MiB, not 200 MiB", "wipe_partition_entry of partition scratch"},
		"another size that may be": {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Size: new(int64(200)), Wipe: new(true)}}), "1 boot 1+100\n2 scratch 101+200\n", "", ""},
		"growing":                  {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Size: new(int64(400)), Resize: new(true)}}), "1 boot 1+100\n2 scratch 101+400\n", "", ""},
		"growing without leave":    {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Size: new(int64(400))}}), "1 boot 1+100\n2 scratch 101+300\n", "not as declared", "resize of partition scratch"},
		"growing into another":     {newRAM(1000*mib).layout(t, parts(two)), parts(M{"boot": {Size: new(int64(400)), Resize: new(true)}}), "1 boot 1+100\n2 scratch 101+300\n", "cannot grow to 400 MiB: there is room for 100 MiB", ""},
		"growing over what goes": {newRAM(1000*mib).layout(t, parts(two)), parts(M{"boot": {Size: new(int64(400)), Resize: new(true)}, "scratch": {Exists: new(false), Wipe: new(true)}}),
			"1 boot 1+400\n", "", ""},
		"growing as far as it goes":   {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Resize: new(true)}}), "1 boot 1+100\n2 scratch 101+898\n", "", ""},
		"shrinking is no growing":     {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Size: new(int64(200)), Resize: new(true)}}), "1 boot 1+100\n2 scratch 101+300\n", "not as declared", "wipe_partition_entry"},
		"one that shall not be":       {newRAM(1000*mib).layout(t, parts(two)), parts(M{"boot": {Exists: new(false)}}), "1 boot 1+100\n2 scratch 101+300\n", "shall not exist, and nothing permits", "wipe_partition_entry"},
		"one that shall not and may":  {newRAM(1000*mib).layout(t, parts(two)), parts(M{"boot": {Exists: new(false), Wipe: new(true)}}), "2 scratch 101+300\n", "", ""},
		"one that is gone already":    {newRAM(1000*mib).layout(t, parts(two)), parts(M{"gone": {Exists: new(false)}}), "1 boot 1+100\n2 scratch 101+300\n", "", ""},
		"wipe_table keeps what is so": {newRAM(1000*mib).layout(t, parts(two)), catalog.Disk{Wipe: new(true), Partitions: M{"scratch": two["scratch"]}}, "2 scratch 101+300\n", "", ""},
		"another label at the number": {newRAM(1000*mib).layout(t, parts(two)), parts(M{"home": {Number: new(2)}}), "1 boot 1+100\n2 scratch 101+300\n", `its label is "scratch", not "home"`, "wipe_partition_entry"},
		"another label that may be":   {newRAM(1000*mib).layout(t, parts(two)), parts(M{"home": {Number: new(2), Wipe: new(true)}}), "1 boot 1+100\n2 home 101+300\n", "", ""},
		"another number":              {newRAM(1000*mib).layout(t, parts(two)), parts(M{"scratch": {Number: new(7)}}), "1 boot 1+100\n2 scratch 101+300\n", "its number is 2, not 7", ""},
		"a number that is too high":   {newRAM(1000 * mib), parts(M{"a": {Number: new(129)}}), "nothing", "not from 1 to 128", ""},
		"a type that is none":         {newRAM(1000 * mib), parts(M{"a": {Type: new("linux")}}), "nothing", "not a GUID", ""},
		"a label that is too long":    {newRAM(1000 * mib), parts(M{strings.Repeat("x", 37): {}}), "nothing", "from 1 to 36", ""},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := disks.PlanDisk(tc.d, tc.disk.look(t), random(1))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("got error %v, want %q", err, tc.err)
			}
			if !strings.Contains(fault.Fix(err), tc.fix) {
				t.Errorf("fix %q does not name %q", fault.Fix(err), tc.fix)
			}
			if err != nil && plan.Table != nil {
				t.Error("a plan that may not be has steps")
			}
			tc.disk.apply(plan, all)
			present := tc.disk.look(t)
			got := show(present)
			if present.Blank && tc.want == "nothing" {
				got = "nothing"
			}
			if got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if tc.err == "" {
				if again := tc.disk.plan(t, tc.d); again.Table != nil || len(again.Clear) > 0 {
					t.Errorf("a second time: %v", again.Steps)
				}
			}
		})
	}
}

// Another program reads what is written here, and what another program writes is read here.
func TestSfdiskAgrees(t *testing.T) {
	sfdisk, err := exec.LookPath("sfdisk")
	if err != nil {
		if sfdisk, err = exec.LookPath("/usr/sbin/sfdisk"); err != nil {
			t.Skip("no sfdisk here")
		}
	}
	r := newRAM(60 * mib)
	r.layout(t, parts(map[string]catalog.Partition{
		"boot":   {Number: new(3), Size: new(int64(10)), Type: new("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), GUID: new("11111111-2222-4333-8444-555555555555")},
		"grösse": {},
	}))
	file := filepath.Join(t.TempDir(), "disk")
	raw := make([]byte, r.size)
	if _, err := r.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sfdisk, "--verify", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("%v\n%s", err, out)
	}
	cmd := exec.Command(sfdisk, "--dump", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	dump, err := cmd.CombinedOutput()
	for _, want := range []string{"label: gpt", "first-lba: 34", "last-lba: 122846",
		`disk3 : start=        2048, size=       20480, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=11111111-2222-4333-8444-555555555555, name="boot"`, `name="gr\xc3\xb6sse"`} {
		if err != nil || !strings.Contains(string(dump), want) {
			t.Errorf("%v: no %q in\n%s", err, want, dump)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, make([]byte, r.size), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(sfdisk, other)
	cmd.Stdin = strings.NewReader("label: gpt\nstart=2048, size=20480, name=one\nsize=20480, name=two, type=S\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	present, err := disks.Look(f, r.size, 512)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(present), "1 one 1+10\n2 two 11+10\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A damaged table is not taken for none, nor for a whole one.
func TestDamagedTableStays(t *testing.T) {
	d := parts(map[string]catalog.Partition{"a": {Size: new(int64(10))}})
	for name, tc := range map[string]struct {
		at   int64
		what string
	}{
		"header": {512 + 60, "1 a 1+10\n"}, // the second copy is whole
		"array":  {1024 + 40, "1 a 1+10\n"},
	} {
		r := newRAM(100*mib).layout(t, d)
		r.write(tc.at, []byte{0xff, 0xfe})
		if got := show(r.look(t)); got != tc.what {
			t.Errorf("%s: %s", name, got)
		}
		p := r.plan(t, d)
		if len(p.Steps) != 1 || !strings.Contains(p.Steps[0], "second") {
			t.Errorf("%s: %v", name, p.Steps)
		}
		r.write(r.size-512+60, []byte{0xff, 0xfe}) // and now that one
		_, err := disks.PlanDisk(d, r.look(t), random(1))
		if !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
