// Package publish makes versions of node images: from a root file system, as a tar or a directory, to chunks in a
// store and a signed manifest that names them.
package publish

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Config says with what a Publisher works.
type Config struct {
	Chunks chunkstore.Store
	Key    ed25519.PrivateKey                // signs manifests
	Trust  []byte                            // trust.json for stage one
	Agents func(arch string) ([]byte, error) // wulf-agent for an architecture
	Work   string                            // directory for spooled archives; swept when the Publisher is made
	Level  int                               // of compression; 0: segment's default
	Log    *slog.Logger
}

// Publisher makes image versions, any number at once.
type Publisher struct{ cfg Config }

// New makes a Publisher.
func New(cfg Config) (*Publisher, error) {
	if err := durable.MkdirAll(cfg.Work, 0o700); err != nil {
		return nil, err
	}
	return &Publisher{cfg}, nil
}

// Source is what becomes a version: Tar, or the directory Dir of this machine.
type Source struct {
	Name  catalog.ImageName
	Tar   io.Reader
	Dir   string
	Draft api.ImageDraft // what is to be said of it; its segments are made here
}

// tree is a Source that has something to close.
type tree interface {
	segment.Source
	Close() error
}

// Import cuts a tree into segments, stores them, durably, in the Publisher's store, and finishes the version: see Finish.
// Errors are those of Finish, and fault.Invalid for an archive that is none.
func (p *Publisher) Import(ctx context.Context, s Source, parent *chunk.Ref, progress func(api.ImportProgress)) (Version, error) {
	report := serial(progress)
	report(api.ImportProgress{Step: "reading"})
	src, err := p.open(ctx, s)
	if err != nil {
		return Version{}, s.fail(err)
	}
	defer src.Close()
	w := work{Publisher: p, name: s.Name, draft: &s.Draft, report: report, believed: true}
	w.openParent(ctx, parent)
	if err := w.segments(ctx, src); err != nil {
		return Version{}, s.fail(err)
	}
	v, err := w.finish(ctx)
	return v, s.fail(err)
}

func (s Source) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("image %s: %w", s.Name, err)
}

func (p *Publisher) open(ctx context.Context, s Source) (tree, error) {
	if s.Tar != nil {
		return segment.OpenTar(ctxReader{ctx, s.Tar}, p.cfg.Work, segment.Limits{})
	}
	return segment.OpenDir(s.Dir, segment.Limits{})
}

// segments cuts the whole tree and stores it. What came of the parent's tree is not compressed again.
func (w *work) segments(ctx context.Context, src segment.Source) error {
	exclude, err := segment.ReadExcludes(src)
	if err != nil {
		return err
	}
	d := w.draft
	d.Level = cmp.Or(d.Level, w.cfg.Level, segment.DefaultLevel)
	known := segment.NewKnown()
	if w.oldImage != nil {
		known.Learn(w.oldImage)
	}
	every := throttle(time.Second)
	r, err := segment.Build(ctx, src, segment.Options{
		Level: d.Level, Exclude: exclude, Known: known, Has: w.has,
		Sink: func(ref chunk.Ref, b []byte) error { return w.cfg.Chunks.Put(ctx, ref, bytes.NewReader(b)) },
		Progress: func(g segment.Progress) {
			if every() || g.Segments == g.Total {
				w.report(api.ImportProgress{Step: "segments", Done: int64(g.Segments), Total: int64(g.Total)})
			}
		},
	})
	if err != nil {
		return err
	}
	d.Segments, d.Aside, d.Index, d.Extras, d.Files, d.Unpacked = r.Segments, r.Aside, r.Index, r.Extras, r.Files, r.Unpacked
	return nil
}

// has tells which chunks are still here.
func (w *work) has(ctx context.Context, refs []chunk.Ref) (map[chunk.ID]bool, error) {
	have := make(map[chunk.ID]bool, len(refs))
	for _, ref := range refs {
		n, err := w.cfg.Chunks.Stat(ctx, ref.ID)
		have[ref.ID] = err == nil && n == ref.Size
	}
	return have, nil
}

func (p *Publisher) put(ctx context.Context, b []byte) (chunk.Ref, error) {
	ref := chunk.RefOf(b)
	return ref, p.cfg.Chunks.Put(ctx, ref, bytes.NewReader(b))
}

// serial lets several goroutines report one after the other.
func serial(progress func(api.ImportProgress)) func(api.ImportProgress) {
	if progress == nil {
		return func(api.ImportProgress) {}
	}
	var mu sync.Mutex
	return func(g api.ImportProgress) {
		mu.Lock()
		defer mu.Unlock()
		progress(g)
	}
}

// throttle returns a function that is true once in a while, for one of those who call it at once.
func throttle(while time.Duration) func() bool {
	var mu sync.Mutex
	var last time.Time
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < while {
			return false
		}
		last = time.Now()
		return true
	}
}

// ctxReader ends a long read when nobody waits for it any more.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
