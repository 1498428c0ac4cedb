package segment

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"maps"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// ChangeKind says what happened to a path.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Aspect is something about a path that can differ.
type Aspect string

// The aspects. A path of another type differs in that and in nothing else that is said.
const (
	AspectType    Aspect = "type"
	AspectContent Aspect = "content"
	AspectMode    Aspect = "mode"
	AspectOwner   Aspect = "owner"
	AspectLink    Aspect = "link" // where a symbolic link points
	AspectDevice  Aspect = "device"
	AspectXattrs  Aspect = "xattrs"
	AspectNames   Aspect = "names" // which other names a hard-linked file has
	AspectTime    Aspect = "time"
)

// Change is one path in which two trees differ. Old or New is nil where the path is not there.
type Change struct {
	Path  string
	Kind  ChangeKind
	What  []Aspect // of a Changed path, at least one
	Old   *Entry
	New   *Entry
	Bytes int64 // the size of its content now less that before
}

// DiffOptions says what counts as a difference.
type DiffOptions struct {
	Times bool // files that differ in their modification time only are changes as well
}

// Diff lists what makes b of a, in the order of ComparePaths, and goes through both trees once. It compares what
// segments keep: see the package comment.
//
// Content is compared by digest where both sources know it, as images do. Of other sources, files of equal size and time
// are taken to be equal; if only the size is, both are read. The first error, of reading or of ctx, ends the list.
func Diff(ctx context.Context, a, b Source, o DiffOptions) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{ctx: ctx, a: a, b: b, o: o, old: firstNames(a.Entries()), new: firstNames(b.Entries())}
		left, right := a.Entries(), b.Entries()
		for len(left) > 0 || len(right) > 0 {
			if ctx.Err() != nil {
				yield(Change{}, context.Cause(ctx))
				return
			}
			order := 0
			switch {
			case len(left) == 0:
				order = 1
			case len(right) == 0:
				order = -1
			default:
				order = ComparePaths(left[0].Path, right[0].Path)
			}
			var c Change
			var err error
			switch {
			case order < 0:
				c = Change{Path: left[0].Path, Kind: Removed, Old: &left[0], Bytes: -left[0].Size}
				left = left[1:]
			case order > 0:
				c = Change{Path: right[0].Path, Kind: Added, New: &right[0], Bytes: right[0].Size}
				right = right[1:]
			default:
				c, err = d.compare(&left[0], &right[0])
				left, right = left[1:], right[1:]
				if err != nil {
					yield(Change{}, err)
					return
				}
				if len(c.What) == 0 {
					continue
				}
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

type differ struct {
	ctx      context.Context
	a, b     Source
	o        DiffOptions
	old, new map[int]string // first names of hard-linked files
}

// firstNames tells by which name a group of hard links is known: numbers are another tree's.
func firstNames(entries []Entry) map[int]string {
	names := make(map[int]string)
	for i := range entries {
		if g := entries[i].Group; g > 0 && names[g] == "" {
			names[g] = entries[i].Path
		}
	}
	return names
}

// compare finds what differs in one path.
func (d *differ) compare(a, b *Entry) (Change, error) {
	c := Change{Path: b.Path, Kind: Changed, Old: a, New: b, Bytes: b.Size - a.Size}
	if a.Type != b.Type {
		c.What = []Aspect{AspectType}
		return c, nil
	}
	content := false
	if a.Type == File {
		var err error
		if content, err = d.content(a, b); err != nil {
			return c, err
		}
	}
	x, y := normal(a), normal(b)
	for _, v := range []struct {
		differs bool
		aspect  Aspect
	}{
		{content, AspectContent},
		{a.Mode != b.Mode && a.Type != Symlink, AspectMode},
		{a.UID != b.UID || a.GID != b.GID, AspectOwner},
		{a.Link != b.Link, AspectLink},
		{a.Major != b.Major || a.Minor != b.Minor, AspectDevice},
		{!maps.Equal(a.Xattrs, b.Xattrs), AspectXattrs},
		{max(a.Links, 1) != max(b.Links, 1) || d.old[a.Group] != d.new[b.Group], AspectNames},
		{d.o.Times && x.MTime != y.MTime, AspectTime},
	} {
		if v.differs {
			c.What = append(c.What, v.aspect)
		}
	}
	return c, nil
}

// content tells whether the content of two files differs.
func (d *differ) content(a, b *Entry) (bool, error) {
	if a.Size != b.Size {
		return true, nil
	}
	_, known := d.a.(summed)
	if _, too := d.b.(summed); !(known && too) && a.MTime == b.MTime {
		return false, nil
	}
	x, err := d.sum(d.a, a.Path)
	if err != nil {
		return false, err
	}
	y, err := d.sum(d.b, b.Path)
	return x != y, err
}

// summed is a source that knows the digests of its files.
type summed interface {
	Sum(path string) (chunk.ID, error)
}

// sum is the digest of a file.
func (d *differ) sum(src Source, path string) (id chunk.ID, err error) {
	if s, ok := src.(summed); ok {
		return s.Sum(path)
	}
	f, err := src.Open(path)
	if err != nil {
		return id, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, ctxReader{d.ctx, f}); err != nil {
		return id, fmt.Errorf("reading %q: %w", path, err)
	}
	h.Sum(id[:0])
	return id, nil
}

// Fetch counts what a relay that has every chunk of the version a is yet to fetch for the version b: how many chunks, and
// how many bytes. Manifests themselves are not counted, and what is kept from nodes never reaches a relay.
func Fetch(a, b *chunk.Manifest) (chunks int, bytes int64) {
	has := make(map[chunk.ID]bool)
	for _, ref := range toRelays(a) {
		has[ref.ID] = true
	}
	for _, ref := range toRelays(b) {
		if !has[ref.ID] {
			chunks++
			bytes += ref.Size
		}
		has[ref.ID] = true // a chunk that is there twice is fetched once
	}
	return chunks, bytes
}

// toRelays lists the chunks of a version that relays ask for.
func toRelays(m *chunk.Manifest) []chunk.Ref {
	served := *m
	served.Aside = nil
	return served.Refs()
}
