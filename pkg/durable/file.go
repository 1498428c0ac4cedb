package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// errClosed answers the use of a File that was committed or aborted.
var errClosed = errors.New("file was committed or aborted already")

// File is a file being written that nobody sees until Commit. It belongs to one goroutine. Use it so:
//
//	f, err := durable.Create(path, 0o600)
//	if err != nil {
//		return err
//	}
//	defer f.Abort()
//	… write …
//	return f.Commit()
type File struct {
	fs   FS
	path string
	temp *os.File // nil once committed or aborted
	err  error    // the first failure; it sticks, so that Commit cannot publish a hole
}

// Create begins a durable write of path: bytes go to a temporary file in the same directory, which must exist,
// until Commit puts it in place with exactly the permissions perm.
func (s FS) Create(path string, perm os.FileMode) (*File, error) {
	f := &File{fs: s, path: path}
	err := s.step(OpCreate, path, func() (err error) {
		if f.temp, err = os.CreateTemp(filepath.Dir(path), tempPrefix); err != nil {
			return err
		}
		return f.temp.Chmod(perm) // before the first byte: a secret is never readable by more than perm says
	})
	if err == nil && f.temp == nil {
		err = errors.New("creation lost") // a hook may lose a sync, but there is no file without a create
	}
	if err != nil {
		f.Abort()
		return nil, explain(err, "creating %s", path)
	}
	return f, nil
}

// Write appends p. After a failure every further Write and the Commit fail with the same error.
func (f *File) Write(p []byte) (int, error) {
	switch {
	case f.err != nil:
		return 0, f.err
	case f.temp == nil:
		return 0, explain(errClosed, "writing %s", f.path)
	}
	n, err := f.fs.write(f.temp, f.path, p)
	if err != nil {
		f.err = explain(err, "writing %s", f.path)
	}
	return n, f.err
}

// Commit syncs the file and puts it in its place. When it fails the file is aborted, except that a failure of
// the very last step, the sync of the directory, leaves the new file in place without a promise that it stays.
func (f *File) Commit() error {
	switch {
	case f.err != nil:
		f.Abort()
		return f.err
	case f.temp == nil:
		return explain(errClosed, "committing %s", f.path)
	}
	defer f.Abort()
	if err := f.fs.step(OpSync, f.path, f.temp.Sync); err != nil {
		return explain(err, "syncing %s", f.path)
	}
	if err := f.fs.step(OpRename, f.path, func() error { return os.Rename(f.temp.Name(), f.path) }); err != nil {
		return explain(err, "replacing %s", f.path)
	}
	// NFS may report a failed write only here; after a sync a local file system has nothing left to fail.
	err := f.temp.Close()
	f.temp = nil
	if err != nil {
		return explain(err, "closing %s", f.path)
	}
	return f.fs.syncDir(filepath.Dir(f.path))
}

// Abort drops what was written. After a Commit, or a second time, it does nothing. A temporary file that cannot
// be removed is left to Sweep.
func (f *File) Abort() {
	if f.temp == nil {
		return
	}
	_ = f.temp.Close()
	_ = os.Remove(f.temp.Name())
	f.temp = nil
}
