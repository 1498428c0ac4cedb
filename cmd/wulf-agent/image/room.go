package image

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// perEntry is what an entry of a root in memory takes besides its content, on average: half of its last page, an inode
// and a name in the kernel's caches.
const perEntry = 3 << 10

// Need is the memory that a machine must have free for an image: what it takes unpacked, and what unpacking takes.
func Need(m *chunk.Manifest) int64 {
	n := m.Unpacked + Memory
	for _, s := range m.Segments {
		n += int64(s.Files) * perEntry
	}
	return n
}

// CheckRoom fails, with what to do about it, if an image does not fit into what is left of a machine's memory, of which
// its root may take at most limit.
func CheckRoom(m *chunk.Manifest, left, total, limit int64) error {
	need, room := Need(m), min(left, limit+Memory)
	if need <= room {
		return nil
	}
	return fault.New(fault.Full, "the image does not fit: it needs %d MiB of memory, and of the machine's %d MiB %d MiB are left",
		mib(need), mib(total), mib(left)).
		WithFix("give the node %d MiB more memory, or a smaller image: /etc/wulf/excludes in the image keeps files from nodes", mib(need-room))
}

// mib rounds up, for a machine with as much as a message says must do.
func mib(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// Free is the machine's memory, and what of it nothing uses now. On a machine without a disk hardly anything can be taken
// from caches.
func Free() (free, total int64) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil { // it cannot fail
		return 0, 0
	}
	unit := int64(info.Unit)
	return int64(info.Freeram+info.Bufferram) * unit, int64(info.Totalram) * unit
}

// Meter watches how much memory the machine uses.
type Meter struct {
	peak atomic.Int64
	stop chan struct{}
	done chan struct{}
}

// NewMeter starts a Meter, which looks often until it is stopped.
func NewMeter() *Meter {
	m := &Meter{stop: make(chan struct{}), done: make(chan struct{})}
	m.look()
	go func() {
		defer close(m.done)
		often := time.NewTicker(20 * time.Millisecond)
		defer often.Stop()
		for {
			select {
			case <-often.C:
				m.look()
			case <-m.stop:
				return
			}
		}
	}()
	return m
}

func (m *Meter) look() {
	free, total := Free()
	for used := total - free; ; {
		peak := m.peak.Load()
		if used <= peak || m.peak.CompareAndSwap(peak, used) {
			return
		}
	}
}

// Stop ends the watch and returns the most memory that was in use at any time, by everything on the machine.
func (m *Meter) Stop() int64 {
	close(m.stop)
	<-m.done
	m.look()
	return m.peak.Load()
}
