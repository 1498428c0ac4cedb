package cache

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that takes no more writes cannot put a damaged chunk aside. The good one that was fetched is served all the same.
func TestADamagedChunkOnAReadOnlyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a directory is mounted read-only: run it as root")
	}
	inWorld(t, 1, func(w *world) {
		ref, r := w.put(1, 120_000), w.relays["r1"]
		r.mustRead(ref, Request{})
		r.flip(ref)
		if err := unix.Mount(r.dir, r.dir, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("no mounts here: %v", err)
		}
		defer func() {
			if err := unix.Unmount(r.dir, 0); err != nil {
				t.Error(err)
			}
		}()
		if err := unix.Mount("", r.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		began := w.sentTotal()
		for range 3 {
			r.mustRead(ref, Request{})
		}
		if n := w.sentTotal() - began; n != 3 {
			t.Errorf("the controller sent the chunk %d times to three readers", n)
		}
		if r.cache.Unkept() == "" {
			t.Error("nothing is told of a disk that takes nothing")
		}
		time.Sleep(time.Second)
	})
}
