package httpd

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// part is a piece of an archive: bytes that were made for it, or the content of a large file, which is not copied and,
// compressed, is the same for all nodes that have it.
type part struct {
	plain []byte
	file  *overlay.Rendered // nil: plain is all
}

func (p *part) bytes() []byte {
	if p.file != nil {
		return p.file.Content
	}
	return p.plain
}

// partition takes an archive as it is written, and cuts it into parts.
type partition struct {
	parts []part
	next  *overlay.Rendered // whose content comes after the next write, which is its header
	left  int               // bytes of content that are known already
}

// apart has the content of the next file be a part of its own.
func (p *partition) apart(f *overlay.Rendered) { p.next = f }

func (p *partition) Write(b []byte) (int, error) {
	all := len(b)
	known := min(p.left, all)
	p.left -= known
	b = b[known:]
	if len(b) > 0 {
		if n := len(p.parts); n == 0 || p.parts[n-1].file != nil {
			p.parts = append(p.parts, part{})
		}
		last := &p.parts[len(p.parts)-1]
		last.plain = append(last.plain, b...)
	}
	if p.next != nil {
		p.left = len(p.next.Content)
		p.parts = append(p.parts, part{file: p.next})
		p.next = nil
	}
	return all, nil
}

// body is an archive as it is sent. In gzip it is one member for each part, and only large files are worth to be
// compressed: once for all nodes.
func (o *overlays) body(parts []part, packed bool, with *feed.Secrets) (made, error) {
	h := sha256.New()
	pieces := make([][]byte, 0, len(parts))
	b := made{}
	for i := range parts {
		p := &parts[i]
		piece := p.bytes()
		if p.file == nil {
			h.Write(piece)
		} else {
			id := p.file.ContentID()
			h.Write(id[:])
		}
		if packed {
			var err error
			if piece, err = o.member(p, with); err != nil {
				return b, err
			}
		}
		pieces = append(pieces, piece)
		b.size += int64(len(piece))
	}
	if packed {
		io.WriteString(h, "gzip")
	}
	b.id = chunk.ID(h.Sum(nil))
	b.write = func(w *cut) error {
		for _, piece := range pieces {
			if w.pass(int64(len(piece))) {
				continue
			}
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
	return b, nil
}

// member is a part as a member of gzip.
func (o *overlays) member(p *part, with *feed.Secrets) ([]byte, error) {
	var b bytes.Buffer
	if p.file == nil {
		g := newStored(&b, int64(len(p.plain)))
		_, err := g.Write(p.plain)
		err = errors.Join(err, g.Close())
		return b.Bytes(), err
	}
	// Among the contents that agents fetch, under a name of its own.
	key := chunk.Of([]byte("gzip " + p.file.ContentID().String()))
	o.mu.Lock()
	have := o.contents[key]
	o.mu.Unlock()
	if have != nil {
		return have, nil
	}
	g, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // it fails for levels that there are not
	_, err := g.Write(p.file.Content)
	if err := errors.Join(err, g.Close()); err != nil {
		return nil, err
	}
	o.keepContent(key, b.Bytes(), with)
	return b.Bytes(), nil
}

// archive makes of files a cpio archive that a kernel, or cpio, unpacks over an image. Neither makes directories that are
// not in it, and either would replace a symbolic link to a directory, as /lib is one, by a directory: so each path is the
// one that the image has for it, and all directories are there, as the image has them.
func archive(files []overlay.Rendered, image fs.FS) ([]part, error) {
	a := archiver{image: image, made: map[string]string{".": "."}, own: map[string]overlay.Rendered{}}
	a.w = segment.NewWriter(&a.out)
	for _, f := range files {
		a.own[f.Path] = f
	}
	for _, f := range files {
		if err := a.add(f); err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "overlay file %s", f.Path)
		}
	}
	err := a.w.Close()
	return a.out.parts, err
}

type archiver struct {
	w     *segment.Writer
	out   partition
	image fs.FS
	own   map[string]overlay.Rendered // by path
	made  map[string]string           // directories by path, and where they really are
}

func (a *archiver) add(f overlay.Rendered) error {
	if f.Type == overlay.TypeDir {
		_, err := a.dir(f.Path, 0)
		return err
	}
	dir, err := a.dir(path.Dir(f.Path), 0)
	if err != nil {
		return err
	}
	e := segment.Entry{Path: path.Join(dir, path.Base(f.Path)), Type: segment.File, Mode: f.Mode, UID: uint32(f.UID), GID: uint32(f.GID), Size: int64(len(f.Content)), MTime: changed(f)}
	if f.Type == overlay.TypeLink {
		e.Type, e.Size, e.Link = segment.Symlink, 0, f.Target
	}
	if len(f.Content) > overlay.MaxInline {
		a.out.apart(&f)
	}
	return a.w.WriteEntry(&e, bytes.NewReader(f.Content))
}

// maxDepth bounds the links that one path may lead through.
const maxDepth = 40

// dir makes sure that a directory is in the archive, and tells its path there.
func (a *archiver) dir(p string, depth int) (string, error) {
	if real, ok := a.made[p]; ok {
		return real, nil
	}
	if depth++; depth > 2*maxDepth {
		return "", fault.New(fault.Invalid, "it lies too deep")
	}
	e := segment.Entry{Type: segment.Dir, Mode: 0o755}
	own, ours := a.own[p]
	switch {
	case ours && own.Type == overlay.TypeLink: // an overlay's own link to a directory
		to := own.Target
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(p), to)
		}
		real, err := a.dir(inside(to), depth)
		a.made[p] = real
		return real, err
	case ours && own.Type != overlay.TypeDir:
		return "", fault.New(fault.Invalid, "%s is no directory", p)
	}
	if info, err := fs.Stat(a.image, p); err == nil && info.IsDir() {
		if have, ok := info.Sys().(*segment.Entry); ok {
			if have.Path != p { // the image has a link there
				real, err := a.dir(have.Path, depth)
				a.made[p] = real
				return real, err
			}
			e.Mode, e.UID, e.GID, e.MTime = have.Mode, have.UID, have.GID, have.MTime
		}
	}
	parent, err := a.dir(path.Dir(p), depth)
	if err != nil {
		return "", err
	}
	e.Path = path.Join(parent, path.Base(p))
	if ours {
		e.Mode, e.UID, e.GID = own.Mode, uint32(own.UID), uint32(own.GID)
	}
	a.made[p] = e.Path
	return e.Path, a.w.WriteEntry(&e, nil)
}

// inside is a path, taken from the root, as archives have it.
func inside(p string) string { return cmp.Or(path.Join("/", p)[1:], ".") }

// changed is a time for a file that wwclient tells from that of any other content: it compares sizes and times, and
// neither content nor digests. It lies in the past, and says nothing else.
func changed(f overlay.Rendered) int64 {
	const begin, span = 978307200, 1 << 29 // the year 2001, and 17 years
	h := sha256.New()
	io.WriteString(h, f.Target+"\x00")
	h.Write(f.Content)
	return begin + int64(binary.BigEndian.Uint32(h.Sum(nil))%span)
}
