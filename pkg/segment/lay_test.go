package segment

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// treeOf is a tree of an archive with these headers; a file's content is its Linkname, which tar does not use.
func treeOf(t *testing.T, headers ...tar.Header) Source {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body, h.Linkname = h.Linkname, ""
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, body)
	}
	w.Close()
	src, err := OpenTar(bytes.NewReader(b.Bytes()), t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func TestLayingOverReplacesAndAddsAndTakesNothingAway(t *testing.T) {
	base := treeOf(t,
		tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5},
		tar.Header{Name: "etc/a", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "old a"},
		tar.Header{Name: "etc/b", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "old b"},
		tar.Header{Name: "etc/b2", Typeflag: tar.TypeLink, Linkname: "etc/b"},
		tar.Header{Name: "etc/c", Typeflag: tar.TypeLink, Linkname: "etc/b"},
		tar.Header{Name: "opt/x/deep", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "gone"},
		tar.Header{Name: "opt.d", Typeflag: tar.TypeReg, Mode: 0o644, Linkname: "stays"},
	)
	top := treeOf(t,
		tar.Header{Name: "etc/a", Typeflag: tar.TypeReg, Mode: 0o600, Linkname: "new a"},
		tar.Header{Name: "etc/c", Typeflag: tar.TypeSymlink, Linkname: "a"},
		tar.Header{Name: "etc/n1", Typeflag: tar.TypeReg, Mode: 0o600, Linkname: "linked"},
		tar.Header{Name: "etc/n2", Typeflag: tar.TypeLink, Linkname: "etc/n1"},
		tar.Header{Name: "opt", Typeflag: tar.TypeSymlink, Linkname: "srv"},
	)
	l, err := Lay(base, top)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]Entry{}
	last := ""
	for _, e := range l.Entries() {
		if last != "" && ComparePaths(last, e.Path) >= 0 {
			t.Errorf("%q comes after %q", e.Path, last)
		}
		last, at[e.Path] = e.Path, e
	}
	for path, want := range map[string]string{"etc/a": "new a", "etc/b": "old b", "etc/n2": "linked", "opt.d": "stays"} {
		f, err := l.Open(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if b, _ := io.ReadAll(f); string(b) != want {
			t.Errorf("%s holds %q", path, b)
		}
		f.Close()
	}
	if e := at["etc"]; e.Mode != 0o700 || e.UID != 5 {
		t.Errorf("a directory that was there became %o of %d", e.Mode, e.UID)
	}
	if at["etc/b"].Links != 2 || at["etc/b"].Group != at["etc/b2"].Group || at["etc/n1"].Group == at["etc/b"].Group || at["etc/n1"].Links != 2 {
		t.Errorf("hard links: %+v %+v", at["etc/b"], at["etc/n1"])
	}
	if _, ok := at["opt/x/deep"]; ok || at["opt"].Type != Symlink || at["etc/c"].Type != Symlink {
		t.Errorf("what replaced a directory or a file: %+v %+v", at["opt"], at["etc/c"])
	}
}

func TestLayingADirectoryOverALinkIsRefused(t *testing.T) {
	base := treeOf(t, tar.Header{Name: "usr/lib/x", Typeflag: tar.TypeReg, Linkname: "x"}, tar.Header{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"})
	top := treeOf(t, tar.Header{Name: "lib/y", Typeflag: tar.TypeReg, Linkname: "y"})
	if _, err := Lay(base, top); !errors.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}
