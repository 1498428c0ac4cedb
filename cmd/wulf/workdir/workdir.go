// Package workdir is where people work inside an image: a private directory that a version is unpacked into, and commands
// that run in it, in namespaces of their own. It needs root. Nothing of it is seen by anybody else, and what a killed
// process leaves behind is found and removed by the next.
package workdir

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Dir is a private directory for work on one version. It belongs to the process that made it as long as that lives.
type Dir struct {
	Note Note

	path string
	lock *os.File
}

// Note says what a work directory is for.
type Note struct {
	Image   string    `json:"image"`
	Version string    `json:"version"` // that was unpacked
	Since   time.Time `json:"since"`
	Kept    string    `json:"kept,omitempty"` // why it stays after its process; "": it does not
}

// The names in a work directory. Sweep may be told to look into a directory of somebody who keeps
// other things there: nothing but the lock's name makes one ours.
const (
	lockFile = ".wulf-work-lock"
	noteFile = "note.json"
	rootDir  = "root"
)

// Create makes a work directory below base, which is made if need be.
func Create(base string, note Note) (*Dir, error) {
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Denied, "work inside an image needs root on this machine").WithFix("use sudo")
	}
	if err := durable.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	if err := trusted(base); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(base, note.Image+"-")
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "making a work directory")
	}
	d := &Dir{Note: note, path: path}
	if d.lock, err = locked(path, os.O_CREATE|os.O_RDWR); err == nil {
		err = d.write()
	}
	if err == nil {
		err = os.Mkdir(d.Root(), 0o755)
	}
	if err != nil {
		_ = d.Remove()
		return nil, fault.Wrap(kindOf(err), err, "making a work directory")
	}
	return d, nil
}

// trusted refuses a base in which somebody else could put one directory in the place of another.
func trusted(base string) error {
	var st unix.Stat_t
	if err := unix.Stat(base, &st); err != nil {
		return fault.Wrap(kindOf(err), err, "looking at %s", base)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fault.New(fault.Denied, "%s is of user %d with mode %#o: others could change what is worked on there", base, st.Uid, st.Mode&0o7777).
			WithFix("choose another directory, or: chown root %s && chmod 700 %s", base, base)
	}
	return nil
}

// locked opens and locks the lock of a work directory; fault.Conflict if a process that lives holds it.
func locked(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.New(fault.Conflict, "somebody works in %s", path)
	}
	return f, nil
}

// Root is where the version is unpacked.
func (d *Dir) Root() string { return filepath.Join(d.path, rootDir) }

// Keep lets the directory stay when its process ends, because what was done in it is nowhere else yet.
func (d *Dir) Keep(why string) error {
	d.Note.Kept = why
	return d.write()
}

// Close lets go of a directory that is kept.
func (d *Dir) Close() error { return d.lock.Close() }

// Remove deletes the directory with all that is in it.
func (d *Dir) Remove() error {
	err := remove(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
	return err
}

func (d *Dir) write() error {
	b, err := json.Marshal(d.Note)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(d.path, noteFile), b, 0o600)
}

// Kept is a work directory that waits for somebody.
type Kept struct {
	Note
	Root string
}

// Sweep removes the work directories below base whose process is gone, and returns those that are to be kept. What else is
// in base, it does not touch.
func Sweep(base string) ([]Kept, error) {
	list, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "looking for old work directories")
	}
	var kept []Kept
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(base, e.Name())
		lock, err := locked(path, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) && named.MatchString(e.Name()) && old(e) {
			_ = os.Remove(path) // its process was killed before it made the lock; if it is not empty, it is none of ours
		}
		if lock == nil {
			if err != nil && !errors.Is(err, fault.Conflict) && !errors.Is(err, fs.ErrNotExist) {
				return kept, fault.Wrap(kindOf(err), err, "looking at %s", path)
			}
			continue
		}
		var note Note
		b, err := os.ReadFile(filepath.Join(path, noteFile))
		if err == nil && json.Unmarshal(b, &note) == nil && note.Kept != "" {
			kept = append(kept, Kept{note, filepath.Join(path, rootDir)})
		} else if err := remove(path); err != nil {
			lock.Close()
			return kept, fault.Wrap(kindOf(err), err, "removing %s", path)
		}
		lock.Close()
	}
	return kept, nil
}

// named matches what Create calls a directory.
var named = regexp.MustCompile(`^.+-[0-9]+$`)

// old tells whether a directory is not just being made.
func old(e fs.DirEntry) bool {
	fi, err := e.Info()
	return err == nil && time.Since(fi.ModTime()) > time.Minute
}

func kindOf(err error) fault.Kind {
	switch {
	case fault.KindOf(err) != fault.Internal:
		return fault.KindOf(err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.Full
	case errors.Is(err, fs.ErrPermission):
		return fault.Denied
	}
	return fault.Internal
}
