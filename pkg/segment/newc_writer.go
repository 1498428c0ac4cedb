package segment

import (
	"io"
	"math"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The newc format, as Documentation/driver-api/early-userspace/buffer-format.rst of the kernel has it: a magic
// and 13 numbers of eight hexadecimal digits; then the name with its NUL, and the content, each padded to 4 bytes.
const (
	newcMagic  = "070701"
	newcHeader = 6 + 13*8
	newcAlign  = 4
	// archiveAlign is what cpio itself pads archives to. It also keeps every archive above 256 bytes: a zstd frame
	// that is neither smaller nor a single segment has no field for its content size.
	archiveAlign = 512
)

// Writer writes a newc cpio archive that the Linux kernel unpacks as an initramfs. Inode numbers count from 1 in
// the order of the entries, so equal entries give equal bytes. It is for one goroutine.
type Writer struct {
	w      io.Writer
	off    int64
	inode  uint32
	groups map[int]uint32 // inode numbers of hard-linked files
	buf    []byte
}

// NewWriter returns a Writer to w, which it neither buffers nor closes.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, groups: make(map[int]uint32)}
}

// WriteEntry adds an entry. Its path is taken as it is, so that "." may set the mode of the root. body is read for
// the Size bytes of a regular file and must have so many; of hard links the first carries the content and
// body is not looked at for the others, where it may be nil. Extended attributes are not written: newc has none.
func (w *Writer) WriteEntry(e *Entry, body io.Reader) error {
	h, err := w.describe(e)
	if err != nil {
		return err
	}
	if err := w.header(&h); err != nil || h.size == 0 {
		return err
	}
	if e.Type == Symlink {
		if err := w.write([]byte(e.Link)); err != nil {
			return err
		}
		return w.pad(newcAlign)
	}
	return w.content(e, body)
}

// describe is the header of the next entry. Only the first of hard links has content.
func (w *Writer) describe(e *Entry) (header, error) {
	mode, ok := newcMode(e)
	if !ok {
		return header{}, fault.New(fault.Invalid, "%q has the type %q, which cpio does not know", e.Path, e.Type)
	}
	if e.Size > maxFile || e.Size < 0 {
		return header{}, fault.New(fault.Invalid, "%q has %d bytes, more than cpio can count", e.Path, e.Size)
	}
	h := header{name: e.Path, mode: mode, uid: e.UID, gid: e.GID, nlink: 1, rmajor: e.Major, rminor: e.Minor,
		mtime: uint32(min(max(e.MTime, 0), math.MaxUint32))}
	carries := e.Type == File
	switch {
	case e.Type == Dir:
		h.nlink = 2
	case e.Type == File && e.Group > 0:
		h.nlink = uint32(max(e.Links, 2))
		h.inode, ok = w.groups[e.Group]
		carries = !ok
	}
	if h.inode == 0 {
		w.inode++
		h.inode = w.inode
		if e.Group > 0 {
			w.groups[e.Group] = h.inode
		}
	}
	switch {
	case e.Type == Symlink:
		h.size = uint32(len(e.Link))
	case carries:
		h.size = uint32(e.Size)
	}
	return h, nil
}

// Close ends the archive; the Writer is of no use afterwards.
func (w *Writer) Close() error {
	if err := w.header(&header{name: trailer, nlink: 1}); err != nil {
		return err
	}
	return w.pad(archiveAlign)
}

// content copies exactly the bytes of a file.
func (w *Writer) content(e *Entry, body io.Reader) error {
	if w.buf == nil {
		w.buf = make([]byte, 128<<10)
	}
	for left := e.Size; left > 0; {
		n, err := body.Read(w.buf[:min(left, int64(len(w.buf)))])
		if err := w.write(w.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		if err == io.EOF && left > 0 {
			return fault.New(fault.Conflict, "file %q is shorter than its %d bytes", e.Path, e.Size)
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return w.pad(newcAlign)
}

func (w *Writer) header(h *header) error {
	b := h.append(make([]byte, 0, newcHeader+len(h.name)+1+newcAlign))
	return w.write(b)
}

func (w *Writer) write(b []byte) error {
	n, err := w.w.Write(b)
	w.off += int64(n)
	return err
}

// pad writes NUL bytes up to a multiple of align.
func (w *Writer) pad(align int64) error {
	var zero [archiveAlign]byte
	if n := (align - w.off%align) % align; n > 0 {
		return w.write(zero[:n])
	}
	return nil
}

// header is the part of a newc entry before the content. What stays zero in every archive is not in it.
type header struct {
	name                         string
	inode, mode, uid, gid, nlink uint32
	mtime, size, rmajor, rminor  uint32
}

func (h *header) append(b []byte) []byte {
	b = append(b, newcMagic...)
	for _, v := range [...]uint32{h.inode, h.mode, h.uid, h.gid, h.nlink, h.mtime, h.size,
		0, 0, h.rmajor, h.rminor, uint32(len(h.name)) + 1, 0} {
		const digits = "0123456789ABCDEF"
		for shift := 28; shift >= 0; shift -= 4 {
			b = append(b, digits[v>>shift&0xf])
		}
	}
	b = append(b, h.name...)
	b = append(b, 0)
	for len(b)%newcAlign != 0 { // a header starts at a multiple of 4 itself
		b = append(b, 0)
	}
	return b
}

// ArchiveSize is the length of the archive that Pack compresses.
func ArchiveSize(src Source) int64 {
	entries := src.Entries()
	all := make([]*Entry, len(entries))
	for i := range entries {
		all[i] = &entries[i]
	}
	return archiveSize(all)
}

// archiveSize is the length of the archive that a Writer makes of the entries.
func archiveSize(entries []*Entry) int64 {
	align := func(n int64) int64 { return (n + newcAlign - 1) / newcAlign * newcAlign }
	size := align(int64(newcHeader + len(trailer) + 1))
	seen := make(map[int]bool)
	for _, e := range entries {
		size += align(int64(newcHeader + len(e.Path) + 1))
		switch {
		case e.Type == Symlink:
			size += align(int64(len(e.Link)))
		case e.Type == File && !seen[e.Group]:
			size += align(e.Size)
		}
		if e.Group > 0 {
			seen[e.Group] = true
		}
	}
	return (size + archiveAlign - 1) / archiveAlign * archiveAlign
}

// The file types of st_mode, which are the same on every Linux.
const (
	modeFifo    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeFile    = 0o100000
	modeSymlink = 0o120000
	modeType    = 0o170000
)

func newcMode(e *Entry) (uint32, bool) {
	perm := e.Mode & 0o7777
	switch e.Type {
	case Dir:
		return modeDir | perm, true
	case File:
		return modeFile | perm, true
	case Symlink:
		return modeSymlink | 0o777, true
	case Char:
		return modeChar | perm, true
	case Block:
		return modeBlock | perm, true
	case Fifo:
		return modeFifo | perm, true
	}
	return 0, false
}

func newcType(mode uint32) (Type, bool) {
	switch mode & modeType {
	case modeDir:
		return Dir, true
	case modeFile:
		return File, true
	case modeSymlink:
		return Symlink, true
	case modeChar:
		return Char, true
	case modeBlock:
		return Block, true
	case modeFifo:
		return Fifo, true
	}
	return "", false
}
