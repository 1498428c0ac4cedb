package segment

import (
	"bytes"
	"io"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Rewriting is what Rewrite changes.
type Rewriting struct {
	UIDs, GIDs map[uint32]uint32 // owners
	Contents   map[string][]byte // of files that are there
}

// Rewrite shows an image with other owners, and other contents of a few files, without touching it. A file with another
// content is no hard link of what it was one of.
func Rewrite(src *Image, r Rewriting) Source {
	out := &rewritten{Image: src, contents: r.Contents}
	old := src.Entries()
	out.entries = make([]Entry, len(old))
	left := make(map[int]int) // names that hard-linked files lose
	for i, e := range old {
		if to, ok := r.UIDs[e.UID]; ok {
			e.UID = to
		}
		if to, ok := r.GIDs[e.GID]; ok {
			e.GID = to
		}
		if b, ok := r.Contents[e.Path]; ok && e.Type == File {
			e.Size = int64(len(b))
			if e.Group > 0 {
				left[e.Group]++
				e.Group, e.Links = 0, 0
			}
		}
		out.entries[i] = e
	}
	for i := range out.entries {
		e := &out.entries[i]
		if e.Group > 0 {
			if e.Links -= left[e.Group]; e.Links < 2 {
				e.Group, e.Links = 0, 0
			}
		}
	}
	return out
}

type rewritten struct {
	*Image
	entries  []Entry
	contents map[string][]byte
}

// Entries implements Source.
func (r *rewritten) Entries() []Entry { return r.entries }

// Open implements Source.
func (r *rewritten) Open(path string) (io.ReadCloser, error) {
	if b, ok := r.contents[path]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return r.Image.Open(path)
}

// Sum is the digest of a file's content.
func (r *rewritten) Sum(path string) (chunk.ID, error) {
	if b, ok := r.contents[path]; ok {
		return chunk.Of(b), nil
	}
	return r.Image.Sum(path)
}
