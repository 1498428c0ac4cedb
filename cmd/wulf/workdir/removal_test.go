package workdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestSweepTouchesNothingButWorkDirectories(t *testing.T) {
	base := t.TempDir()
	past := time.Now().Add(-time.Hour)
	for _, name := range []string{"photos/1.jpg", "app/lock", "app2/note.json", "copy-1/root/file", "empty/"} {
		path := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "/") {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(filepath.Dir(path), past, past); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(base, "link-1")); err != nil {
		t.Fatal(err)
	}
	before, there := tree(t, base), tree(t, elsewhere)
	if kept, err := Sweep(base); err != nil || len(kept) > 0 {
		t.Errorf("%v, %v", kept, err)
	}
	if after := tree(t, base); !slices.Equal(before, after) {
		t.Errorf("left are\n%s", strings.Join(after, "\n"))
	}
	if after := tree(t, elsewhere); !slices.Equal(there, after) {
		t.Errorf("left are\n%s", strings.Join(after, "\n"))
	}
}

func TestWhatIsMountedInADeadDirectoryLivesOn(t *testing.T) {
	rooted(t)
	base, elsewhere := filepath.Join(t.TempDir(), "work"), t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Create(base, Note{Image: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"a", "a", "with blank", "a/sub"} {
		at = filepath.Join(d.Root(), at)
		_ = os.Mkdir(at, 0o755) // there already where something is mounted twice
		if err := unix.Mount(elsewhere, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	}
	d.Close()
	if _, err := Sweep(base); err != nil {
		t.Error(err)
	}
	list, err := os.ReadDir(base)
	if err != nil || len(list) != 0 {
		t.Errorf("left are %v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "precious")); err != nil {
		t.Error(err)
	}
	if all, err := mountsBelow(base); err != nil || len(all) != 0 {
		t.Errorf("still mounted: %q, %v", all, err)
	}
}

func TestABaseThatOthersCanChangeIsRefused(t *testing.T) {
	rooted(t)
	base := t.TempDir()
	for mode, kind := range map[os.FileMode]fault.Kind{0o777: fault.Denied, 0o770: fault.Denied, 0o777 | os.ModeSticky: "", 0o755: ""} {
		if err := os.Chmod(base, mode); err != nil {
			t.Fatal(err)
		}
		d, err := Create(base, Note{Image: "test"})
		if fault.KindOf(err) != kind || err != nil && (!errors.Is(err, fault.Denied) || fault.Fix(err) == "") {
			t.Errorf("mode %o: %v", mode, err)
		}
		if d != nil {
			if err := d.Remove(); err != nil {
				t.Error(err)
			}
		}
	}
	if list, _ := os.ReadDir(base); len(list) > 0 {
		t.Errorf("left are %v", list)
	}
}

func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\nshort line\n")
	f.Add(`1 2 3 4 /a\134b\8\12`)
	f.Fuzz(func(t *testing.T, s string) {
		points, err := readMounts(strings.NewReader(s))
		if err != nil || len(points) > strings.Count(s, "\n")+1 {
			t.Fatalf("%q, %v", points, err)
		}
		for _, p := range points {
			if len(p) > len(s) {
				t.Fatalf("%q is longer than what it was read from", p)
			}
		}
	})
}
