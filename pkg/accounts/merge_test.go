package accounts

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// text writes lines the way a file has them.
func text(lines ...string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

func equal(t *testing.T, what string, got []byte, want ...string) {
	t.Helper()
	if w := string(text(want...)); string(got) != w {
		t.Errorf("%s is\n%swant\n%s", what, got, w)
	}
}

func TestTheMachinesAccountsWin(t *testing.T) {
	image := Files{
		Passwd: text("root:x:0:0:root:/root:/bin/sh", "daemon:x:1:1:daemon:/:/usr/sbin/nologin", "# a comment", "",
			"_apt:x:42:65534::/nonexistent:/usr/sbin/nologin", "munge:x:101:102::/run/munge:/bin/false",
			"slurm:x:64030:64030:old:/nonexistent:/bin/false", "ann:$6$hash:1000:1000::/old:/bin/sh", "+::::::"),
		Group:   text("root:x:0:", "daemon:x:1:", "video:x:44:munge,ann,gone", "munge:x:102:", "slurm:x:64030:", "ann:x:1000:", "+:::"),
		Shadow:  text("root:$6$secret:19000:0:99999:7:::", "daemon:*:1::::::", "munge:!:1::::::", "slurm:!:1::::::", "+::::::::"),
		Gshadow: text("root:*::", "video:!:adm:munge,ann,gone", "munge:!::", "slurm:!::", "ann:!::"),
		SubUID:  text("ann:100000:65536"),
	}
	machine := Files{
		Passwd: text("root:x:0:0:the machine's:/root:/bin/zsh", "daemon:x:2:2:daemon:/:/sbin/nologin", "slurm:x:500:501:Slurm:/var/lib/slurm:/bin/bash",
			"ann:x:1001:1001:Ann:/home/ann:/bin/bash", "bob:$1$leaks:1002:100:Bob:/home/bob:/bin/bash", "-dave::::::", "+@staff::::::"),
		Group:  text("root:x:0:bob", "daemon:x:2:", "slurm:x:501:", "ann:x:1001:", "users:x:100:ann,bob", "video:x:39:bob", "+:::"),
		Shadow: text("bob:$6$never:1::::::"),
		SubUID: text("ann:200000:65536", "bob:165536:65536", "bob:100000:10", "eve:300000:65536"),
		SubGID: text("ann:100000:65536"),
	}
	m, err := Merge(machine, image)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "passwd", m.Files.Passwd,
		"root:x:0:0:root:/root:/bin/sh", "daemon:x:2:2:daemon:/:/sbin/nologin", "slurm:x:500:501:Slurm:/var/lib/slurm:/bin/bash",
		"ann:$6$hash:1001:1001:Ann:/home/ann:/bin/bash", "bob:x:1002:100:Bob:/home/bob:/bin/bash",
		"_apt:x:42:65534::/nonexistent:/usr/sbin/nologin", "munge:x:101:102::/run/munge:/bin/false", "+::::::")
	equal(t, "group", m.Files.Group,
		"root:x:0:bob", "daemon:x:2:", "slurm:x:501:", "ann:x:1001:", "users:x:100:ann,bob", "video:x:39:bob,munge,gone", "munge:x:102:", "+:::")
	equal(t, "shadow", m.Files.Shadow,
		"root:$6$secret:19000:0:99999:7:::", "daemon:*:1::::::", "munge:!:1::::::", "slurm:!:1::::::", "bob:*::0:99999:7:::", "_apt:*::0:99999:7:::", "+::::::::")
	equal(t, "gshadow", m.Files.Gshadow,
		"root:*::bob", "video:!:adm:bob,munge,gone", "munge:!::", "slurm:!::", "ann:!::", "daemon:!::", "users:!::ann,bob")
	equal(t, "subuid", m.Files.SubUID, "ann:100000:65536", "bob:165536:65536")
	if m.Files.SubGID != nil {
		t.Errorf("subgid is made: %s", m.Files.SubGID)
	}
	if want := map[uint32]uint32{1: 2, 64030: 500, 1000: 1001}; !maps.Equal(m.UIDs, want) {
		t.Errorf("users move %v, want %v", m.UIDs, want)
	}
	if want := map[uint32]uint32{1: 2, 64030: 501, 1000: 1001, 44: 39}; !maps.Equal(m.GIDs, want) {
		t.Errorf("groups move %v, want %v", m.GIDs, want)
	}
	if len(m.Notes) != 1 || m.Notes[0].String() != "/etc/subuid of the machine, line 3: the numbers of bob are somebody else's in the image, and are left out" {
		t.Errorf("notes: %v", m.Notes)
	}
	if got, want := strings.Join(m.Lines(), "; "), "add 1 users: bob; move 3 users: ann 1000 → 1001, daemon 1 → 2, slurm 64030 → 500; "+
		"add 1 groups: users; move 4 groups: ann 1000 → 1001, daemon 1 → 2, slurm 64030 → 501, video 44 → 39"; got != want {
		t.Errorf("it says %s", got)
	}
	changed := slices.Sorted(maps.Keys(m.Changed(image)))
	if want := []string{"etc/group", "etc/gshadow", "etc/passwd", "etc/shadow", "etc/subuid"}; !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
	again, err := Merge(machine, m.Files)
	if err != nil || len(again.Changed(m.Files)) != 0 || len(again.UIDs)+len(again.GIDs) != 0 {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestAccountsThatChangePlaces(t *testing.T) {
	image := Files{Passwd: text("root:x:0:0::/:", "a:x:1:1::/:", "b:x:2:2::/:", "c:x:9:2::/:"), Group: text("root:x:0:", "a:x:1:", "b:x:2:")}
	machine := Files{Passwd: text("root:x:0:0::/:", "a:x:2:2::/:", "b:x:1:1::/:"), Group: text("root:x:0:", "a:x:2:", "b:x:1:")}
	m, err := Merge(machine, image)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[uint32]uint32{1: 2, 2: 1}; !maps.Equal(m.UIDs, want) || !maps.Equal(m.GIDs, want) {
		t.Errorf("%v, %v", m.UIDs, m.GIDs)
	}
	if !strings.Contains(string(m.Files.Passwd), "\nc:x:9:1::/:\n") {
		t.Errorf("c is in another group than before:\n%s", m.Files.Passwd)
	}
}

func TestEveryConflictIsNamed(t *testing.T) {
	machine := Files{
		Passwd: text("root:x:0:0::/:", "polkitd:x:995:995::/:", "ann:x:1000:1000::/:", "toor:x:0:0::/:", "p:x:70:70::/:", "q:x:71:71::/:"),
		Group:  text("root:x:0:", "polkitd:x:995:", "ann:x:1000:"),
	}
	image := Files{
		Passwd: text("root:x:0:0::/:", "slurm:x:995:994::/:", "web:x:1000:1000::/:", "ann:x:0:0::/:", "p:x:60:60::/:", "q:x:60:60::/:", "r:x:60:60::/:", "free:x:5:5::/:"),
		Group:  text("root:x:0:", "slurm:x:995:", "free:x:5:"),
	}
	_, err := Merge(machine, image)
	if !errors.Is(err, fault.Conflict) || fault.Fix(err) == "" {
		t.Fatal(err)
	}
	for _, want := range []string{
		"user slurm has 995 in the image, which is polkitd's here", "user web has 1000 in the image, which is ann's here",
		"user ann is 0 in the image and 1000 here, and only one of them is root",
		"user q shares 60 with p in the image, but not here", "user r shares 60 with p in the image, but not here",
		"group slurm has 995 in the image, which is polkitd's here",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say: %s", err, want)
		}
	}
	if n := strings.Count(err.Error(), ";"); n != 5 {
		t.Errorf("%d things too many or few: %v", n+1, err)
	}
}

func TestNamesThatShareANumberInTheImageGoOn(t *testing.T) {
	machine := Files{Passwd: text("root:x:0:0::/:"), Group: text("root:x:0:")}
	image := Files{Passwd: text("root:x:0:0::/:", "toor:x:0:0::/:"), Group: text("root:x:0:", "wheel:x:0:")}
	m, err := Merge(machine, image)
	if err != nil || len(m.Changed(image)) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestLinesThatAreNoEntriesAreNoted(t *testing.T) {
	machine := Files{Passwd: text("root:x:0:0::/:"), Group: text("root:x:0:")}
	image := Files{
		Passwd: text("root:x:0:0::/:", "short:x:1", "neg:x:-1:0::/:", "none:x:4294967295:0::/:", ":x:1:1::/:", "a b:x:1:1::/:", "root:x:5:5::/:",
			"nul\x00:x:1:1::/:", "ok:x:7:7::/:\r", "   # indented", strings.Repeat("x", maxLine+1)),
		Group: nil,
	}
	m, err := Merge(machine, image)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "passwd", m.Files.Passwd, "root:x:0:0::/:", "ok:x:7:7::/:")
	equal(t, "group", m.Files.Group, "root:*:0:")
	var at []int
	for _, n := range m.Notes {
		at = append(at, n.Line)
	}
	if want := []int{2, 3, 4, 5, 6, 7, 8, 11}; !slices.Equal(at, want) {
		t.Errorf("noted are %v, want lines %v", m.Notes, want)
	}
	image.Passwd = text(strings.Repeat("bad\n", 1000))
	if m, err = Merge(machine, image); err != nil || len(m.Notes) != maxNotes {
		t.Errorf("%d notes, %v", len(m.Notes), err)
	}
}

func TestAccountsAreReadFromBelowARoot(t *testing.T) {
	root := fstest.MapFS{"etc/passwd": {Data: []byte("p")}, "etc/shadow": {Data: []byte("s")}, "etc/subuid": {}}
	f, err := Read(root, MachinePaths)
	if err != nil || string(f.Passwd) != "p" || f.Shadow != nil || f.SubUID == nil || f.Group != nil {
		t.Errorf("%+v, %v", f, err)
	}
	root["etc/group"] = &fstest.MapFile{Data: make([]byte, MaxFile+1)}
	if _, err := Read(root, Paths); !errors.Is(err, fault.Invalid) {
		t.Error(err)
	}
	root["etc/group"] = &fstest.MapFile{Mode: fs.ModeDir}
	if _, err := Read(root, Paths); err == nil {
		t.Error("a directory was read")
	}
}

func TestWhatCannotBeAFileOfAccountsIsRefused(t *testing.T) {
	good := Files{Passwd: text("root:x:0:0::/:"), Group: text("root:x:0:")}
	long := make([]byte, MaxFile+1)
	for name, c := range map[string]struct{ image, machine Files }{
		"a machine without users":  {good, Files{Group: good.Group}},
		"a machine without groups": {good, Files{Passwd: good.Passwd}},
		"too long":                 {Files{Passwd: long}, good},
		"a shadow too long":        {Files{Passwd: good.Passwd, Shadow: long}, good},
		"too many lines":           {Files{Group: []byte(strings.Repeat("\n", maxLines+1))}, good},
	} {
		if _, err := Merge(c.machine, c.image); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
