package publish

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
	"github.com/wulfmesh/wulfmesh/pkg/stageone"
)

// Version is a finished version, which nothing refers to yet.
type Version struct {
	catalog.ImageVersion
	Chunks []chunk.Ref // all that it needs, its manifest the last
}

// Finish makes a version of segments that are in the Publisher's store already, wherever they were made: it holds each
// one against the file index, finds the kernels, builds their stages one and signs the manifest, which is stored last.
// Segments and stages one that are the parent's are not looked at or built again; a draft that is the parent all over is
// the parent's version. When it fails nothing names what it has stored by then, and the store's collector removes it.
// Errors are fault.Invalid for an image that cannot boot, fault.Corrupt for a draft that is not what it says,
// fault.NotFound for a chunk that is not here, and fault.Full. Progress is called by one goroutine at a time.
func (p *Publisher) Finish(ctx context.Context, name catalog.ImageName, d api.ImageDraft, parent *chunk.Ref, progress func(api.ImportProgress)) (Version, error) {
	w := work{Publisher: p, name: name, draft: &d, report: serial(progress)}
	w.openParent(ctx, parent)
	v, err := w.finish(ctx)
	if err != nil {
		return Version{}, fmt.Errorf("image %s: %w", name, err)
	}
	return v, nil
}

// work is one version in the making.
type work struct {
	*Publisher
	name     catalog.ImageName
	draft    *api.ImageDraft
	report   func(api.ImportProgress)
	believed bool // its segments were made by this process

	old      *chunk.Manifest // of the version that it is made of; nil if there is none that can be read
	oldImage *segment.Image
}

func (w *work) finish(ctx context.Context) (Version, error) {
	d := w.draft
	m := &chunk.Manifest{
		Format: chunk.ManifestFormat, Image: string(w.name), Source: d.Source, Parent: d.Parent,
		Created: time.Now().UTC().Truncate(time.Second),
		Level:   d.Level, Segments: d.Segments, Aside: d.Aside, Index: d.Index, Extras: d.Extras, Files: d.Files, Unpacked: d.Unpacked,
	}
	image, err := segment.OpenImage(ctx, m, w.chunk)
	if err != nil {
		return Version{}, err
	}
	if !w.believed {
		w.report(api.ImportProgress{Step: "checking"})
		var known []*segment.Image
		if w.oldImage != nil {
			known = append(known, w.oldImage)
		}
		if err := image.Verify(known...); err != nil {
			return Version{}, err
		}
	}
	if err := w.kernels(ctx, image, m); err != nil {
		return Version{}, err
	}
	if old := w.old; old != nil && same(m, old) {
		m.Created, m.Source, m.Parent, m.Image = old.Created, old.Source, old.Parent, old.Image
	} else {
		w.warn(image)
	}
	signed, err := chunk.Sign(m, w.cfg.Key)
	if err != nil {
		return Version{}, err
	}
	manifest, err := w.put(ctx, signed)
	if err != nil {
		return Version{}, err
	}
	return Version{catalog.ImageVersion{
		Manifest: manifest, Arch: m.Arch, Kernels: m.Kernels, Size: m.Size(), Unpacked: m.Unpacked, Segments: len(m.Segments),
		Source: m.Source, Parent: m.Parent,
	}, append(m.Refs(), manifest)}, nil
}

// same tells whether two manifests describe one image.
func same(a, b *chunk.Manifest) bool {
	return a.Level == b.Level && a.Index == b.Index && a.Extras == b.Extras && slices.Equal(a.Segments, b.Segments) &&
		slices.Equal(a.Aside, b.Aside) && slices.Equal(a.Kernels, b.Kernels)
}

// openParent opens the version that the draft was made from. It only saves work: where it cannot be read, the work is done.
func (w *work) openParent(ctx context.Context, ref *chunk.Ref) {
	if ref == nil {
		return
	}
	b, err := chunkstore.ReadAll(ctx, w.cfg.Chunks, ref.ID, chunk.MaxManifest)
	if err != nil {
		return
	}
	m, err := chunk.Open(b, []ed25519.PublicKey{w.cfg.Key.Public().(ed25519.PublicKey)})
	if err != nil {
		return
	}
	image, err := segment.OpenImage(ctx, m, w.chunk)
	if err != nil {
		return
	}
	w.old, w.oldImage = m, image
}

func (w *work) chunk(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
	return w.cfg.Chunks.Open(ctx, ref.ID)
}

// kernels finds the kernels and gives each its stage one.
func (w *work) kernels(ctx context.Context, image *segment.Image, m *chunk.Manifest) error {
	found, err := stageone.FindKernels(image)
	if err != nil {
		return err
	}
	m.Arch = found[0].Arch
	for _, k := range found {
		if k.Arch != m.Arch {
			return fault.New(fault.Invalid, "it has kernels for both %s and %s", m.Arch, k.Arch).WithFix("make an image for each")
		}
		made, err := w.kernel(ctx, image, k)
		if err != nil {
			return err
		}
		m.Kernels = append(m.Kernels, made)
	}
	return nil
}

// kernel stores a kernel and its stage one, or takes both from the parent.
func (w *work) kernel(ctx context.Context, image *segment.Image, k stageone.Kernel) (chunk.Kernel, error) {
	agent, err := w.cfg.Agents(k.Arch)
	if err != nil {
		return chunk.Kernel{}, err
	}
	options := stageone.Options{Agent: agent, Trust: w.cfg.Trust}
	out := chunk.Kernel{Version: k.Version, Path: k.Path}
	if out.Inputs, err = stageone.Inputs(image, k, options); err != nil {
		return chunk.Kernel{}, err
	}
	if have, ok := w.have(ctx, out.Inputs, k); ok {
		return have, nil // and what there was to warn of was said then
	}
	w.report(api.ImportProgress{Step: "stage one for kernel " + k.Version})
	body, err := stageone.ReadKernel(image, k)
	if err != nil {
		return chunk.Kernel{}, err
	}
	first, err := stageone.Build(ctx, image, k, options)
	if err != nil {
		return chunk.Kernel{}, err
	}
	for _, warning := range first.Warnings {
		w.report(api.ImportProgress{Warning: warning})
	}
	if out.Kernel, err = w.put(ctx, body); err != nil {
		return chunk.Kernel{}, err
	}
	out.StageOne, err = w.put(ctx, first.Archive)
	return out, err
}

// have finds the kernel of the parent that was made of the same, if its chunks are still here.
func (w *work) have(ctx context.Context, inputs chunk.ID, k stageone.Kernel) (chunk.Kernel, bool) {
	old := w.old
	if old == nil {
		return chunk.Kernel{}, false
	}
	at := slices.IndexFunc(old.Kernels, func(o chunk.Kernel) bool { return o.Inputs == inputs && o.Path == k.Path && o.Version == k.Version })
	if at < 0 {
		return chunk.Kernel{}, false
	}
	for _, ref := range []chunk.Ref{old.Kernels[at].Kernel, old.Kernels[at].StageOne} {
		if n, err := w.cfg.Chunks.Stat(ctx, ref.ID); err != nil || n != ref.Size {
			return chunk.Kernel{}, false
		}
	}
	return old.Kernels[at], true
}

// warn says what a one-stage boot loses.
func (w *work) warn(image *segment.Image) {
	first, n := "", 0
	for _, e := range image.Entries() {
		if len(e.Xattrs) > 0 {
			if n++; n == 1 {
				first = e.Path
			}
		}
	}
	if n > 0 {
		w.report(api.ImportProgress{Warning: fmt.Sprintf("%d files have extended attributes or capabilities, which a one-stage boot loses; among them /%s", n, first)})
	}
}
