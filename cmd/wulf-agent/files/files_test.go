package files_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func archive(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := []byte(h.Uname) // carries the content, to keep the tables short
		h.Uname = ""
		h.Size, h.Uid, h.Gid = int64(len(body)), os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
	}
	w.Close()
	return &b
}

func open(t *testing.T) (*os.Root, string) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func TestApplyWritesReplacesAndLeavesWhatIsRight(t *testing.T) {
	root, dir := open(t)
	first := []tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "etc/a", Typeflag: tar.TypeReg, Mode: 0o640, Uname: "one"},
		{Name: "etc/b/c", Typeflag: tar.TypeReg, Mode: 0o4755, Uname: "two"},
		{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "etc/a"},
	}
	got, err := files.Apply(root, archive(t, first...))
	if err != nil || !slices.Equal(got, []string{"etc/a", "etc/b/c", "l"}) {
		t.Fatalf("wrote %v, %v", got, err)
	}
	before, _ := os.Stat(filepath.Join(dir, "etc/a"))
	if m := before.Mode(); m != 0o640 {
		t.Errorf("mode %v", m)
	}
	if i, _ := os.Stat(filepath.Join(dir, "etc/b/c")); i.Mode() != 0o755|os.ModeSetuid {
		t.Errorf("mode %v", i.Mode())
	}
	now, err := files.Apply(root, archive(t, first[1], tar.Header{Name: "l", Typeflag: tar.TypeReg, Mode: 0o644, Uname: "no link now"}))
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(filepath.Join(dir, "etc/a")); !os.SameFile(before, after) {
		t.Error("a file that was right has been replaced")
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "etc/a")); string(b) != "one" {
		t.Errorf("writing over a link wrote through it: %q", b)
	}
	gone, err := files.Remove(root, got, now)
	if err != nil || !slices.Equal(gone, []string{"etc/b/c"}) {
		t.Errorf("removed %v, %v", gone, err)
	}
}

func TestApplyReachesNothingOutside(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dots":          {{Name: "../x", Typeflag: tar.TypeReg, Uname: "x"}},
		"inner dots":    {{Name: "a/../../x", Typeflag: tar.TypeReg, Uname: "x"}},
		"absolute":      {{Name: "/x", Typeflag: tar.TypeReg, Uname: "x"}},
		"through links": {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "out/x", Typeflag: tar.TypeReg, Uname: "x"}},
		"device":        {{Name: "x", Typeflag: tar.TypeChar}},
	} {
		root, dir := open(t)
		inner, err := root.OpenRoot(".")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := files.Apply(inner, archive(t, headers...)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Lstat(filepath.Join(filepath.Dir(dir), "x")); err == nil {
			t.Errorf("%s: a file was written outside", name)
		}
	}
}

func TestATornArchiveIsNoticed(t *testing.T) {
	root, _ := open(t)
	b, _ := io.ReadAll(archive(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Uname: "content"}))
	if _, err := files.Apply(root, bytes.NewReader(b[:600])); err != nil && !errors.Is(err, fault.Corrupt) {
		t.Errorf("got %v", err)
	}
	if _, err := files.Apply(root, bytes.NewReader(b[:300])); !errors.Is(err, fault.Corrupt) {
		t.Errorf("got %v", err)
	}
}
