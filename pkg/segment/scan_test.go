package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// wide is a directory with more files than are held at once, and many directories.
func wide(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 3 * scanBatch {
		sub := fmt.Sprintf("d%d/e%d", i%7, i%3)
		if i%2 == 0 {
			sub = "flat"
		}
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, sub, fmt.Sprint(i)), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAScanFindsWhatAWalkFinds(t *testing.T) {
	dir := wide(t)
	var want []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		if path != "." {
			want = append(want, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(want, ComparePaths)
	var got []string
	for _, e := range scan(t, dir).Entries() {
		got = append(got, e.Path)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d paths were found, want %d", len(got), len(want))
	}
}

func TestAScanEndsAtTheFirstError(t *testing.T) {
	if _, err := OpenDir(wide(t), Limits{Entries: 100}); !errors.Is(err, fault.Invalid) {
		t.Errorf("too many entries: got %v", err)
	}
	if root() {
		return // nothing is denied to it
	}
	dir := wide(t)
	if err := os.Chmod(filepath.Join(dir, "d3"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "d3"), 0o755) })
	if _, err := OpenDir(dir, Limits{}); !errors.Is(err, fault.Denied) {
		t.Errorf("a directory that may not be read: got %v", err)
	}
}

func TestAttributesAreFoundWithProcAndWithout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "noted"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("noted", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(dir, "noted"), "user.note", []byte("by hand\x00"), 0); err != nil {
		t.Skipf("the temporary directory holds no attributes: %v", err)
	}
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	for _, proc := range []string{"/proc/self/fd", ""} {
		s := newScanner(int(at.Fd()), Limits{})
		s.proc = proc
		if err := s.run(2); err != nil {
			t.Fatal(err)
		}
		if got := s.tree.nodes["noted"].Xattrs["user.note"]; got != "by hand\x00" || s.tree.nodes["link"].Xattrs != nil {
			t.Errorf("with proc at %q: got %q", proc, got)
		}
	}
}

// What was a file or a directory at the time of the scan may be a link now.
func TestALinkThatTookAPlaceIsNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for _, path := range []string{filepath.Join(dir, "sub/file"), filepath.Join(dir, "file"), filepath.Join(outside, "file")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := scan(t, dir)
	for path, target := range map[string]string{"sub": outside, "file": filepath.Join(outside, "file")} {
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"sub/file", "file"} {
		if f, err := d.Open(path); err == nil {
			f.Close()
			t.Errorf("%s was read through a link", path)
		}
	}
}
