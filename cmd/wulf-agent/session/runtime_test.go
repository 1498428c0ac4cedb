package session_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/session"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// A node whose system overlays are not all there does not boot; what of its runtime overlays is not, the service mends.
func TestOnlyRuntimeOverlaysMayBeIncompleteAtBoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/hosts/precious"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	list := func(kind string) *overlay.Listing {
		mine := overlay.Rendered{Type: overlay.TypeFile, Mode: 0o644, UID: os.Getuid(), GID: os.Getgid(), Content: []byte(kind)}
		hosts, motd := mine, mine
		hosts.Path, motd.Path = "etc/hosts", "etc/motd"
		return overlay.List(kind, []overlay.Rendered{hosts, motd}, []overlay.Hook{{Path: "etc/motd", Reload: "a.service"}}, overlay.MaxInline)
	}
	s := &session.State{}
	if err := s.Lay(t.Context(), files.Tree{Root: root}, list(overlay.KindSystem), `"1"`); !errors.Is(err, fault.Conflict) || s.Runtime.Tag != "" {
		t.Errorf("system overlays: %v, %+v", err, s.Runtime)
	}
	if err := s.Lay(t.Context(), files.Tree{Root: root}, list(overlay.KindRuntime), `"2"`); err != nil {
		t.Fatal(err)
	}
	if r := s.Runtime; r.Tag != `"2"` || !r.Failed || len(r.Files) != 1 || len(r.Hooks) != 1 {
		t.Errorf("what the service is told: %+v", r)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "etc/motd")); err != nil || string(b) != "runtime" {
		t.Errorf("the last overlay did not win: %q, %v", b, err)
	}
}

func TestTheLockIsForOneAndFreeAgain(t *testing.T) {
	root := t.TempDir()
	if err := session.Save(root, new(session.State)); err != nil {
		t.Fatal(err)
	}
	first, err := session.Lock(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Lock(root); !errors.Is(err, fault.Conflict) {
		t.Errorf("a second one: %v", err)
	}
	first.Close()
	again, err := session.Lock(root)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
