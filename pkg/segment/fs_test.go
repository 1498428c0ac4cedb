package segment

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func image(t *testing.T) fs.FS {
	return FS(openTar(t, makeTar(t,
		symlink("lib", "usr/lib"), symlink("bin", "/usr/bin"), dir("usr/bin", 0o755),
		regular("usr/lib/modules/6.1/modules.dep", "dep"), regular("usr/bin/sh", "sh"),
		symlink("etc/up", "../../../../usr/lib/modules/6.1"), symlink("etc/out", "../../../../../etc/shadow"),
		symlink("etc/one", "two"), symlink("etc/two", "one"), symlink("etc/none", "nowhere"), symlink("etc/dot", "."),
		item{Header: system()[len(system())-5].Header})))
}

func TestLinksLeadWhereTheImageSees(t *testing.T) {
	fsys := image(t)
	for path, want := range map[string]string{
		"lib/modules/6.1/modules.dep": "dep", "bin/sh": "sh", "etc/up/modules.dep": "dep", "usr/bin/sh": "sh", "etc/dot/dot/dot/up/modules.dep": "dep",
	} {
		if got, err := fs.ReadFile(fsys, path); string(got) != want {
			t.Errorf("%s: got %q (%v), want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"etc/out", "etc/none", "usr/bin/sh/x", "etc/out/x", "nothing"} {
		if _, err := fs.Stat(fsys, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want fs.ErrNotExist", path, err)
		}
	}
	if _, err := fs.Stat(fsys, "etc/one"); !errors.Is(err, errTooManyLinks) {
		t.Errorf("a loop: got %v", err)
	}
	if _, err := fs.Stat(fsys, "../etc"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a path out of it: got %v", err)
	}
	if to, err := fs.ReadLink(fsys, "lib"); err != nil || to != "usr/lib" {
		t.Errorf("ReadLink: %q, %v", to, err)
	}
	if fi, err := fs.Lstat(fsys, "lib"); err != nil || fi.Mode().Type() != fs.ModeSymlink {
		t.Errorf("Lstat: %v, %v", fi, err)
	}
	if list, err := fs.ReadDir(fsys, "lib/modules"); err != nil || len(list) != 1 || list[0].Name() != "6.1" || !list[0].IsDir() {
		t.Errorf("ReadDir: %v, %v", list, err)
	}
	if fi, err := fs.Stat(fsys, "bin/sh"); err != nil || fi.Name() != "sh" || fi.Sys().(*Entry).Path != "usr/bin/sh" {
		t.Errorf("Stat: %v, %v", fi, err)
	}
	if _, err := fsys.Open("dev/null"); !errors.Is(err, fault.Invalid) {
		t.Errorf("a device: got %v", err)
	}
}

func TestFSKeepsTheContractOfPackageFS(t *testing.T) {
	src := openTar(t, makeTar(t, symlink("lib", "usr/lib"), regular("usr/lib/a", "a"), regular("usr/lib/b", ""), dir("usr/empty", 0o755), regular("usr.x", "x")))
	if err := fstest.TestFS(FS(src), "lib", "usr/lib/a", "usr/empty", "usr.x"); err != nil {
		t.Error(err)
	}
}
