// Package stageone builds the small initial file system with which a node fetches its image: the agent as /init,
// whom to trust, and the drivers and firmware of one of the image's own kernels.
//
// It reads the image as a segment.Source and executes nothing of it, so an image for another architecture is no
// different from one for the controller's own. Everything but /init lies below /.wulf: the archive may be laid
// over a whole root, as a one-stage boot does, without changing a file of it.
package stageone

import (
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// maxLinks bounds the symbolic links followed for one path, as Linux does (ELOOP).
const maxLinks = 40

// tree finds paths of a source as the node's kernel would: by symbolic links, which never leave the tree.
type tree struct {
	src      segment.Source
	entries  map[string]*segment.Entry
	children map[string][]*segment.Entry
}

func newTree(src segment.Source) *tree {
	list := src.Entries()
	t := &tree{src: src, entries: make(map[string]*segment.Entry, len(list)), children: map[string][]*segment.Entry{}}
	for i := range list {
		e := &list[i]
		t.entries[e.Path] = e
		dir := path.Dir(e.Path)
		t.children[dir] = append(t.children[dir], e)
	}
	return t
}

// resolve returns the entry at p with all links followed, or nil.
func (t *tree) resolve(p string) *segment.Entry {
	links := 0
	at := "." // resolved so far
	rest := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // the root's parent is the root: path.Dir(".") is "."
			continue
		}
		e := t.entries[path.Join(at, name)]
		if e == nil {
			return nil
		}
		if e.Type != segment.Symlink {
			if len(rest) == 0 {
				return e
			}
			at = e.Path
			continue
		}
		if links++; links > maxLinks {
			return nil
		}
		if path.IsAbs(e.Link) {
			at = "."
		}
		rest = append(strings.Split(e.Link, "/"), rest...)
	}
	return t.entries[at]
}

// list returns what is in a directory, in the source's order.
func (t *tree) list(dir string) []*segment.Entry {
	e := t.resolve(dir)
	if e == nil || e.Type != segment.Dir {
		return nil
	}
	return t.children[e.Path]
}

// read returns a file's content of at most limit bytes.
func (t *tree) read(p string, limit int64) ([]byte, error) {
	e := t.resolve(p)
	if e == nil || e.Type != segment.File {
		return nil, fault.Wrap(fault.NotFound, fs.ErrNotExist, "the image has no file /%s", p)
	}
	if e.Size > limit {
		return nil, fault.New(fault.Invalid, "the image's /%s has %d bytes, more than %d", p, e.Size, limit)
	}
	f, err := t.src.Open(e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, e.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading the image's /%s", p)
	}
	return b, nil
}

// files is the tree below a directory as an fs.FS with Open only, for readers of depmod's files.
type files struct {
	t   *tree
	dir string
}

// Open implements fs.FS.
func (f files) Open(name string) (fs.File, error) {
	b, err := f.t.read(path.Join(f.dir, name), 256<<20)
	if err != nil {
		return nil, err
	}
	return &memory{Reader: strings.NewReader(string(b))}, nil
}

// memory is an fs.File of bytes that were read already.
type memory struct{ *strings.Reader }

func (memory) Close() error               { return nil }
func (memory) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
