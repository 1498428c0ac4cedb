package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Verify reads a whole image, on all processors, and reports whether it is what Build makes of the tree in its file
// index, but for compression: each segment is one zstd frame of one archive, which holds the very entries that the index
// puts there, byte for byte and with the content that the index has the digests of, and nothing else; the counts of the
// manifest are right. The error is fault.Corrupt or fault.Invalid and names the segment and the path.
//
// Segments that a known image has as well, with the same lines in its index, are not read. Known images must have
// been verified before.
func Verify(ctx context.Context, m *chunk.Manifest, open Opener, known ...*Image) error {
	i, err := OpenImage(ctx, m, open)
	if err != nil {
		return err
	}
	return i.Verify(known...)
}

// Verify is what the function Verify does, for an image that is open already.
func (i *Image) Verify(known ...*Image) error {
	if err := i.verifyCounts(); err != nil {
		return fmt.Errorf("verifying image %s: %w", i.m.Image, err)
	}
	parts := i.parts()
	skip := i.verifiedBefore(parts, known)
	seen := make([]bool, len(i.entries)) // each entry is the business of one segment
	var next atomic.Int64
	g, working := errgroup.WithContext(i.ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			v := verifier{image: i, ctx: working, seen: seen, sum: sha256.New(), buf: make([]byte, 256<<10)}
			for working.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(parts) {
					return nil
				}
				if skip[n] {
					continue
				}
				if err := v.segment(n, parts[n]); err != nil {
					return fmt.Errorf("verifying image %s, segment %d, chunk %s: %w", i.m.Image, n, i.segments[n].ID.Short(), err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(i.ctx)
}

// verifyCounts compares what the manifest counts, which is what nodes get, with the index.
func (i *Image) verifyCounts() error {
	files, size, groups := 0, int64(0), 0
	for n := range i.entries {
		e := &i.entries[n]
		if e.Type != File || i.places[n] >= len(i.m.Segments) {
			continue
		}
		files++
		if e.Group == 0 || e.Group > groups { // groups are numbered in the order of their first names
			size += e.Size
		}
		groups = max(groups, e.Group)
	}
	switch {
	case len(i.m.Segments) == 0:
		return fault.New(fault.Corrupt, "it has no segments")
	case files != i.m.Files || size != i.m.Unpacked:
		return fault.New(fault.Corrupt, "its index has %d files with %d bytes, its manifest %d with %d", files, size, i.m.Files, i.m.Unpacked)
	}
	return nil
}

// parts lists the entries of each segment, in the order of the index.
func (i *Image) parts() [][]int {
	parts := make([][]int, len(i.segments))
	for n, at := range i.places {
		parts[at] = append(parts[at], n)
	}
	return parts
}

// verifiedBefore tells of each segment whether a known image has it, chunk and entries.
func (i *Image) verifiedBefore(parts [][]int, known []*Image) []bool {
	skip := make([]bool, len(i.segments))
	for _, k := range known {
		at := make(map[chunk.ID]int)
		for n, s := range k.segments {
			at[s.ID] = n
		}
		theirs := k.parts()
		for n, s := range i.segments {
			if o, ok := at[s.ID]; ok && !skip[n] && i.isSkeleton(n) == k.isSkeleton(o) {
				skip[n] = s == k.segments[o] && i.sameEntries(parts[n], k, theirs[o])
			}
		}
	}
	return skip
}

// sameEntries tells whether the lines of two indexes say the same of a segment. Extended attributes are not in segments.
func (i *Image) sameEntries(mine []int, k *Image, theirs []int) bool {
	if len(mine) != len(theirs) {
		return false
	}
	group := make(map[int]int) // the numbers of hard links differ, the links do not
	for n := range mine {
		a, b := &i.entries[mine[n]], &k.entries[theirs[n]]
		if a.Path != b.Path || !sameFile(a, b) || a.Link != b.Link || a.Major != b.Major || a.Minor != b.Minor ||
			a.Links != b.Links || i.sums[mine[n]] != k.sums[theirs[n]] {
			return false
		}
		if g, ok := group[a.Group]; ok && g != b.Group || (a.Group == 0) != (b.Group == 0) {
			return false
		}
		group[a.Group] = b.Group
	}
	return true
}

// rootEntry is what every skeleton begins with.
func rootEntry() *Entry { return &Entry{Path: ".", Type: Dir, Mode: 0o755} }

// isSkeleton tells whether a segment begins with the root and holds what is not a file. What is kept aside has its own.
func (i *Image) isSkeleton(n int) bool { return n == 0 || n == len(i.m.Segments) }

// verifier is what one goroutine needs.
type verifier struct {
	image *Image
	ctx   context.Context
	seen  []bool // of the image's entries
	sum   hash.Hash
	buf   []byte
	head  []byte
}

// segment verifies one segment, which the index gives the entries of part.
func (v *verifier) segment(n int, part []int) error {
	s := v.image.segments[n]
	if err := v.announced(n, part); err != nil {
		return err
	}
	in, err := v.image.check(v.ctx, s.Ref)
	if err != nil {
		return err
	}
	defer in.Close()
	frame := &frameCheck{size: s.Unpacked}
	compressed := io.TeeReader(in, frame)
	z, err := v.image.zstd(compressed)
	if err == nil {
		defer v.image.release(z)
		err = v.archive(n, io.LimitReader(zstdReader{z}, s.Unpacked+1))
	}
	if err != nil {
		if _, chunk := io.Copy(io.Discard, in); chunk != nil {
			return chunk // not the chunk that the manifest names: what was wrong in it says nothing
		}
		return err
	}
	if _, err := io.Copy(io.Discard, compressed); err != nil { // to its end, and with it the digest
		return err
	}
	if err := frame.end(); err != nil {
		return err
	}
	for _, at := range part {
		if !v.seen[at] {
			return fault.New(fault.Corrupt, "%q is not there", v.image.entries[at].Path)
		}
	}
	return nil
}

// announced compares what the manifest says of a segment with what Build would make of its entries.
func (v *verifier) announced(n int, part []int) error {
	s := v.image.segments[n]
	var all []*Entry
	if v.image.isSkeleton(n) {
		all = append(all, rootEntry())
	}
	for _, at := range part {
		all = append(all, &v.image.entries[at])
	}
	if size := archiveSize(all); len(all) != s.Files || size != s.Unpacked {
		return fault.New(fault.Corrupt, "its entries in the index are %d with %d bytes, those in the manifest %d with %d",
			len(all), size, s.Files, s.Unpacked)
	}
	return nil
}

// archive goes through the archive of a segment.
func (v *verifier) archive(n int, plain io.Reader) error {
	a, mirror := NewReader(plain), NewWriter(nil)
	last := -1
	for first := v.image.isSkeleton(n); ; first = false {
		got, err := a.Next()
		if errors.Is(err, io.EOF) {
			return v.header(a, header{name: trailer, nlink: 1}, nil, nil)
		}
		if err != nil {
			return err
		}
		if first {
			h, err := mirror.describe(rootEntry())
			if err != nil {
				return err
			}
			if err := v.header(a, h, got, rootEntry()); err != nil {
				return err
			}
			continue
		}
		at, ok := v.image.find(got.Path)
		switch {
		case !ok:
			return fault.New(fault.Corrupt, "%.200q is not in the index", got.Path)
		case v.image.places[at] != n:
			return fault.New(fault.Corrupt, "%q is here, and in segment %d by the index", got.Path, v.image.places[at])
		case v.seen[at]:
			return fault.New(fault.Corrupt, "%q is there twice", got.Path)
		case v.image.isSkeleton(n) && at < last:
			return fault.New(fault.Corrupt, "%q is out of order", got.Path)
		}
		v.seen[at], last = true, at
		if err := v.entry(a, mirror, got, at); err != nil {
			return err
		}
	}
}

// entry compares an entry of an archive with the one of the index.
func (v *verifier) entry(a *Reader, mirror *Writer, got *Entry, at int) error {
	e := &v.image.entries[at]
	h, err := mirror.describe(e)
	if err != nil {
		return err
	}
	if err := v.header(a, h, got, e); err != nil {
		return err
	}
	if e.Type == Symlink && got.Link != e.Link {
		return fault.New(fault.Corrupt, "%q points to %.200q, and to %q by the index", e.Path, got.Link, e.Link)
	}
	if got.Size == 0 {
		return nil // another name of a hard-linked file, or an empty one, whose digest was looked at already
	}
	v.sum.Reset()
	if _, err := io.CopyBuffer(v.sum, a, v.buf); err != nil {
		return fmt.Errorf("reading %q: %w", e.Path, err)
	}
	if sum := chunk.ID(v.sum.Sum(v.head[:0])); sum != v.image.sums[at] {
		return fault.New(fault.Corrupt, "%q has the digest %s, and %s by the index", e.Path, sum.Short(), v.image.sums[at].Short())
	}
	return nil
}

// header compares the header that a has just read, of the entry got, with the one that Build writes for e.
func (v *verifier) header(a *Reader, want header, got, e *Entry) error {
	v.head = want.append(v.head[:0])
	if bytes.Equal(a.head[:], v.head[:newcHeader]) {
		return nil
	}
	if e == nil {
		return fault.New(fault.Corrupt, "its trailer is not the one that Build writes")
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"path", got.Path, e.Path}, {"type", got.Type, e.Type}, {"mode", fmt.Sprintf("%o", got.Mode), fmt.Sprintf("%o", e.Mode)},
		{"owner", fmt.Sprint(got.UID, ":", got.GID), fmt.Sprint(e.UID, ":", e.GID)}, {"size", got.Size, int64(want.size)},
		{"time", got.MTime, e.MTime}, {"device", fmt.Sprint(got.Major, ":", got.Minor), fmt.Sprint(e.Major, ":", e.Minor)},
		{"number of names", got.Links, e.Links},
	} {
		if e.Type == Symlink && (c.what == "size" || c.what == "mode") {
			continue // the length of its target, and always the same
		}
		if c.got != c.want {
			return fault.New(fault.Corrupt, "%.200q has the %s %v, and %v by the index", e.Path, c.what, c.got, c.want)
		}
	}
	return fault.New(fault.Corrupt, "%.200q has a header that Build does not write", e.Path)
}
