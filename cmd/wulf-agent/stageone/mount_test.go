package stageone

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A node without an init must say so while it still can. What a link out of the root leads to is only known there.
func TestTheInitIsLookedForBeforeTheNodeCanTellNoMore(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"usr/sbin", "lib/systemd"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"usr/sbin/good": 0o755, "usr/sbin/plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for at, to := range map[string]string{"sbin": "usr/sbin", "usr/sbin/init": "/lib/systemd/systemd", "away": "/usr/sbin"} {
		if err := os.Symlink(to, filepath.Join(dir, at)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for init, want := range map[string]error{
		"/sbin/good": nil, "/sbin/init": nil, "/away/good": nil, "sbin/good": nil,
		"/sbin/none": fault.NotFound, "/nowhere/init": fault.NotFound, "/sbin/plain": fault.Invalid,
	} {
		if err := findInit(root, init); !errors.Is(err, want) {
			t.Errorf("%s gave %v, want %v", init, err, want)
		}
	}
}
