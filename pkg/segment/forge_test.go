package segment

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// A forgery is an image taken apart, to be changed and put together again with digests that are right: what a client
// with bad intentions can send.
type forgery struct {
	t        testing.TB
	segments []forgedSegment
	index    []IndexEntry
	extras   []extra
	manifest func(m *chunk.Manifest) // changes it at the end
}

type forgedSegment struct {
	entries []forgedEntry
	archive func(plain []byte) []byte // changes the archive, if set
	frame   func(plain []byte) []byte // compresses it, if not as usual
	chunk   func(b []byte) []byte     // changes the chunk after the manifest has its digest, if set
	drop    bool                      // from the manifest
	aside   bool                      // it is kept from nodes
}

type forgedEntry struct {
	Entry
	body string
}

// forge takes an image apart.
func forge(t testing.TB, b built) *forgery {
	t.Helper()
	f := &forgery{t: t}
	for _, s := range b.Segments {
		plain, _, err := Decompress(bytes.NewReader(b.chunks[s.ID]))
		if err != nil {
			t.Fatal(err)
		}
		var fs forgedSegment
		for r := NewReader(plain); ; {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			fs.entries = append(fs.entries, forgedEntry{*e, string(body)})
		}
		f.segments = append(f.segments, fs)
	}
	for x, err := range ReadIndex(bytes.NewReader(b.chunks[b.Index.ID]), maxIndex) {
		if err != nil {
			t.Fatal(err)
		}
		f.index = append(f.index, x)
	}
	if !b.Extras.ID.IsZero() {
		for x, err := range readExtras(bytes.NewReader(b.chunks[b.Extras.ID]), maxExtras) {
			if err != nil {
				t.Fatal(err)
			}
			f.extras = append(f.extras, x)
		}
	}
	return f
}

// at is the line of the index for a path.
func (f *forgery) at(path string) *IndexEntry {
	f.t.Helper()
	n := slices.IndexFunc(f.index, func(x IndexEntry) bool { return x.Path == path })
	if n < 0 {
		f.t.Fatalf("no %q in the index", path)
	}
	return &f.index[n]
}

// entry is what the archive of its segment has for a path.
func (f *forgery) entry(path string) *forgedEntry {
	f.t.Helper()
	s := &f.segments[f.at(path).Segment]
	n := slices.IndexFunc(s.entries, func(e forgedEntry) bool { return e.Path == path })
	if n < 0 {
		f.t.Fatalf("no %q in its segment", path)
	}
	return &s.entries[n]
}

// keep takes paths from the nodes: what is no file with content goes into a skeleton, the rest into one segment.
func (f *forgery) keep(paths ...string) {
	f.t.Helper()
	n := len(f.segments)
	skeleton := forgedSegment{aside: true, entries: []forgedEntry{{Entry: *rootEntry()}}}
	files := forgedSegment{aside: true}
	for _, path := range paths {
		x, e := f.at(path), f.entry(path)
		s := &f.segments[x.Segment]
		to := &skeleton
		if x.Segment > 0 {
			to = &files
		}
		to.entries = append(to.entries, *e)
		s.entries = slices.DeleteFunc(s.entries, func(e forgedEntry) bool { return e.Path == path })
		if x.Segment = n; to == &files {
			x.Segment++
		}
	}
	f.segments = append(f.segments, skeleton, files)
}

// seal puts the image together.
func (f *forgery) seal() (*chunk.Manifest, Opener) {
	f.t.Helper()
	m := &chunk.Manifest{Format: chunk.ManifestFormat, Image: "forged"}
	frame := oneFrame(f.t)
	chunks := make(map[chunk.ID][]byte)
	store := func(b []byte) chunk.Ref {
		ref := chunk.RefOf(b)
		chunks[ref.ID] = b
		return ref
	}
	for _, s := range f.segments {
		var plain bytes.Buffer
		w := NewWriter(&plain)
		for _, e := range s.entries {
			e.Size = int64(len(e.body))
			if err := w.WriteEntry(&e.Entry, bytes.NewReader([]byte(e.body))); err != nil {
				f.t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.t.Fatal(err)
		}
		b := plain.Bytes()
		if s.archive != nil {
			b = s.archive(b)
		}
		if s.frame == nil {
			s.frame = frame
		}
		ref := store(s.frame(b))
		if s.chunk != nil {
			chunks[ref.ID] = s.chunk(bytes.Clone(chunks[ref.ID]))
		}
		list := &m.Segments
		if s.aside {
			list = &m.Aside
		}
		if !s.drop {
			*list = append(*list, chunk.Segment{Ref: ref, Unpacked: int64(len(b)), Files: len(s.entries)})
		}
	}
	groups := make(map[int]bool)
	index, err := newLines(indexKind)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, x := range f.index {
		if x.Type == File && x.Segment < len(m.Segments) {
			m.Files++
			if !groups[x.Group] || x.Group == 0 {
				m.Unpacked += x.Size
			}
			groups[x.Group] = true
		}
		x.Path, x.RawPath = splitRaw(x.Path)
		x.Link, x.RawLink = splitRaw(x.Link)
		if err := index.enc.Encode(x); err != nil {
			f.t.Fatal(err)
		}
	}
	m.Index = store(frame(index.buf.Bytes()))
	if len(f.extras) > 0 {
		extras, err := newLines(extrasKind)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, x := range f.extras {
			x.Path, x.RawPath = splitRaw(x.Path)
			if err := extras.enc.Encode(x); err != nil {
				f.t.Fatal(err)
			}
		}
		m.Extras = store(frame(extras.buf.Bytes()))
	}
	if f.manifest != nil {
		f.manifest(m)
	}
	return m, built{chunks: chunks}.open
}

// oneFrame compresses as Build does; options change that.
func oneFrame(t testing.TB, o ...zstd.EOption) func([]byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, append([]zstd.EOption{zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1)}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	return func(plain []byte) []byte { return enc.EncodeAll(plain, nil) }
}

// verify puts the image together and verifies it.
func (f *forgery) verify(known ...*Image) error {
	f.t.Helper()
	m, open := f.seal()
	return Verify(context.Background(), m, open, known...)
}
