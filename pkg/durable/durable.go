// Package durable writes files that survive a crash and a power cut: whole and on disk, or not there at all.
//
// Every file is written beside its destination, synced, renamed over it, and the directory is synced, because a
// rename is only as durable as the directory that holds it (fsync(2), NOTES). Readers see the old bytes or the
// new ones, never a mixture. A full disk is fault.Full; every other errno stays in the error's chain.
//
// The functions of the package use the real file system. Code that must prove what it does on a failing disk
// takes an FS instead, whose zero value is the same real file system and whose Hook lets a test make one step
// fail. Durable writing never retries: after a failed fsync Linux drops the dirty pages and a second fsync
// reports success, so the only honest answer is the error.
package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// tempPrefix begins the name of every unfinished file, so that Sweep can tell them from all others.
const tempPrefix = ".wulf-tmp-"

// Op is one step that a Hook can make fail.
type Op string

// The steps of a durable write, in their order, then those of the other calls.
const (
	OpCreate  Op = "create"  // the temporary file is made
	OpWrite   Op = "write"   // bytes go into it
	OpSync    Op = "sync"    // it is synced
	OpRename  Op = "rename"  // it takes the destination's name
	OpSyncDir Op = "syncdir" // a directory is synced; the path is the directory's
	OpMkdir   Op = "mkdir"   // a directory is made
	OpFree    Op = "free"    // free space is asked
)

// ErrLost, returned by a Hook, leaves the step out and reports success, as a disk does that acknowledges what it
// keeps in a volatile cache.
var ErrLost = errors.New("step lost")

// FS is a file system. The zero value is the machine's own. It is a value: copy it freely; its methods may be
// called by any number of goroutines if Hook may.
type FS struct {
	// Hook, when set, is asked before every step and decides its outcome: nil lets it happen, ErrLost leaves it out
	// unnoticed, any other error is the step's failure. An OpWrite that fails with an error that is
	// io.ErrShortWrite first writes half of its bytes. The path is the destination's, not the temporary file's.
	Hook func(op Op, path string) error
}

// WriteFile replaces path by a file with the data and permissions, durably, on the real file system.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return FS{}.WriteFile(path, data, perm)
}

// Create begins a durable write of path on the real file system; see FS.Create.
func Create(path string, perm os.FileMode) (*File, error) { return FS{}.Create(path, perm) }

// MkdirAll makes path and its missing parents, durably, on the real file system.
func MkdirAll(path string, perm os.FileMode) error { return FS{}.MkdirAll(path, perm) }

// Free tells how much room is left where dir lies on the real file system; see FS.Free.
func Free(dir string) (bytes int64, percent float64, err error) { return FS{}.Free(dir) }

// Sweep removes the unfinished files that a crash left directly in dir and returns how many there were. Call it
// at start, while nothing writes there. A directory that does not exist has none.
func Sweep(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sweeping %s: %w", dir, err)
	}
	n := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return n, fmt.Errorf("sweeping %s: %w", dir, err)
		}
		n++
	}
	return n, nil
}

// WriteFile replaces path by a file with the data and exactly the permissions perm (the umask does not count).
// When it fails, path still has its old content, or, if only the last sync of the directory failed, the new
// content that a power cut may undo. The directory must exist.
func (s FS) WriteFile(path string, data []byte, perm os.FileMode) error {
	f, err := s.Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// MkdirAll makes path and its missing parents with perm (less the umask) and syncs the parent of each directory
// it made. A directory that is there already is left alone.
func (s FS) MkdirAll(path string, perm os.FileMode) error {
	path = filepath.Clean(path)
	switch fi, err := os.Stat(path); {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("making directory %s: %w", path, syscall.ENOTDIR)
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := s.MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	err := s.step(OpMkdir, path, func() error { return os.Mkdir(path, perm) })
	if err != nil && !errors.Is(err, os.ErrExist) { // somebody else may have made it meanwhile
		return explain(err, "making directory %s", path)
	}
	return s.syncDir(parent)
}

// Free tells how many bytes an unprivileged program may still write in the file system that holds dir, and how
// many percent of it that is.
func (s FS) Free(dir string) (bytes int64, percent float64, err error) {
	var st syscall.Statfs_t
	if err := s.step(OpFree, dir, func() error { return syscall.Statfs(dir, &st) }); err != nil {
		return 0, 0, explain(err, "asking for the free space of %s", dir)
	}
	if st.Blocks == 0 { // pseudo file systems report no size; nothing fits there
		return 0, 0, nil
	}
	return int64(st.Bavail) * int64(st.Bsize), 100 * float64(st.Bavail) / float64(st.Blocks), nil
}

// SyncDir makes the names in dir durable: also those of files that somebody renamed who died before he could sync it.
func (s FS) SyncDir(dir string) error { return s.syncDir(dir) }

// syncDir makes the names in dir durable.
func (s FS) syncDir(dir string) error {
	err := s.step(OpSyncDir, dir, func() error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		err = d.Sync()
		// Some network and FUSE file systems cannot sync a directory and say so; there is nothing more to do there.
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
			return nil
		}
		return err
	})
	return explain(err, "syncing directory %s", dir)
}

// step does one operation unless the hook decides otherwise.
func (s FS) step(op Op, path string, do func() error) error {
	if s.Hook != nil {
		if err := s.Hook(op, path); err == ErrLost { //nolint:errorlint // a sentinel that is never wrapped
			return nil
		} else if err != nil {
			return err
		}
	}
	return do()
}

// write is step for bytes: it can also be cut short.
func (s FS) write(f *os.File, path string, p []byte) (int, error) {
	if s.Hook != nil {
		switch err := s.Hook(OpWrite, path); {
		case err == ErrLost: //nolint:errorlint // a sentinel that is never wrapped
			return len(p), nil
		case errors.Is(err, io.ErrShortWrite):
			n, _ := f.Write(p[:len(p)/2])
			return n, err
		case err != nil:
			return 0, err
		}
	}
	return f.Write(p)
}

// explain says what was being done, and makes a full disk or an exhausted quota a fault.Full. nil stays nil.
func explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Wrap(fault.Full, err, format, args...).WithFix("free some space there, or put the data directory on a larger disk")
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
