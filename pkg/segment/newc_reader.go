package segment

import (
	"errors"
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Reader reads one newc cpio archive. Whatever the bytes are, it fails with fault.Corrupt rather than guess, and
// it holds no more than a name in memory. It is for one goroutine.
type Reader struct {
	r     io.Reader
	off   int64
	left  int64 // bytes of the current content not yet read
	head  [newcHeader]byte
	ended bool
}

// NewReader returns a Reader of the archive at the beginning of r. It reads nothing ahead.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next goes on to the next entry, skipping what is left of the last one's content, and returns io.EOF after the
// last. Path and Link are as the archive has them; whoever writes files by them calls CheckPath. Group is the
// inode number of a file that says it has several names, in Links. Inside an archive the content may come with
// any of the names.
func (r *Reader) Next() (*Entry, error) {
	if r.ended {
		return nil, io.EOF
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	if err := r.pad(); err != nil {
		return nil, err
	}
	if err := r.full(r.head[:]); err != nil {
		return nil, err
	}
	f, err := r.fields()
	if err != nil {
		return nil, err
	}
	name, err := r.text(f[11], "name")
	if err != nil {
		return nil, err
	}
	if name == trailer {
		if f[6] != 0 {
			return nil, r.corrupt("its trailer has content")
		}
		r.ended = true
		return nil, r.rest()
	}
	e := &Entry{Path: name, Mode: f[1] & 0o7777, UID: f[2], GID: f[3], MTime: int64(f[5]), Major: f[9], Minor: f[10]}
	var ok bool
	if e.Type, ok = newcType(f[1]); !ok {
		return nil, r.corrupt("%.200q has the mode %o", name, f[1])
	}
	switch {
	case e.Type == File:
		e.Size, r.left = int64(f[6]), int64(f[6])
		if f[4] > 1 {
			e.Group, e.Links = int(f[0]), int(f[4])
		}
	case e.Type == Symlink:
		e.Mode = 0o777
		if e.Link, err = r.text(f[6], "link target of "+name); err != nil {
			return nil, err
		}
	case f[6] != 0:
		return nil, r.corrupt("%.200q is a %s with content", name, e.Type)
	}
	return e, nil
}

// Read reads the content of the current entry, io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.off += int64(n)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if r.left > 0 {
			err = r.corrupt("it ends inside a file")
		}
	}
	return n, err
}

// fields decodes the numbers of the header: inode, mode, uid, gid, nlink, mtime, size, the device (two numbers),
// the device that it is (two), name length, check sum.
func (r *Reader) fields() ([13]uint32, error) {
	var f [13]uint32
	if string(r.head[:len(newcMagic)]) != newcMagic {
		return f, r.corrupt("no entry starts here")
	}
	for i := range f {
		for _, c := range r.head[len(newcMagic)+8*i:][:8] {
			var d byte
			switch {
			case '0' <= c && c <= '9':
				d = c - '0'
			case 'A' <= c && c <= 'F':
				d = c - 'A' + 10
			case 'a' <= c && c <= 'f':
				d = c - 'a' + 10
			default:
				return f, r.corrupt("a header holds %q where a number must be", c)
			}
			f[i] = f[i]<<4 | uint32(d)
		}
	}
	return f, nil
}

// text reads a name, which ends in a NUL, or a link target, which does not, and the padding behind.
func (r *Reader) text(n uint32, what string) (string, error) {
	isName := what == "name"
	if n == 0 || n > maxPath+1 || !isName && n > maxPath {
		return "", r.corrupt("the %.200s has %d bytes", what, n)
	}
	b := make([]byte, n)
	if err := r.full(b); err != nil {
		return "", err
	}
	if isName {
		if b[n-1] != 0 || n == 1 {
			return "", r.corrupt("a name does not end in one NUL byte")
		}
		b = b[:n-1]
	}
	s := string(b)
	if strings.IndexByte(s, 0) >= 0 {
		return "", r.corrupt("the %.200s holds a NUL byte", what)
	}
	return s, r.pad()
}

// rest makes sure that only padding follows the trailer.
func (r *Reader) rest() error {
	buf := make([]byte, archiveAlign)
	for {
		n, err := r.r.Read(buf)
		r.off += int64(n)
		for _, c := range buf[:n] {
			if c != 0 {
				return r.corrupt("something follows its trailer")
			}
		}
		if err != nil {
			return err // io.EOF is the good end
		}
	}
}

// pad reads the NUL bytes up to a multiple of 4.
func (r *Reader) pad() error {
	var b [newcAlign]byte
	n := (newcAlign - r.off%newcAlign) % newcAlign
	if err := r.full(b[:n]); err != nil {
		return err
	}
	if b != [newcAlign]byte{} {
		return r.corrupt("its padding is not NUL")
	}
	return nil
}

func (r *Reader) full(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.off += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.corrupt("it ends without a trailer")
	}
	return err
}

func (r *Reader) corrupt(format string, args ...any) error {
	why := fault.New(fault.Corrupt, format, args...)
	return fault.New(fault.Corrupt, "cpio archive, at byte %d: %s", r.off, why.Message)
}
