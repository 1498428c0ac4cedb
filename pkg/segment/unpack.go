package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// UnpackOptions says how an Unpacker writes.
type UnpackOptions struct {
	// Owners restores what only root may set: owners, device nodes, and extended attributes other than "user.".
	Owners bool
	// Over says that the root is not empty, but holds what another image may have left: a file or a link that is in the way
	// of a directory goes.
	Over bool
	// Lost, if set, is told of each extended attribute that the file system cannot hold.
	Lost func(path, attribute string)
}

// Unpacker writes the segments of one image below a root directory, which should be empty at first. The skeleton,
// segment 0, comes first and alone; then any number of goroutines may call Unpack at once, in any order; Finish
// comes last. A segment that failed half-way may be unpacked again.
//
// It takes nothing on trust that it can check: paths outside the root, parents that are symbolic links, sizes and
// counts other than announced are fault.Corrupt. It cannot know whether the content is the right one, and
// it writes as it reads: hand it only bytes whose digest was verified before.
type Unpacker struct {
	o    UnpackOptions
	root *os.File
	free sync.Pool // of *unpacking

	mu    sync.Mutex
	later []dirAttr
}

// dirAttr is what a directory gets when nothing more is written below it.
type dirAttr struct {
	path  string
	mode  uint32
	mtime int64
}

// NewUnpacker returns an Unpacker that writes below the directory root. Close it after use.
func NewUnpacker(root string, o UnpackOptions) (*Unpacker, error) {
	f, err := os.OpenFile(root, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fault.Wrap(kindOf(err), err, "opening the root directory")
	}
	return &Unpacker{o: o, root: f}, nil
}

// Close releases what the Unpacker holds; call it when no other call is running.
func (u *Unpacker) Close() error { return u.root.Close() }

// Unpack unpacks the compressed segment in r, which is what the manifest says of it. Memory is bounded by the
// window of a frame, 8 MiB, and a buffer. A full file system is fault.Full.
func (u *Unpacker) Unpack(ctx context.Context, r io.Reader, s chunk.Segment) error {
	p, err := u.unpacking()
	if err != nil {
		return err
	}
	defer u.release(p)
	if err := p.z.Reset(ctxReader{ctx, r}); err != nil {
		return fault.Wrap(fault.Corrupt, err, "unpacking segment %s", s.ID.Short())
	}
	if err := p.archive(s); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("unpacking segment %s: %w", s.ID.Short(), err)
	}
	return nil
}

// unpacking is the state of unpacking one segment.
type unpacking struct {
	u     *Unpacker
	z     *zstd.Decoder
	buf   []byte
	dirs  dirs
	old   dirs           // finds the first name of a hard-linked file
	links map[int]string // first name of each hard-linked file, by inode number
}

func (u *Unpacker) unpacking() (*unpacking, error) {
	if p, ok := u.free.Get().(*unpacking); ok {
		return p, nil
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	root := int(u.root.Fd())
	return &unpacking{u: u, z: z, buf: make([]byte, 256<<10), dirs: dirs{root: root}, old: dirs{root: root}}, nil
}

func (u *Unpacker) release(p *unpacking) {
	p.dirs.close()
	p.old.close()
	if p.z.Reset(nil) == nil { // lets go of the reader
		u.free.Put(p)
	}
}

// archive unpacks all entries; there must be as many of them and of bytes as the manifest says.
func (p *unpacking) archive(s chunk.Segment) error {
	p.links = make(map[int]string)
	in := &io.LimitedReader{R: zstdReader{p.z}, N: s.Unpacked + 1}
	a := NewReader(in)
	n := 0
	for {
		e, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n++; n > s.Files {
			return fault.New(fault.Corrupt, "it holds more than its %d entries", s.Files)
		}
		if err := p.entry(e, a); err != nil {
			return err
		}
	}
	if n != s.Files || in.N != 1 {
		return fault.New(fault.Corrupt, "it holds %d entries in %d bytes, not %d in %d", n, s.Unpacked+1-in.N, s.Files, s.Unpacked)
	}
	return nil
}

// entry writes one entry, replacing what an earlier attempt left.
func (p *unpacking) entry(e *Entry, body io.Reader) error {
	if e.Path == "." && e.Type == Dir {
		p.u.defers(e)
		return p.attributes(p.dirs.root, ".", e, 0)
	}
	at, name, err := p.dirs.parent(e.Path)
	if err != nil {
		return err
	}
	switch e.Type {
	case Dir:
		err = p.dir(at, name, e)
	case File:
		err = p.file(at, name, e, body)
	case Symlink:
		err = replace(at, name, func() error { return unix.Symlinkat(e.Link, at, name) })
		if err == nil && p.u.o.Owners {
			err = unix.Fchownat(at, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
		}
	case Char, Block, Fifo:
		err = p.node(at, name, e)
	}
	if err != nil {
		return fault.Wrap(kindOf(err), err, "writing %q", e.Path)
	}
	return nil
}

func (p *unpacking) dir(at int, name string, e *Entry) error {
	err := unix.Mkdirat(at, name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		// The root may hold mount points already, and a file system that is mounted there what another image left on it.
		var st unix.Stat_t
		if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		err = nil
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = unix.ENOTDIR; p.u.o.Over {
				err = replace(at, name, func() error { return unix.Mkdirat(at, name, 0o700) })
			}
		}
	}
	if err != nil {
		return err
	}
	p.u.defers(e)
	return p.attributes(at, name, e, 0o700)
}

// attributes sets owner and mode of a directory or node, in this order because a change of owner clears setuid.
// extra bits are added to the mode: everybody who unpacks must be able to write into a directory until the end.
func (p *unpacking) attributes(at int, name string, e *Entry, extra uint32) error {
	if p.u.o.Owners {
		if err := unix.Fchownat(at, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	// Not followed either: the name was made by us a moment ago, in a root that nobody else writes to.
	return unix.Fchmodat(at, name, e.Mode|extra, 0)
}

// file writes a regular file, or a further name of one.
func (p *unpacking) file(at int, name string, e *Entry, body io.Reader) error {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if e.Group > 0 {
		first, ok := p.links[e.Group]
		if !ok {
			p.links[e.Group] = e.Path
		} else {
			if err := p.link(first, at, name); err != nil || e.Size == 0 {
				return err
			}
			flags = unix.O_WRONLY | unix.O_TRUNC | unix.O_NOFOLLOW | unix.O_CLOEXEC // the content came with a later name
		}
	}
	fd, err := retry(func() (int, error) { return unix.Openat(at, name, flags, 0o600) })
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlinkat(at, name, 0); err != nil {
			return err
		}
		fd, err = retry(func() (int, error) { return unix.Openat(at, name, flags, 0o600) })
	}
	if err != nil {
		return err
	}
	if err := errors.Join(p.content(fd, e, body), unix.Close(fd)); err != nil {
		return err
	}
	t := unix.Timespec{Sec: e.MTime}
	return unix.UtimesNanoAt(at, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

// content fills an open file and sets owner and mode.
func (p *unpacking) content(fd int, e *Entry, body io.Reader) error {
	for {
		n, err := body.Read(p.buf)
		for b := p.buf[:n]; len(b) > 0; {
			w, err := retry(func() (int, error) { return unix.Write(fd, b) })
			if err != nil {
				return err
			}
			b = b[w:]
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if p.u.o.Owners {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, e.Mode)
}

// link makes a further name of the file first.
func (p *unpacking) link(first string, at int, name string) error {
	from, old, err := p.old.parent(first)
	if err != nil {
		return err
	}
	return replace(at, name, func() error { return unix.Linkat(from, old, at, name, 0) })
}

// node makes a device node or a pipe.
func (p *unpacking) node(at int, name string, e *Entry) error {
	kind := uint32(unix.S_IFIFO)
	switch e.Type {
	case Char:
		kind = unix.S_IFCHR
	case Block:
		kind = unix.S_IFBLK
	}
	if !p.u.o.Owners && e.Type != Fifo {
		return nil
	}
	dev := int(unix.Mkdev(e.Major, e.Minor))
	if err := replace(at, name, func() error { return unix.Mknodat(at, name, kind|0o600, dev) }); err != nil {
		return err
	}
	return p.attributes(at, name, e, 0)
}

// replace makes something under a name, and once more if something has it already.
func replace(at int, name string, create func() error) error {
	err := create()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := unix.Unlinkat(at, name, 0); err != nil {
		return err
	}
	return create()
}

// defers notes what a directory gets at the end.
func (u *Unpacker) defers(e *Entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.later = append(u.later, dirAttr{e.Path, e.Mode, e.MTime})
}

// zstdReader gives the errors of a decoder their kind.
type zstdReader struct{ z *zstd.Decoder }

func (r zstdReader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fault.Wrap(fault.Corrupt, err, "decompressing")
	}
	return n, err
}
