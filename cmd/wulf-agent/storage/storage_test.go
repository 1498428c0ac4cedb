package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const diskSize = 64 << 20

// mkfs runs this machine's own programs.
type mkfs struct{ ran []string }

func (m *mkfs) Run(ctx context.Context, f disks.Format, argv []string) error {
	m.ran = append(m.ran, f.Name)
	path, err := exec.LookPath("/usr/sbin/" + f.Program)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "no %s", f.Program)
	}
	out, err := exec.CommandContext(ctx, path, argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// lab is a machine with disks that are files.
type lab struct {
	*Host
	mkfs mkfs
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	devices := map[string]map[string]string{}
	for _, n := range names {
		devices["a/"+n] = map[string]string{"uevent": "DEVNAME=" + n + "\n"}
	}
	l := &lab{Host: machine(t, devices)}
	for _, n := range names {
		f, err := os.Create(filepath.Join(l.dev, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(diskSize); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return l
}

// prepare does the work of a boot.
func (l *lab) prepare(t *testing.T, d api.Storage) (*Storage, error) {
	t.Helper()
	s := New(Config{Declared: d, Programs: &l.mkfs, Probe: func() {}, Load: func(...string) {}, Mark: Mark("cluster", "n1"), Log: slog.New(slog.DiscardHandler)})
	s.Host = l.Host
	return s, s.Prepare(t.Context())
}

func (l *lab) holds(t *testing.T, name string) disks.Content {
	t.Helper()
	c, err := l.probe(device{path: filepath.Join(l.dev, name)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func needMkfs(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4 here")
	}
}

// The first boot makes what is declared; the second one touches nothing of it; one that says wipe makes it anew.
func TestDisksAreMadeOnceAndKept(t *testing.T) {
	needMkfs(t)
	l := newLab(t, "sda", "sdb", "sdc")
	d := api.Storage{
		Disks: map[string]catalog.Disk{"/dev/sda": {Partitions: map[string]catalog.Partition{"scratch": {}}}},
		Filesystems: map[string]catalog.Filesystem{
			"/dev/sdb": {Format: new("ext4"), Label: new("data"), Path: new("/data")},
			"/dev/sdc": {Path: new("swap"), Mount: new("noauto")},
		},
	}
	s, err := l.prepare(t, d)
	if err != nil {
		t.Fatal(err)
	}
	want := "/dev/sda: a partition table is made; /dev/sda: partition 1 scratch of 62 MiB is made; /dev/sdc: swap is made; /dev/sdb: ext4 is made"
	if got := strings.Join(s.Steps(), "; "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	first := l.holds(t, "sdb")
	if first.Format != "ext4" || first.Label != "data" || l.holds(t, "sdc").Format != "swap" {
		t.Errorf("sdb holds %s, sdc %s", first, l.holds(t, "sdc"))
	}
	if s, err = l.prepare(t, d); err != nil || len(s.Steps()) > 0 || len(l.mkfs.ran) != 1 || l.holds(t, "sdb") != first {
		t.Errorf("the second boot did %v, ran %v, %v", s.Steps(), l.mkfs.ran, err)
	}
	fs := d.Filesystems["/dev/sdb"]
	fs.Wipe = new(true)
	d.Filesystems["/dev/sdb"] = fs
	if s, err = l.prepare(t, d); err != nil || len(s.Steps()) != 1 || l.holds(t, "sdb") == first {
		t.Errorf("wiped, it did %v, %v", s.Steps(), err)
	}
}

// What is there and may not go stops the boot, or only itself if the node may do without; a byte of it never changes.
func TestWhatMayNotGoStays(t *testing.T) {
	l := newLab(t, "sda", "sdb")
	for _, n := range []string{"sda", "sdb"} {
		if err := os.WriteFile(filepath.Join(l.dev, n), append(make([]byte, 100<<10), make([]byte, diskSize-100<<10)...), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(l.dev, n), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("somebody's"), 100<<10); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	before, _ := os.ReadFile(filepath.Join(l.dev, "sda"))
	d := func(options string) api.Storage {
		return api.Storage{
			Disks:       map[string]catalog.Disk{"/dev/sdb": {Partitions: map[string]catalog.Partition{"x": {}}}},
			Filesystems: map[string]catalog.Filesystem{"/dev/sda": {Format: new("ext4"), Path: new("/a"), Mount: &options}, "/dev/disk/by-partlabel/x": {Format: new("ext4"), Path: new("/x"), Mount: &options}},
		}
	}
	if _, err := l.prepare(t, d("")); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "disk /dev/sdb: it holds data of unknown kind") || !strings.Contains(fault.Fix(err), "wipe_table") {
		t.Errorf("got %v, fix %s", err, fault.Fix(err))
	}
	s, err := l.prepare(t, d("nofail"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Without(), "\n"); len(s.Without()) != 3 || !strings.Contains(got, "file system /dev/sda: it holds data of unknown kind") || !strings.Contains(got, "by-partlabel/x: there is no such device") {
		t.Errorf("it goes on without %s", got)
	}
	after, _ := os.ReadFile(filepath.Join(l.dev, "sda"))
	if string(before) != string(after) || len(s.Steps()) > 0 || len(s.toMount(false)) > 0 {
		t.Error("the data did not survive")
	}
}

// A disk that is not as declared is left alone altogether: what is wiped at each boot is not wiped there.
func TestNothingIsMadeOnADiskThatIsWrong(t *testing.T) {
	l := newLab(t, "sda", "sda1")
	for _, n := range []string{"sda", "sda1"} {
		if err := os.WriteFile(filepath.Join(l.dev, n), append([]byte("somebody's"), make([]byte, diskSize)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := l.prepare(t, api.Storage{
		Disks:       map[string]catalog.Disk{"/dev/sda": {Partitions: map[string]catalog.Partition{"x": {}}}},
		Filesystems: map[string]catalog.Filesystem{"/dev/sda1": {Format: new("ext4"), Path: new("/x"), Wipe: new(true), Mount: new("nofail")}},
	})
	if err != nil || len(s.Steps()) > 0 || len(l.mkfs.ran) > 0 || len(s.Without()) != 2 || !strings.Contains(s.Without()[1], "not made, for its disk is not as declared") {
		t.Errorf("did %v, without %v, %v", s.Steps(), s.Without(), err)
	}
}

// A disk that is not there is waited for, and then told with those that are.
func TestMissingDiskIsWaitedForAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "sda")
		_, err := l.prepare(t, api.Storage{Filesystems: map[string]catalog.Filesystem{"/dev/nvme0n1": {Format: new("ext4"), Path: new("/a")}}})
		if !errors.Is(err, fault.NotFound) || err.Error() != "file system /dev/nvme0n1: there is no such device (there are: sda)" {
			t.Errorf("got %v", err)
		}
	})
}

// A root is made at each boot, over an earlier root and over nothing else.
func TestRootIsMadeAtEachBoot(t *testing.T) {
	needMkfs(t)
	l := newLab(t, "sda")
	d := api.Storage{Root: "/dev/sda"}
	for range 2 {
		s, err := l.prepare(t, d)
		if err != nil || len(s.Steps()) != 1 || !s.HasRoot() {
			t.Fatalf("did %v, %v", s.Steps(), err)
		}
	}
	if c := l.holds(t, "sda"); c.UUID != Mark("cluster", "n1") || c.UUID == Mark("cluster", "n2") {
		t.Errorf("it holds %+v", c)
	}
	d.Filesystems = map[string]catalog.Filesystem{"/dev/sda": {Format: new("ext4"), Path: new("/"), UUID: new("0b9eb464-1f05-4dd8-9b3b-5b2a3a6e1d11"), Wipe: new(true)}}
	if _, err := l.prepare(t, d); err != nil {
		t.Fatal(err)
	}
	fs := d.Filesystems["/dev/sda"]
	fs.Wipe = nil
	d.Filesystems["/dev/sda"] = fs
	if _, err := l.prepare(t, d); !errors.Is(err, fault.Conflict) || !strings.Contains(fault.Fix(err), "wipe_filesystem") {
		t.Errorf("a file system that another made was taken for a root: %v", err)
	}
}

// A node that boots without a disk is one whose every file system there says so.
func TestDiskIsOptionalIfAllOnItIs(t *testing.T) {
	for name, tc := range map[string]struct {
		systems map[string]string // mount options by device
		want    bool
	}{
		"no file system":    {nil, false},
		"all may fail":      {map[string]string{"/dev/sda1": "nofail", "/dev/disk/by-partlabel/a": "ro,nofail"}, true},
		"one may not":       {map[string]string{"/dev/sda1": "nofail", "/dev/disk/by-partlabel/a": "ro"}, false},
		"one of another":    {map[string]string{"/dev/sda1": "nofail", "/dev/sdaa1": "", "/dev/disk/by-partlabel/b": ""}, true},
		"the disk as whole": {map[string]string{"/dev/sda": "nofail"}, true},
	} {
		d := api.Storage{Disks: map[string]catalog.Disk{"/dev/sda": {Partitions: map[string]catalog.Partition{"a": {}}}}, Filesystems: map[string]catalog.Filesystem{}}
		for dev, options := range tc.systems {
			d.Filesystems[dev] = catalog.Filesystem{Path: new("/" + dev), Mount: &options}
		}
		s := New(Config{Declared: d})
		if err := s.read(); err != nil {
			t.Fatal(err)
		}
		if got := s.optional("/dev/sda"); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	s := New(Config{})
	for _, name := range []string{"/dev/nvme0n1p3", "/dev/nvme0n1"} {
		if !s.on(name, "/dev/nvme0n1") || s.on(name, "/dev/nvme0n2") {
			t.Errorf("%s is not on its disk", name)
		}
	}
}

// What is read only is mounted at the end, and so is what lies below it.
func TestReadOnlyIsMountedLast(t *testing.T) {
	d := api.Storage{Root: "/dev/sda1", Filesystems: map[string]catalog.Filesystem{
		"/dev/sda2": {Path: new("/b"), Mount: new("ro")}, "/dev/sda3": {Path: new("/b/c")}, "/dev/sda4": {Path: new("/a")}, "/dev/sda5": {Path: new("/c"), Mount: new("noauto")},
	}}
	s := New(Config{Declared: d})
	if err := s.read(); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.systems {
		f.ready = true
	}
	names := func(late bool) (all []string) {
		for _, f := range s.toMount(late) {
			all = append(all, f.mount.Path)
		}
		return all
	}
	if a, b := fmt.Sprint(names(false)), fmt.Sprint(names(true)); a != "[/a]" || b != "[/b /b/c]" || s.systems[0].name != "/dev/sda1" {
		t.Errorf("first %s, then %s", a, b)
	}
}
