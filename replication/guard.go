package replication

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	ballastFile    = "ballast"
	maxMinFree     = 1 << 30
	ballastPortion = 20 // the ballast takes at most this part of the file system
)

// guard keeps the log away from a full disk, where raft can neither go on nor stop in order. Below the floor it
// refuses proposals and leadership goes elsewhere; below half of it the ballast goes, for what must still be written
// (terms, votes, entries of the leader); below an eighth of it nothing is stored any more. It comes back a quarter
// above the floor, so that it does not flap. The space that the ballast takes, or took, counts as used throughout.
type guard struct {
	cfg *Config
	log *slog.Logger

	low      atomic.Bool
	critical atomic.Bool
	free     atomic.Uint64
	total    atomic.Uint64
}

// refuse returns fault.Full while proposals must not be made.
func (g *guard) refuse() error {
	if !g.low.Load() {
		return nil
	}
	return fault.New(fault.Full, "%d MiB are free where the log is kept, below the floor of %d MiB", g.free.Load()>>20, g.floor(g.total.Load())>>20).
		WithFix("free space in the file system of %s", g.cfg.Dir)
}

func (g *guard) floor(total uint64) uint64 {
	if g.cfg.MinFree > 0 {
		return g.cfg.MinFree
	}
	return min(total/10, maxMinFree)
}

// sample looks at the space and tells whether anything changed for others. It is called by one goroutine.
func (g *guard) sample() bool {
	free, total, err := g.cfg.FreeSpace()
	if err != nil {
		g.log.Warn("cannot find out how much disk space is left", "err", err)
		return false
	}
	path := filepath.Join(g.cfg.Dir, ballastFile)
	wanted := min(uint64(max(g.cfg.Ballast, 0)), total/ballastPortion)
	_, statErr := os.Stat(path)
	held := statErr == nil
	avail := free
	if !held {
		avail -= min(wanted, avail)
	}
	floor := g.floor(total)
	g.free.Store(free)
	g.total.Store(total)

	low := avail < floor || g.low.Load() && avail < floor+floor/4
	critical := free < floor/8
	changed := g.critical.Swap(critical) != critical
	if g.low.Swap(low) != low {
		changed = true
		if low {
			g.log.Error("too little disk space: nothing can be ordered here until there is more", "free", free, "floor", floor, "dir", g.cfg.Dir)
		} else {
			g.log.Info("there is enough disk space again", "free", free, "dir", g.cfg.Dir)
		}
	}
	switch {
	case held && low && free < floor/2:
		g.log.Warn("letting the ballast go", "bytes", wanted)
		err = os.Remove(path)
	case !held && !low && wanted > 0 && avail >= floor+floor/4:
		err = makeBallast(path, int64(wanted))
	}
	if err != nil {
		g.log.Warn("cannot change the ballast", "err", err)
	}
	return changed
}

// makeBallast makes a file whose blocks are really taken; a sparse one would free nothing.
func makeBallast(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	err = errors.Join(err, f.Close())
	if err != nil {
		if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// fileSystemSpace returns the bytes that an unprivileged user may still take, and all there are.
func fileSystemSpace(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}
