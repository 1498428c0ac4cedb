package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	// smallSegment is the most bytes of an archive that is unpacked as a whole and kept for the next file; only files
	// that are a segment of their own are larger.
	smallSegment = 8 << 20
	// shelfSize bounds the unpacked segments that an Image keeps. What is being read when it leaves the shelf is
	// there until its last reader is done.
	shelfSize = 64 << 20
	// heldChunk is the largest chunk that is held in memory while it is verified. A larger one is read twice.
	heldChunk = 16 << 20
)

// verified opens a chunk whose bytes are the right ones.
func (i *Image) verified(ref chunk.Ref) (io.ReadCloser, error) {
	if ref.Size <= heldChunk {
		b, err := i.whole(ref)
		return io.NopCloser(bytes.NewReader(b)), err
	}
	first, err := i.check(i.ctx, ref)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	if _, err := io.Copy(io.Discard, first); err != nil {
		return nil, err
	}
	return i.check(i.ctx, ref) // again: the second answer may be another one
}

// whole reads a chunk into memory and verifies it.
func (i *Image) whole(ref chunk.Ref) ([]byte, error) {
	in, err := i.check(i.ctx, ref)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b := bytes.NewBuffer(make([]byte, 0, max(ref.Size, 0)+bytes.MinRead))
	_, err = b.ReadFrom(in)
	return b.Bytes(), err
}

// check opens a chunk that gives an error in place of its end unless it is the right one.
func (i *Image) check(ctx context.Context, ref chunk.Ref) (*checked, error) {
	in, err := i.fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &checked{ctx: ctx, in: in, v: chunk.NewVerifier(ref)}, nil
}

// checked verifies a chunk as it is read.
type checked struct {
	ctx context.Context
	in  io.ReadCloser
	v   *chunk.Verifier
	err error // the first one stays, also when a decoder on the way made another one of it
}

func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.ctx.Err() != nil {
		c.err = context.Cause(c.ctx)
		return 0, c.err
	}
	n, err := c.in.Read(p)
	if _, long := c.v.Write(p[:n]); long != nil {
		n, err = 0, long
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF
		if wrong := c.v.Verify(); wrong != nil {
			err = wrong
		}
	}
	c.err = err
	return n, err
}

func (c *checked) Close() error { return c.in.Close() }

// A shelf keeps the last unpacked segments.
type shelf struct {
	mu   sync.Mutex
	kept []*unpacked // the last used one is last
	size int64
}

// unpacked is a small segment, whose files are found by their names.
type unpacked struct {
	id    chunk.ID
	size  int64
	load  sync.Once
	err   error
	files map[string][]byte
}

// take returns the segment of the shelf, which may have to be loaded.
func (s *shelf) take(of chunk.Segment) *unpacked {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := slices.IndexFunc(s.kept, func(u *unpacked) bool { return u.id == of.ID && u.size == of.Unpacked })
	if n >= 0 {
		u := s.kept[n]
		s.kept = append(slices.Delete(s.kept, n, n+1), u)
		return u
	}
	u := &unpacked{id: of.ID, size: of.Unpacked}
	s.kept = append(s.kept, u)
	for s.size += u.size; s.size > shelfSize; {
		s.size -= s.kept[0].size
		s.kept = slices.Delete(s.kept, 0, 1)
	}
	return u
}

// drop forgets a segment that could not be loaded: the next one who asks may have more luck.
func (s *shelf) drop(u *unpacked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := slices.Index(s.kept, u); n >= 0 {
		s.kept = slices.Delete(s.kept, n, n+1)
		s.size -= u.size
	}
}

// small reads a file of a small segment.
func (i *Image) small(e *Entry, s chunk.Segment) (io.ReadCloser, error) {
	u := i.shelf.take(s)
	u.load.Do(func() { u.err = i.load(u, s) })
	if u.err != nil {
		i.shelf.drop(u)
		return nil, u.err
	}
	content, ok := u.files[e.Path]
	if !ok {
		return nil, fault.New(fault.Corrupt, "it is not there")
	}
	if int64(len(content)) != e.Size {
		return nil, fault.New(fault.Corrupt, "it has %d bytes there, and %d in the index", len(content), e.Size)
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

// load unpacks a small segment.
func (i *Image) load(u *unpacked, s chunk.Segment) error {
	if s.Size > heldChunk || s.Unpacked < 0 {
		return fault.New(fault.Corrupt, "it has %d bytes, and %d unpacked", s.Size, s.Unpacked)
	}
	b, err := i.whole(s.Ref)
	if err != nil {
		return err
	}
	plain, err := i.decoder.DecodeAll(b, make([]byte, 0, s.Unpacked))
	if err != nil {
		return fault.Wrap(fault.Corrupt, err, "decompressing")
	}
	u.files = make(map[string][]byte)
	names := make(map[int][]string) // of hard links, any of which may have come with the content
	r := NewReader(bytes.NewReader(plain))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Group > 0 {
			names[e.Group] = append(names[e.Group], e.Path)
		}
		if e.Size == 0 {
			if first := names[e.Group]; len(first) > 0 {
				u.files[e.Path] = u.files[first[0]]
			}
			continue
		}
		if r.off+e.Size > int64(len(plain)) {
			return fault.New(fault.Corrupt, "%q ends behind its end", e.Path)
		}
		content := plain[r.off : r.off+e.Size]
		u.files[e.Path] = content
		for _, name := range names[e.Group] {
			u.files[name] = content
		}
	}
}

// stream reads a file of a large segment: nearly always it is the only one there.
func (i *Image) stream(e *Entry, s chunk.Segment) (io.ReadCloser, error) {
	in, err := i.verified(s.Ref)
	if err != nil {
		return nil, err
	}
	f := &streamed{image: i, in: in}
	if f.z, err = i.zstd(in); err == nil {
		f.a = NewReader(io.LimitReader(zstdReader{f.z}, s.Unpacked+1))
		err = f.seek(e)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// streamed is a file of a segment that is unpacked as it is read.
type streamed struct {
	image *Image
	in    io.ReadCloser
	z     *zstd.Decoder
	a     *Reader
}

// seek goes to the content of e, which is with any of its names.
func (f *streamed) seek(e *Entry) error {
	for {
		got, err := f.a.Next()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Corrupt, "it is not there")
		}
		if err != nil {
			return err
		}
		n, ok := f.image.find(got.Path)
		if !ok || got.Size == 0 || got.Path != e.Path && (e.Group == 0 || f.image.entries[n].Group != e.Group) {
			continue
		}
		if got.Size != e.Size {
			return fault.New(fault.Corrupt, "it has %d bytes there, and %d in the index", got.Size, e.Size)
		}
		return nil
	}
}

// Read gives the end of the file only after the end of the chunk, and with it the digest, was seen.
func (f *streamed) Read(p []byte) (int, error) {
	n, err := f.a.Read(p)
	if err != nil { // what is wrong with the chunk itself explains all else
		if _, err := io.Copy(io.Discard, f.in); err != nil {
			return n, fmt.Errorf("reading a chunk: %w", err)
		}
	}
	return n, err
}

func (f *streamed) Close() error {
	if f.z != nil {
		f.image.release(f.z)
		f.z = nil
	}
	return f.in.Close()
}

// zstd returns a decoder of a stream; give it back with release.
func (i *Image) zstd(r io.Reader) (*zstd.Decoder, error) {
	if z, ok := i.streams.Get().(*zstd.Decoder); ok {
		return z, z.Reset(r)
	}
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true))
}

func (i *Image) release(z *zstd.Decoder) {
	if z.Reset(nil) == nil { // lets go of the reader
		i.streams.Put(z)
	}
}
