package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Directory is a Source that reads a directory of this machine. Close it when the tree is no longer needed.
type Directory struct {
	table
	root   *os.Root
	stamps map[string]Stamp
	begun  time.Time // of the scan
}

// OpenDir scans the directory at path. Symbolic links inside it are never followed, so nothing outside is read.
// It reads no file content; extended attributes need each file to be opened once.
func OpenDir(path string, l Limits) (*Directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening the image directory")
	}
	begun := time.Now()
	s := scanner{root: root, tree: newTree(l), bodies: make(map[inode]*body), stamps: make(map[string]Stamp)}
	if err := fs.WalkDir(root.FS(), ".", s.visit); err != nil {
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
	f, err := openPlain(d.root, path)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() != n.Size {
		f.Close()
		return nil, fault.New(fault.Conflict, "file %q changed while the image was being read", path).
			WithFix("stop what writes to the directory and try again")
	}
	return f, nil
}

// Close releases the directory.
func (d *Directory) Close() error { return d.root.Close() }

type inode struct{ dev, ino uint64 }

type scanner struct {
	root   *os.Root
	tree   *tree
	bodies map[inode]*body // of files with several names
	stamps map[string]Stamp
}

func (s *scanner) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return fault.Wrap(kindOf(err), err, "reading %q", path)
	}
	if path == "." {
		return nil
	}
	fi, err := d.Info()
	if err != nil {
		return fault.Wrap(kindOf(err), err, "reading %q", path)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fault.New(fault.Internal, "no stat of %q", path)
	}
	e := Entry{Path: path, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = Dir
	case unix.S_IFREG:
		e.Type, e.Size = File, st.Size
		s.stamps[path] = Stamp{Dev: st.Dev, Ino: st.Ino, Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()}
	case unix.S_IFLNK:
		e.Type = Symlink
		if e.Link, err = s.root.Readlink(path); err != nil {
			return fault.Wrap(kindOf(err), err, "reading %q", path)
		}
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = Char, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = Block, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFIFO:
		e.Type = Fifo
	default:
		return nil // a socket: see the package comment
	}
	if e.Type == Dir || e.Type == File {
		if e.Xattrs, err = s.xattrs(path); err != nil {
			return err
		}
	}
	if err := s.tree.add(e, s.body(&e, st)); err != nil {
		return err
	}
	if mountedOver(path) {
		return fs.SkipDir // not even looked into: a work directory may have this machine's live proc mounted
	}
	return nil
}

// body finds the content that a regular file shares with its other names.
func (s *scanner) body(e *Entry, st *syscall.Stat_t) *body {
	if e.Type != File {
		return nil
	}
	if st.Nlink < 2 {
		return new(body)
	}
	key := inode{st.Dev, st.Ino}
	if s.bodies[key] == nil {
		s.bodies[key] = new(body)
	}
	return s.bodies[key]
}

// xattrs reads the extended attributes of a file or directory.
func (s *scanner) xattrs(path string) (map[string]string, error) {
	f, err := openPlain(s.root, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	list := make([]byte, 1<<10)
	n, err := unix.Flistxattr(fd, list)
	if errors.Is(err, unix.ERANGE) {
		list = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = unix.Flistxattr(fd, list)
	}
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "listing extended attributes of %q", path)
	}
	m := make(map[string]string)
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		n, err := unix.Fgetxattr(fd, name, value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fault.Wrap(kindOf(err), err, "reading extended attribute %q of %q", name, path)
		}
		m[name] = string(value[:n])
	}
	return m, nil
}

// openPlain opens a file or directory below root without waiting on a pipe that may have taken its place since it
// was looked at. If a link has, os.Root sees to it that nothing outside is read.
func openPlain(root *os.Root, path string) (*os.File, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening %q", path)
	}
	return f, nil
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
