package cli

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// payload is a root file system on its way to a controller.
type payload struct {
	label string // where it came from, for people
	size  int64  // bytes to come, as far as they are known; 0: unknown
	open  func() (io.ReadCloser, error)
	close func()
}

// newPayload finds out what the source of an image is: a directory, an archive, or "-" for an archive on standard
// input. An archive is sent as it is, compressed or not.
func newPayload(source string, stdin io.Reader) (*payload, error) {
	if source == "-" {
		sent := false
		return &payload{label: "standard input", close: func() {}, open: func() (io.ReadCloser, error) {
			if sent {
				return nil, fault.New(fault.Unavailable, "standard input was sent already, and cannot be sent to another controller")
			}
			sent = true
			return io.NopCloser(stdin), nil
		}}, nil
	}
	info, err := os.Stat(source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.NotFound, "there is no directory or archive %s", source)
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "looking at the image")
	case info.IsDir():
		return directory(source)
	case info.Mode().IsRegular():
		return &payload{label: source, size: info.Size(), close: func() {}, open: func() (io.ReadCloser, error) { return os.Open(source) }}, nil
	}
	return nil, fault.New(fault.Invalid, "%s is neither a directory nor an archive", source)
}

// directory sends a directory as a tar. It is read by this process, not by the controller, which runs as a user who
// may read nothing of it. Everything is there that an image can hold: owners, extended attributes, devices and hard
// links; pkg/segment says what has no place in an image. It is scanned first, so that what cannot be an image is
// refused before anything is sent.
func directory(path string) (*payload, error) {
	tree, err := segment.OpenDir(path, segment.Limits{})
	if err != nil {
		return nil, err
	}
	p := &payload{label: path, close: func() { tree.Close() }}
	seen := map[int]bool{}
	for _, e := range tree.Entries() {
		if !seen[e.Group] {
			p.size += e.Size
		}
		seen[e.Group] = e.Group > 0
	}
	p.open = func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeTar(w, tree)) }() // it ends when the reader is closed
		return r, nil
	}
	return p, nil
}

// writeTar writes a tree as a tar archive.
func writeTar(w io.Writer, tree segment.Source) error {
	out := tar.NewWriter(w)
	first := map[int]string{} // of several names of one file
	for _, e := range tree.Entries() {
		h := header(e)
		if name, ok := first[e.Group]; ok && e.Group > 0 {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, name, 0, nil
		} else {
			first[e.Group] = e.Path
		}
		if err := out.WriteHeader(h); err != nil {
			return fault.Wrap(fault.Invalid, err, "%q cannot be sent", e.Path)
		}
		if h.Typeflag != tar.TypeReg || e.Size == 0 {
			continue
		}
		if err := copyFile(out, tree, e); err != nil {
			return err
		}
	}
	return out.Close()
}

func copyFile(w io.Writer, tree segment.Source, e segment.Entry) error {
	f, err := tree.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(w, io.LimitReader(f, e.Size))
	if err != nil {
		return err
	}
	if n < e.Size {
		return fault.New(fault.Conflict, "file %q became shorter while it was read", e.Path).WithFix("stop what writes to the directory and try again")
	}
	return nil
}

func header(e segment.Entry) *tar.Header {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: e.Path, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), ModTime: time.Unix(e.MTime, 0),
		Linkname: e.Link, Devmajor: int64(e.Major), Devminor: int64(e.Minor),
	}
	switch e.Type {
	case segment.Dir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case segment.File:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case segment.Symlink:
		h.Typeflag = tar.TypeSymlink
	case segment.Char:
		h.Typeflag = tar.TypeChar
	case segment.Block:
		h.Typeflag = tar.TypeBlock
	case segment.Fifo:
		h.Typeflag = tar.TypeFifo
	}
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return h
}
