package segment

import (
	"errors"
	"io"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// An image as one plain archive, for readers that know no zstd, and that take the first trailer for the end, as cpio does.
// It is written segment by segment, so that who wants its end need not unpack its beginning.

// PlainSizes are the bytes of each segment's part of the plain archive, as the file index has it; and the last are those
// of its end. What is kept aside has no part.
func (i *Image) PlainSizes() []int64 {
	sizes := make([]int64, len(i.m.Segments)+1)
	align := func(n int64) int64 { return (n + newcAlign - 1) / newcAlign * newcAlign }
	seen := make(map[int]bool)
	total := int64(0)
	for n := range i.entries {
		e, place := &i.entries[n], i.places[n]
		if place >= len(i.m.Segments) {
			continue
		}
		size := align(int64(newcHeader + len(e.Path) + 1))
		switch {
		case e.Type == Symlink:
			size += align(int64(len(e.Link)))
		case e.Type == File && (e.Group == 0 || !seen[e.Group]):
			size += align(e.Size)
		}
		if e.Group > 0 {
			seen[e.Group] = true
		}
		sizes[place] += size
		total += size
	}
	for n := range i.m.Segments {
		if i.isSkeleton(n) { // which begins with the root itself
			size := align(int64(newcHeader + len(rootEntry().Path) + 1))
			sizes[n] += size
			total += size
		}
	}
	end := total + align(int64(newcHeader+len(trailer)+1))
	sizes[len(sizes)-1] = (end+archiveAlign-1)/archiveAlign*archiveAlign - total
	return sizes
}

// WritePlain writes the part n of the plain archive, from the segment as it is stored; the end needs none. Whether the
// segment's bytes are the right ones is the caller's to verify. What does not come out as PlainSizes has it is
// fault.Corrupt, when it is too late to take anything back.
func (i *Image) WritePlain(w io.Writer, n int, stored io.Reader) error {
	before := int64(0) // its alignment is all that counts
	out := NewWriter(w)
	if n == len(i.m.Segments) {
		sizes := i.PlainSizes()
		for _, size := range sizes[:n] {
			before += size
		}
		out.off = before
		return out.Close()
	}
	// Hard links go by their inodes' numbers, of which those of other segments must not be among.
	for _, s := range i.m.Segments[:n] {
		out.inode += uint32(s.Files)
	}
	z, err := i.zstd(stored)
	if err != nil {
		return err
	}
	defer i.release(z)
	in := NewReader(io.LimitReader(zstdReader{z}, i.m.Segments[n].Unpacked+1))
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = out.WriteEntry(e, in)
		}
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "segment %d", n)
		}
	}
	return nil
}
