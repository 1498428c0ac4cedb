// Package publish makes versions of node images: from a root file system, as a tar or a directory, to chunks in a
// store and a signed manifest that names them.
package publish

import (
	"bytes"
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
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
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
	Name   catalog.ImageName
	Tar    io.Reader
	Dir    string
	Label  string   // where it came from, for people
	Parent chunk.ID // the version that it was made from, if any
}

// tree is a Source that has something to close.
type tree interface {
	segment.Source
	Close() error
}

// Import builds a version and stores its chunks, durably, in the Publisher's store; its manifest is stored last.
// It returns the version and all chunks that it needs. When it fails nothing names what it has stored by then, and the
// store's collector removes it. Errors are fault.Invalid for an image that cannot boot or an archive that is not
// one, and fault.Full. Progress is called by one goroutine at a time.
func (p *Publisher) Import(ctx context.Context, s Source, progress func(api.ImportProgress)) (catalog.ImageVersion, []chunk.Ref, error) {
	fail := func(err error) (catalog.ImageVersion, []chunk.Ref, error) {
		return catalog.ImageVersion{}, nil, fmt.Errorf("image %s: %w", s.Name, err)
	}
	report := serial(progress)
	report(api.ImportProgress{Step: "reading"})
	src, err := p.open(ctx, s)
	if err != nil {
		return fail(err)
	}
	defer src.Close()
	kernels, err := stageone.FindKernels(src)
	if err != nil {
		return fail(err)
	}
	m := &chunk.Manifest{
		Format: chunk.ManifestFormat, Image: string(s.Name), Arch: kernels[0].Arch, Source: s.Label, Parent: s.Parent,
		Created: time.Now().UTC().Truncate(time.Second),
	}
	for _, k := range kernels {
		if k.Arch != m.Arch {
			return fail(fault.New(fault.Invalid, "it has kernels for both %s and %s", m.Arch, k.Arch))
		}
		built, err := p.kernel(ctx, src, k, report)
		if err != nil {
			return fail(err)
		}
		m.Kernels = append(m.Kernels, built)
	}
	if err := p.segments(ctx, src, m, report); err != nil {
		return fail(err)
	}
	signed, err := chunk.Sign(m, p.cfg.Key)
	if err != nil {
		return fail(err)
	}
	manifest, err := p.put(ctx, signed)
	if err != nil {
		return fail(err)
	}
	v := catalog.ImageVersion{
		Manifest: manifest, Arch: m.Arch, Kernels: m.Kernels, Size: m.Size(), Unpacked: m.Unpacked, Segments: len(m.Segments), Source: s.Label,
	}
	return v, append(m.Refs(), manifest), nil
}

func (p *Publisher) open(ctx context.Context, s Source) (tree, error) {
	if s.Tar != nil {
		return segment.OpenTar(ctxReader{ctx, s.Tar}, p.cfg.Work, segment.Limits{})
	}
	return segment.OpenDir(s.Dir, segment.Limits{})
}

// kernel stores a kernel and builds its stage one.
func (p *Publisher) kernel(ctx context.Context, src segment.Source, k stageone.Kernel, report func(api.ImportProgress)) (chunk.Kernel, error) {
	report(api.ImportProgress{Step: "stage one for kernel " + k.Version})
	agent, err := p.cfg.Agents(k.Arch)
	if err != nil {
		return chunk.Kernel{}, err
	}
	f, err := src.Open(k.Path)
	if err != nil {
		return chunk.Kernel{}, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, stageone.MaxKernel))
	if err != nil {
		return chunk.Kernel{}, fmt.Errorf("reading kernel %s: %w", k.Path, err)
	}
	first, err := stageone.Build(ctx, src, k, stageone.Options{Agent: agent, Trust: p.cfg.Trust})
	if err != nil {
		return chunk.Kernel{}, err
	}
	for _, w := range first.Warnings {
		report(api.ImportProgress{Warning: w})
	}
	out := chunk.Kernel{Version: k.Version, Path: k.Path}
	if out.Kernel, err = p.put(ctx, body); err != nil {
		return chunk.Kernel{}, err
	}
	if out.StageOne, err = p.put(ctx, first.Archive); err != nil {
		return chunk.Kernel{}, err
	}
	return out, nil
}

// segments cuts the whole tree and stores it.
func (p *Publisher) segments(ctx context.Context, src segment.Source, m *chunk.Manifest, report func(api.ImportProgress)) error {
	every := throttle(time.Second)
	r, err := segment.Build(ctx, src, segment.Options{
		Level: p.cfg.Level,
		Sink:  func(ref chunk.Ref, b []byte) error { return p.cfg.Chunks.Put(ctx, ref, bytes.NewReader(b)) },
		Progress: func(g segment.Progress) {
			if every() || g.Segments == g.Total {
				report(api.ImportProgress{Step: "segments", Done: int64(g.Segments), Total: int64(g.Total)})
			}
		},
	})
	if err != nil {
		return err
	}
	m.Segments, m.Index, m.Extras, m.Files, m.Unpacked = r.Segments, r.Index, r.Extras, r.Files, r.Unpacked
	if n := len(r.Special); n > 0 {
		report(api.ImportProgress{Warning: fmt.Sprintf("%d files have extended attributes or capabilities, which a one-stage boot loses; among them /%s", n, r.Special[0])})
	}
	return nil
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
