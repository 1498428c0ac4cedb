package cache

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var discard = slog.New(slog.DiscardHandler)

// mounted is a directory on a small file system of its own, and the file that is its disk.
func mounted(t *testing.T) (dir, disk string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a file system is mounted: run it as root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip(err)
	}
	at := t.TempDir()
	dir, disk = filepath.Join(at, "mnt"), filepath.Join(at, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Truncate(32 << 20)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", disk).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", disk, dir).CombinedOutput(); err != nil {
		t.Skipf("no loop devices here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dir, disk
}
