package segment

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// recall finds the segments that need not be made: those whose entries and contents are known to have become a chunk that
// the sink has. Where nothing tells whether a file has changed, it is read, which takes a tenth of compressing it.
func (b *builder) recall(ctx context.Context) error {
	if b.o.Known == nil {
		return nil
	}
	b.o.Known.begin()
	if b.o.Known.Empty() {
		return nil
	}
	if err := b.digests(ctx); err != nil {
		return err
	}
	found := make(map[int]chunk.Segment)
	var refs []chunk.Ref
	for i, entries := range b.plan {
		if s, ok := b.o.Known.segment(segmentKey(b.o.Level, entries, b.made[i].sums)); ok {
			found[i] = s
			refs = append(refs, s.Ref)
		}
	}
	has := func(chunk.ID) bool { return true }
	if b.o.Has != nil && len(refs) > 0 {
		have, err := b.o.Has(ctx, refs)
		if err != nil {
			return err
		}
		has = func(id chunk.ID) bool { return have[id] }
	}
	for i, s := range found {
		if has(s.ID) {
			b.made[i].Segment, b.made[i].done = s, true
		}
	}
	return nil
}

// digests finds the digest of each file's content.
func (b *builder) digests(ctx context.Context) error {
	var next atomic.Int64
	g, working := errgroup.WithContext(ctx)
	for range b.o.Workers {
		g.Go(func() error {
			buf := make([]byte, 256<<10)
			for working.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(b.plan) {
					return nil
				}
				if err := b.digestsOf(working, i, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (b *builder) digestsOf(ctx context.Context, i int, buf []byte) error {
	entries := b.plan[i]
	sums := make([]chunk.ID, len(entries))
	for j, e := range entries {
		var err error
		switch {
		case e.Type != File:
		case j > 0 && e.Group > 0 && entries[j-1].Group == e.Group:
			sums[j] = sums[j-1]
		default:
			sums[j], err = b.digest(ctx, e, buf)
		}
		if err != nil {
			return err
		}
	}
	b.made[i].sums = sums
	return nil
}

// digest is the digest of a file's content, which is read only if nothing else tells.
func (b *builder) digest(ctx context.Context, e *Entry, buf []byte) (sum chunk.ID, err error) {
	if e.Size == 0 {
		return chunk.Of(nil), nil
	}
	if image, ok := b.src.(interface {
		Sum(path string) (chunk.ID, error)
	}); ok {
		return image.Sum(e.Path)
	}
	stamp, stamped := b.stamp(e)
	if stamped {
		if sum, ok := b.o.Known.file(stamp); ok {
			return sum, nil
		}
	}
	f, err := b.src.Open(e.Path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{h}, io.LimitReader(ctxReader{ctx, f}, e.Size), buf)
	if err != nil {
		return sum, fmt.Errorf("reading %q: %w", e.Path, err)
	}
	if n != e.Size {
		return sum, fault.New(fault.Conflict, "file %q is shorter than its %d bytes", e.Path, e.Size)
	}
	b.read.Add(n)
	h.Sum(sum[:0])
	if stamped {
		b.o.Known.putFile(stamp, sum)
	}
	return sum, nil
}

// onlyWriter hides what else a writer can do, so that the buffer is used.
type onlyWriter struct{ io.Writer }

func (b *builder) stamp(e *Entry) (Stamp, bool) {
	s, ok := b.src.(stamper)
	if !ok {
		return Stamp{}, false
	}
	return s.Stamp(e.Path)
}

// learn notes what a segment was made of.
func (b *builder) learn(i int) {
	k := b.o.Known
	if k == nil {
		return
	}
	entries, m := b.plan[i], b.made[i]
	k.putSegment(segmentKey(b.o.Level, entries, m.sums), m.Segment)
	for j, e := range entries {
		if e.Type == File && e.Size > 0 {
			if s, ok := b.stamp(e); ok {
				k.putFile(s, m.sums[j])
			}
		}
	}
}
