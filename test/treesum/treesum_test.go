package treesum

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// plant makes a small tree.
func plant(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	at := func(path string) string { return filepath.Join(root, path) }
	for _, err := range []error{
		os.Mkdir(at("dir"), 0o755),
		os.WriteFile(at("dir/file"), []byte("content"), 0o644),
		os.Link(at("dir/file"), at("again")),
		os.Symlink("dir/file", at("link")),
		unix.Mkfifo(at("pipe"), 0o600),
		os.WriteFile(at("not \xff UTF-8"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func entriesOf(t *testing.T, root string) []Entry {
	t.Helper()
	entries, err := Sum(root)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestEqualTreesDoNotDiffer(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, entriesOf(t, plant(t))); err != nil {
		t.Fatal(err)
	}
	entries, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 7 {
		t.Errorf("%d entries, want 7", len(entries))
	}
	if differ := Diff(entries, entriesOf(t, plant(t))); len(differ) > 0 {
		t.Errorf("they differ: %v", differ)
	}
}

func TestEveryChangeIsADifference(t *testing.T) {
	for name, c := range map[string]struct {
		change func(root string) error
		paths  string // that differ
	}{
		"content":   {func(r string) error { return os.WriteFile(r+"/dir/file", []byte("CONTENT"), 0o644) }, "again dir/file"},
		"mode":      {func(r string) error { return unix.Chmod(r+"/dir", 0o1755) }, "dir"},
		"link":      {func(r string) error { return replaced(r+"/link", "dir/file/") }, "link"},
		"type":      {func(r string) error { return replaced(r+"/pipe", "x") }, "pipe"},
		"missing":   {func(r string) error { return os.Remove(r + "/not \xff UTF-8") }, "not \xff UTF-8"},
		"added":     {func(r string) error { return os.Mkdir(r+"/dir/new", 0o755) }, "dir/new"},
		"group":     {func(r string) error { return os.Link(r+"/again", r+"/more") }, "again dir/file more"},
		"copy":      {func(r string) error { return copied(r + "/again") }, "again dir/file"},
		"attribute": {func(r string) error { return unix.Setxattr(r+"/again", "user.note", []byte("x"), 0) }, "again dir/file"},
	} {
		t.Run(name, func(t *testing.T) {
			root := plant(t)
			before := entriesOf(t, root)
			if err := c.change(root); err != nil {
				if err == unix.ENOTSUP {
					t.Skip("this file system has no attributes")
				}
				t.Fatal(err)
			}
			got := strings.Join(slices.Sorted(maps.Keys(Diff(before, entriesOf(t, root)))), " ")
			if got != c.paths {
				t.Errorf("%q differ, want %q", got, c.paths)
			}
		})
	}
}

// replaced puts a symbolic link in the place of something.
func replaced(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// copied gives a name a file of its own with the same content.
func copied(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
