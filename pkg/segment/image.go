package segment

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Opener reads a chunk from wherever it is kept. Whether the bytes are the right ones is the caller's to verify. Any
// number of goroutines may call it, and a large chunk is asked for twice.
type Opener func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error)

// Image is a Source that reads a published image: building it again gives the same chunks. It believes the manifest
// only. Every chunk is verified before anything of it is used.
type Image struct {
	ctx      context.Context
	m        *chunk.Manifest
	segments []chunk.Segment // of the manifest, those kept aside behind the others, as the index counts them
	fetch    Opener

	entries []Entry
	places  []int      // parallel to entries: the segment of each
	sums    []chunk.ID // parallel to entries: digests of content

	shelf   shelf
	decoder *zstd.Decoder
	streams sync.Pool // of *zstd.Decoder
}

// maxIndex bounds the file index of an image after decompression.
const maxIndex = 1 << 30

// OpenImage reads and checks the file index and the extras of an image; segments are fetched as files are opened,
// as long as ctx lasts. The index is taken as hostile as any archive: a path that is not clean, a parent that is no
// directory, entries out of order or in segments that cannot hold them are fault.Corrupt or fault.Invalid and named.
// Whether the segments hold what the index says is for Verify to find out.
func OpenImage(ctx context.Context, m *chunk.Manifest, open Opener) (*Image, error) {
	i := &Image{ctx: ctx, m: m, segments: slices.Concat(m.Segments, m.Aside), fetch: open}
	var err error
	i.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxWindow(window),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	if err := i.readIndex(); err != nil {
		return nil, fmt.Errorf("reading the file index of image %s: %w", m.Image, err)
	}
	if err := i.readExtras(); err != nil {
		return nil, fmt.Errorf("reading the extras of image %s: %w", m.Image, err)
	}
	return i, nil
}

// Entries lists the tree: see Source. What a node is not given is there as well.
func (i *Image) Entries() []Entry { return i.entries }

// Sum is the digest of a regular file's content, which the index knows. Another path is fault.NotFound or fault.Invalid.
func (i *Image) Sum(path string) (chunk.ID, error) {
	n, err := i.file(path)
	if err != nil {
		return chunk.ID{}, err
	}
	return i.sums[n], nil
}

// Aside tells whether the image keeps path from its nodes.
func (i *Image) Aside(path string) bool {
	n, ok := i.find(path)
	return ok && i.places[n] >= len(i.m.Segments)
}

// Open reads a regular file: see Source. Small segments are kept for a while after they were unpacked, as who reads
// one file of a directory reads its neighbours next.
func (i *Image) Open(path string) (io.ReadCloser, error) {
	n, err := i.file(path)
	if err != nil {
		return nil, err
	}
	e := &i.entries[n]
	if e.Size == 0 {
		return emptyFile{}, nil
	}
	s := i.segments[i.places[n]]
	var r io.ReadCloser
	if s.Unpacked <= smallSegment {
		r, err = i.small(e, s)
	} else {
		r, err = i.stream(e, s)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %q in segment %d, chunk %s: %w", path, i.places[n], s.ID.Short(), err)
	}
	return r, nil
}

type emptyFile struct{}

func (emptyFile) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyFile) Close() error             { return nil }

// find finds an entry by its path.
func (i *Image) find(path string) (int, bool) {
	return sort.Find(len(i.entries), func(n int) int { return ComparePaths(path, i.entries[n].Path) })
}

// file finds a regular file.
func (i *Image) file(path string) (int, error) {
	n, ok := i.find(path)
	if !ok {
		return 0, fault.New(fault.NotFound, "no file %q in the image", path)
	}
	if t := i.entries[n].Type; t != File {
		return 0, fault.New(fault.Invalid, "%q is a %s, not a file", path, t)
	}
	return n, nil
}
