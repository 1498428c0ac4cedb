package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Directory is a Source that reads a directory of this machine. Close it when the tree is no longer needed.
type Directory struct {
	table
	root   *os.File
	stamps map[string]Stamp
	begun  time.Time // of the scan
}

// scanners is how many directories are read at once at least: a disk that is waited for takes no processor.
const scanners = 4

// OpenDir scans the directory at path. Symbolic links inside it are never followed, so nothing outside is read.
// It reads no file content.
func OpenDir(path string, l Limits) (*Directory, error) {
	root, err := os.OpenFile(path, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening the image directory")
	}
	begun := time.Now()
	s := newScanner(int(root.Fd()), l)
	if err := s.run(max(scanners, runtime.GOMAXPROCS(0))); err != nil {
		root.Close()
		return nil, fmt.Errorf("scanning %s: %w", path, err)
	}
	nodes, err := s.tree.finish()
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("scanning %s: %w", path, err)
	}
	return &Directory{table: newTable(nodes), root: root, stamps: s.stamps, begun: begun}, nil
}

// fresh is how young a file may not be for its stamp to tell all of its states apart: two writes within one tick of the
// file system's clock leave the same time, which is seconds on some.
const fresh = 2 * time.Second

// Stamp tells in which state a regular file was when the directory was scanned. A file that had been written to just before
// has no stamp that can be relied upon.
func (d *Directory) Stamp(path string) (Stamp, bool) {
	s, ok := d.stamps[path]
	newest := time.Unix(0, max(s.MTime, s.CTime))
	return s, ok && newest.Before(d.begun.Add(-fresh))
}

// Open reads a regular file: see Source.
func (d *Directory) Open(path string) (io.ReadCloser, error) {
	n, err := d.file(path)
	if err != nil {
		return nil, err
	}
	fd, err := openBeneath(int(d.root.Fd()), path, 0)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening %q", path)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != n.Size {
		unix.Close(fd)
		return nil, fault.New(fault.Conflict, "file %q changed while the image was being read", path).
			WithFix("stop what writes to the directory and try again")
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Close releases the directory.
func (d *Directory) Close() error { return d.root.Close() }

// openBeneath opens a path below the directory root without following any symbolic link, and without waiting on a pipe
// that may have taken its place since it was looked at. It is one system call where os.Root takes one for each component;
// kernels before 5.6 and some sandboxes do not have it.
func openBeneath(root int, path string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(root, path, &how) })
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fd, err
	}
	d := &dirs{root: root}
	defer d.close()
	at, name := root, path
	if path != "." {
		if at, name, err = d.parent(path); err != nil {
			return 0, err
		}
	}
	return retry(func() (int, error) { return unix.Openat(at, name, flags, 0) })
}

// kindOf gives an error of the file system its kind; one that is a fault already keeps it.
func kindOf(err error) fault.Kind {
	switch {
	case fault.KindOf(err) != fault.Internal:
		return fault.KindOf(err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.NotFound
	case errors.Is(err, fs.ErrPermission):
		return fault.Denied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.Full
	}
	return fault.Internal
}
