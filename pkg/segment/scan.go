package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A scanner reads the directories of a tree, several at once. What it found of one goes into the tree under the lock; the
// tree does not depend on the order.
type scanner struct {
	root int    // descriptor
	proc string // where the descriptors of this process are, "" if nowhere

	mu     sync.Mutex
	more   sync.Cond
	todo   []string // directories found and not begun: no more than the tree may have entries
	open   int      // begun or to do
	err    error    // the first
	tree   *tree
	bodies map[inode]*body // of files with several names
	stamps map[string]Stamp
}

type inode struct{ dev, ino uint64 }

// found is what the scanner knows of one path.
type found struct {
	entry Entry
	file  Stamp
	names uint64
}

// scanBatch bounds how much of one directory is held beside the tree.
const scanBatch = 1 << 10

func newScanner(root int, l Limits) *scanner {
	s := &scanner{root: root, todo: []string{"."}, open: 1, tree: newTree(l), bodies: make(map[inode]*body), stamps: make(map[string]Stamp)}
	s.more.L = &s.mu
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		s.proc = "/proc/self/fd"
	}
	return s
}

// run scans with this many goroutines, and returns after all have ended.
func (s *scanner) run(workers int) error {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			w := walker{scanner: s, list: make([]byte, 1<<10)}
			for {
				dir, ok := s.next()
				if !ok {
					return
				}
				s.done(w.dir(dir))
			}
		})
	}
	wg.Wait()
	return s.err
}

// next waits for a directory to scan; there is none when all are done or something failed.
func (s *scanner) next() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.todo) == 0 && s.open > 0 && s.err == nil {
		s.more.Wait()
	}
	if s.err != nil || s.open == 0 {
		return "", false
	}
	last := len(s.todo) - 1
	dir := s.todo[last]
	s.todo = s.todo[:last]
	return dir, true
}

func (s *scanner) done(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.err == nil {
		s.err = err
	}
	if s.open == 0 || s.err != nil {
		s.more.Broadcast()
	}
}

// take puts what was found of one directory into the tree.
func (s *scanner) take(batch []found) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		f := &batch[i]
		if err := s.tree.add(f.entry, s.body(f)); err != nil {
			return err
		}
		switch path := f.entry.Path; {
		case f.entry.Type == File:
			s.stamps[path] = f.file
		case f.entry.Type == Dir && !mountedOver(path): // a work directory may have this machine's live proc mounted
			s.todo = append(s.todo, path)
			s.open++
			s.more.Signal()
		}
	}
	return s.err
}

// body finds the content that a regular file shares with its other names.
func (s *scanner) body(f *found) *body {
	if f.entry.Type != File {
		return nil
	}
	if f.names < 2 {
		return new(body)
	}
	key := inode{f.file.Dev, f.file.Ino}
	if s.bodies[key] == nil {
		s.bodies[key] = new(body)
	}
	return s.bodies[key]
}

// walker is what one goroutine needs.
type walker struct {
	*scanner
	list, value []byte // extended attributes: names, and one of them
}

// dir scans one directory, without what is in its directories.
func (w *walker) dir(path string) error {
	fd, err := openBeneath(w.root, path, unix.O_DIRECTORY)
	if err != nil {
		return fault.Wrap(kindOf(err), err, "reading %q", path)
	}
	d := os.NewFile(uintptr(fd), path)
	defer d.Close()
	for {
		names, err := d.Readdirnames(scanBatch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(kindOf(err), err, "reading %q", path)
		}
		batch := make([]found, 0, len(names))
		for _, name := range names {
			at := name
			if path != "." {
				at = path + "/" + name
			}
			f, ok, err := w.look(fd, name, at)
			if err != nil {
				return fault.Wrap(kindOf(err), err, "reading %q", at)
			}
			if ok {
				batch = append(batch, f)
			}
		}
		if err := w.take(batch); err != nil {
			return err
		}
	}
}

// look finds out what there is to know of a name in the directory fd. There is nothing of a socket: see the package comment.
func (w *walker) look(fd int, name, path string) (f found, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return f, false, err
	}
	f.entry = Entry{Path: path, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec}
	e := &f.entry
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = Dir
	case unix.S_IFREG:
		e.Type, e.Size, f.names = File, st.Size, uint64(st.Nlink)
		f.file = Stamp{Dev: st.Dev, Ino: st.Ino, Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()}
	case unix.S_IFLNK:
		e.Type = Symlink
		buf := make([]byte, maxPath+1)
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return f, false, err
		}
		e.Link = string(buf[:n])
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = Char, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = Block, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFIFO:
		e.Type = Fifo
	default:
		return f, false, nil
	}
	if e.Type == Dir || e.Type == File {
		e.Xattrs, err = w.xattrs(fd, name)
	}
	return f, err == nil, err
}

// xattrs reads the extended attributes of a file or directory. By the name of the descriptor of its directory below
// /proc it need not be opened for that, which takes longer than all else of a scan.
func (w *walker) xattrs(dir int, name string) (map[string]string, error) {
	path := fmt.Sprintf("%s/%d/%s", w.proc, dir, name)
	if w.proc == "" {
		fd, err := retry(func() (int, error) {
			return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		return w.attributes(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
			func(a string, b []byte) (int, error) { return unix.Fgetxattr(fd, a, b) })
	}
	return w.attributes(func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(a string, b []byte) (int, error) { return unix.Lgetxattr(path, a, b) })
}

func (w *walker) attributes(list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string]string, error) {
	n, err := list(w.list)
	if errors.Is(err, unix.ERANGE) {
		w.list = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = list(w.list)
	}
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	if w.value == nil {
		w.value = make([]byte, maxXattr)
	}
	m := make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(w.list[:n]), "\x00"), "\x00") {
		n, err := get(name, w.value)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %q: %w", name, err)
		}
		m[name] = string(w.value[:n])
	}
	return m, nil
}
