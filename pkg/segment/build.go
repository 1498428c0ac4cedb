package segment

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	// DefaultLevel, of compression, balances the time of one publication against bytes that every node fetches. A root of
	// 232 MB (make bench-image), in seconds of processor time and MB, beside find, cpio and zstd at the same level, on a
	// machine that had other work as well:
	//
	//	level            ours               theirs
	//	1           1.2   77.5          1.1   80.8
	//	3           1.4   73.9          1.3   72.9
	//	6           3.0   71.9          2.9   68.1
	//	7           2.8   71.9          3.9   67.5
	//	9           2.3   71.9          5.0   65.3
	//	12         13.7   67.7          9.7   64.8
	//	19         16.4   67.7        112.4   56.8
	//
	// The encoder has four levels, the third from 6 to 9. The fourth takes six times as long for 6 %. Unpacking takes
	// the same time at all levels.
	DefaultLevel = 7
	// defaultMemory bounds compressed segments that wait for the sink.
	defaultMemory = 512 << 20
)

// Options says how Build works. Only Level and Exclude have an influence on the bytes.
type Options struct {
	Level   int   // as zstd counts, 1 to 19; 0 is the default
	Workers int   // segments compressed at once; 0 is one a processor
	Memory  int64 // bytes of compressed segments held at once, about; one larger segment is built alone; 0 is 512 MiB

	// Exclude, if set, tells which paths are kept from nodes: see Result.Aside and ReadExcludes.
	Exclude func(path string) bool
	// Known, if set, saves reading and compressing what an earlier build has; it learns from this one.
	Known *Known
	// Has, if set, is asked once which chunks that are known the sink has still; without it, it has all of them.
	Has func(ctx context.Context, refs []chunk.Ref) (map[chunk.ID]bool, error)

	// Sink stores a chunk. It is called by several goroutines at once, in any order, and must not keep b.
	Sink func(ref chunk.Ref, b []byte) error
	// Progress, if set, is called after each segment, by several goroutines at once.
	Progress func(Progress)
}

// Progress says how far a Build is.
type Progress struct {
	Segments, Total int   // done, and to do in all
	Bytes, Stored   int64 // done: before compression and after
	Reused          int   // segments, of those done, that were known
	Read            int64 // bytes of files read
}

// Result is what Build made, in the words of chunk.Manifest.
type Result struct {
	Segments []chunk.Segment
	Aside    []chunk.Segment // what Exclude keeps from nodes: in the index these count on after Segments
	Index    chunk.Ref
	Extras   chunk.Ref // the zero Ref when cpio carried everything
	Files    int       // regular files that nodes are given, hard links counted once for each name
	Unpacked int64     // bytes of their content, hard links counted once
	Special  []string  // paths for nodes whose extended attributes only the agent restores: see the package comment
}

// Build cuts the tree into segments, compresses them and hands them, the file index and the extras to the sink.
// Equal trees and levels give equal bytes, whatever the number of workers. The first error, of the source or the
// sink, ends it; chunks that the sink took before then are of no use by themselves.
func Build(ctx context.Context, src Source, o Options) (*Result, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	if o.Level == 0 {
		o.Level = DefaultLevel
	}
	b := &builder{src: src, o: o}
	if err := b.divide(ctx, o.Exclude); err != nil {
		return nil, err
	}
	if err := b.recall(ctx); err != nil {
		return nil, err
	}
	if err := b.segments(ctx); err != nil {
		return nil, err
	}
	return b.result()
}

type builder struct {
	src     Source
	o       Options
	entries []Entry    // as divide numbers them
	plan    [][]*Entry // of segments, those kept aside last
	given   int        // segments for nodes
	made    []made     // parallel to plan

	done, bytes, stored, reused, read atomic.Int64
}

// made is one finished segment.
type made struct {
	chunk.Segment
	sums []chunk.ID // of the files' contents, parallel to the plan's entries; nil: not known yet
	done bool
}

// divide plans the segments.
func (b *builder) divide(ctx context.Context, exclude func(string) bool) error {
	all, given, aside := divide(b.src.Entries(), exclude)
	owners, err := owners(ctx, b.src, all)
	if err != nil {
		return err
	}
	b.entries = all
	b.plan = plan(all, given, owners)
	b.given = len(b.plan)
	if len(aside) > 0 {
		b.plan = append(b.plan, plan(all, aside, owners)...)
	}
	b.made = make([]made, len(b.plan))
	return nil
}

// segments builds all segments in parallel.
func (b *builder) segments(ctx context.Context) error {
	idle := make(chan *press, b.o.Workers)
	for range b.o.Workers {
		idle <- new(press)
	}
	budget := semaphore.NewWeighted(b.o.Memory)
	g, working := errgroup.WithContext(ctx)
	for _, w := range b.work() {
		if b.made[w.segment].done {
			b.finished(w.segment, 0)
			continue
		}
		// A compressed segment is no larger than its archive, give or take a few bytes a block.
		need := min(w.size, b.o.Memory)
		if budget.Acquire(working, need) != nil {
			break // g.Wait or ctx has the reason
		}
		var p *press
		select {
		case p = <-idle:
		case <-working.Done():
		}
		if p == nil {
			break
		}
		g.Go(func() error {
			defer func() { idle <- p; budget.Release(need) }()
			return b.segment(working, p, w.segment)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// work is a segment to build.
type work struct {
	segment int
	size    int64 // of its archive
}

// work lists the segments, the largest first: were one of those begun last, the other processors would wait for it.
func (b *builder) work() []work {
	list := make([]work, len(b.plan))
	for i, entries := range b.plan {
		list[i] = work{i, archiveSize(entries)}
	}
	slices.SortStableFunc(list, func(x, y work) int { return cmp.Compare(y.size, x.size) })
	return list
}

// segment builds the segment i.
func (b *builder) segment(ctx context.Context, p *press, i int) error {
	entries := b.plan[i]
	size := archiveSize(entries)
	sums := make([]chunk.ID, len(entries))
	out, err := p.compress(b.o.Level, size, func(w io.Writer) error {
		a := NewWriter(w)
		for j, e := range entries {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if j > 0 && e.Group > 0 && entries[j-1].Group == e.Group {
				sums[j] = sums[j-1]
			}
			if err := b.entry(ctx, a, e, &sums[j]); err != nil {
				return fmt.Errorf("building segment %d: %w", i, err)
			}
		}
		return a.Close()
	})
	if err != nil {
		return err
	}
	if old := b.made[i].sums; old != nil && !slices.Equal(old, sums) {
		return fault.New(fault.Conflict, "a file in the directory of %q changed while the image was being read", entries[0].Path).
			WithFix("stop what writes to the directory and try again")
	}
	ref := chunk.RefOf(out)
	if err := b.o.Sink(ref, out); err != nil {
		return fmt.Errorf("storing segment %d: %w", i, err)
	}
	b.made[i] = made{chunk.Segment{Ref: ref, Unpacked: size, Files: len(entries)}, sums, true}
	b.learn(i)
	b.finished(i, ref.Size)
	return nil
}

// finished tells of a segment that was made, or need not be.
func (b *builder) finished(i int, stored int64) {
	if stored == 0 {
		b.reused.Add(1)
	}
	g := Progress{
		Segments: int(b.done.Add(1)), Total: len(b.plan), Bytes: b.bytes.Add(b.made[i].Unpacked), Stored: b.stored.Add(stored),
		Reused: int(b.reused.Load()), Read: b.read.Load(),
	}
	if b.o.Progress != nil {
		b.o.Progress(g)
	}
}

// entry writes one entry and notes the digest of its content. A further name of a hard-linked file keeps the
// digest it came with.
func (b *builder) entry(ctx context.Context, a *Writer, e *Entry, sum *chunk.ID) error {
	n := normal(e)
	if e.Type != File || !sum.IsZero() {
		return a.WriteEntry(&n, nil)
	}
	h := sha256.New()
	if e.Size > 0 {
		f, err := b.src.Open(e.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := a.WriteEntry(&n, io.TeeReader(ctxReader{ctx, f}, h)); err != nil {
			return fmt.Errorf("reading %q: %w", e.Path, err)
		}
		b.read.Add(e.Size)
	} else if err := a.WriteEntry(&n, nil); err != nil {
		return err
	}
	h.Sum(sum[:0])
	return nil
}

// normal is e with the times that segments keep: see the package comment.
func normal(e *Entry) Entry {
	n := *e
	if n.Type != File {
		n.MTime = 0
	}
	n.MTime = min(max(n.MTime, 0), maxFile)
	return n
}

// result makes the index and the extras.
func (b *builder) result() (*Result, error) {
	r := &Result{}
	type place struct{ segment, entry int }
	places := make(map[*Entry]place)
	for i, m := range b.made {
		if i < b.given {
			r.Segments = append(r.Segments, m.Segment)
		} else {
			r.Aside = append(r.Aside, m.Segment)
		}
		for j, e := range b.plan[i] {
			places[e] = place{i, j}
		}
	}
	index, err := newLines(indexKind)
	if err != nil {
		return nil, err
	}
	extras, err := newLines(extrasKind)
	if err != nil {
		return nil, err
	}
	special, counted := false, make(map[int]bool)
	for i := range b.entries {
		e := &b.entries[i]
		at := places[e]
		n := normal(e)
		if err := index.enc.Encode(newIndexEntry(&n, at.segment, b.made[at.segment].sums[at.entry])); err != nil {
			return nil, err
		}
		if e.Type == File && at.segment < b.given {
			r.Files++
			if e.Group == 0 || !counted[e.Group] {
				r.Unpacked += e.Size
			}
			counted[e.Group] = true
		}
		if len(e.Xattrs) > 0 {
			if at.segment < b.given {
				r.Special = append(r.Special, e.Path)
			}
			special = true
			if err := extras.enc.Encode(newExtra(e)); err != nil {
				return nil, err
			}
		}
	}
	if r.Index, err = b.store(&index.buf); err != nil {
		return nil, fmt.Errorf("storing the file index: %w", err)
	}
	if special {
		if r.Extras, err = b.store(&extras.buf); err != nil {
			return nil, fmt.Errorf("storing the extras: %w", err)
		}
	}
	return r, nil
}

// store compresses a chunk of lines and hands it to the sink. All of it is in memory already, so that the encoder needs
// none for its window: an eighth of a build before which nothing has changed.
func (b *builder) store(lines *bytes.Buffer) (chunk.Ref, error) {
	enc, err := newEncoder(b.o.Level)
	if err != nil {
		return chunk.Ref{}, err
	}
	defer enc.Close()
	out := enc.EncodeAll(lines.Bytes(), nil)
	ref := chunk.RefOf(out)
	return ref, b.o.Sink(ref, out)
}

// ctxReader ends a long read when ctx ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
