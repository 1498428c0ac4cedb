package source

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// How extended attributes are noted in PAX records: as they are, as GNU tar does it, and where a name cannot be a part of a
// record, as bsdtar does it.
const (
	xattrPlain   = "SCHILY.xattr."
	xattrEncoded = "LIBARCHIVE.xattr."
)

// WriteTar writes a tree as a tar in the PAX format, with all that an entry has: owners, links, devices, extended attributes.
// Equal trees give equal bytes. Read again, the archive is the same tree.
func WriteTar(ctx context.Context, w io.Writer, src segment.Source) error {
	out := tar.NewWriter(w)
	first := make(map[int]string) // names of hard-linked files that are there with their content
	buf := make([]byte, 256<<10)
	for i := range src.Entries() {
		e := &src.Entries()[i]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := header(e, first)
		if err != nil {
			return err
		}
		if err := out.WriteHeader(h); err != nil {
			return writing(err, e.Path)
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 {
			continue
		}
		if err := content(ctx, out, src, e, buf); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return fault.Wrap(spoolKind(err), err, "writing the end of the archive")
	}
	return nil
}

func writing(err error, path string) error {
	return fault.Wrap(spoolKind(err), err, "writing %q to the archive", path)
}

// header describes an entry to tar. Of several names of a file, all but the first are links to it.
func header(e *segment.Entry, first map[int]string) (*tar.Header, error) {
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), ModTime: time.Unix(e.MTime, 0), Format: tar.FormatPAX,
	}
	switch e.Type {
	case segment.Dir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case segment.File:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case segment.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case segment.Char, segment.Block:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.Major), int64(e.Minor)
		if e.Type == segment.Block {
			h.Typeflag = tar.TypeBlock
		}
	case segment.Fifo:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, fault.New(fault.Invalid, "%q has the type %q, which tar does not know", e.Path, e.Type)
	}
	if e.Group > 0 {
		if to, ok := first[e.Group]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, to, 0
		} else {
			first[e.Group] = e.Path
		}
	}
	h.PAXRecords = make(map[string]string)
	if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Linkname) {
		h.PAXRecords["hdrcharset"] = "BINARY" // pax(1): names are not UTF-8, and are to be taken as they are
	}
	if h.Typeflag == tar.TypeLink {
		return h, nil
	}
	for name, value := range e.Xattrs {
		if strings.Contains(name, "=") || !utf8.ValidString(name) {
			escaped := strings.ReplaceAll(url.PathEscape(name), "=", "%3D")
			h.PAXRecords[xattrEncoded+escaped] = base64.RawStdEncoding.EncodeToString([]byte(value))
			continue
		}
		h.PAXRecords[xattrPlain+name] = value
	}
	return h, nil
}

// content copies exactly the bytes of a file.
func content(ctx context.Context, w io.Writer, src segment.Source, e *segment.Entry, buf []byte) error {
	f, err := src.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	for left := e.Size; left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.Read(buf[:min(left, int64(len(buf)))])
		if _, err := w.Write(buf[:n]); err != nil {
			return writing(err, e.Path)
		}
		left -= int64(n)
		switch {
		case left == 0:
		case errors.Is(err, io.EOF):
			return fault.New(fault.Conflict, "file %q is shorter than its %d bytes", e.Path, e.Size).WithFix("stop what writes to the directory and try again")
		case err != nil:
			return fmt.Errorf("reading %q: %w", e.Path, err)
		}
	}
	return nil
}
