//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// TestMain says loudly, and once, that the tests cannot run here: a skipped test alone is easily overlooked.
func TestMain(m *testing.M) {
	if missing := rig.Missing(); missing != nil {
		fmt.Printf("\n!!! e2e SKIPPED: this computer lacks %s\n!!! run scripts/install-deps e2e as root\n\n", strings.Join(missing, ", "))
		os.Exit(0)
	}
	if dir := os.Getenv(doomed); dir != "" {
		liveDoomed(dir)
	}
	os.Exit(m.Run())
}

// newRig returns a rig that is closed when the test ends. Its consoles and logs stay, for a failed test, under .cache/e2e.
func newRig(t *testing.T) *rig.Rig {
	t.Helper()
	root, err := rig.Repository()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".cache", "e2e", t.Name())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r, err := rig.New(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("consoles and logs: %s", dir)
		}
	})
	return r
}

// newRoom returns the standard machine room, closed when the test ends.
func newRoom(t *testing.T) *rig.Room {
	t.Helper()
	room, err := rig.NewRoom(newRig(t))
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// script runs one of scripts/ and returns the path that it prints.
func script(t *testing.T, ctx context.Context, name string, args ...string) string {
	t.Helper()
	path, err := rig.Script(ctx, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
