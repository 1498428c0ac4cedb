package chunks

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
)

// roots are the chunks that the catalog names itself. Of what the history remembers besides, only former contents of
// overlays and of site files are among them, which are small: taking changes back never brings a deleted version of an
// image back, and is refused where a tag would stand for one.
type roots struct {
	manifests []chunk.Ref // of images: they name further chunks
	contents  []chunk.Ref // of overlays and site files, as they are and as a revert would make them
}

func (r roots) equal(o roots) bool {
	return slices.Equal(r.manifests, o.manifests) && slices.Equal(r.contents, o.contents)
}

func rootsOf(c *catalog.Catalog) roots {
	var r roots
	for img := range c.Images() {
		for _, v := range img.Versions {
			r.manifests = append(r.manifests, v.Manifest)
		}
	}
	add := func(refs ...chunk.Ref) {
		for _, ref := range refs {
			if !ref.ID.IsZero() && !slices.Contains(r.contents, ref) {
				r.contents = append(r.contents, ref)
			}
		}
	}
	for o := range c.Overlays() {
		add(o.Base, o.Content)
	}
	for o := range c.FormerOverlays() {
		add(o.Content)
	}
	for f := range c.SiteFiles() {
		add(f.Content) // a link has none
	}
	for f := range formerFiles(c) {
		add(f.Content)
	}
	return r
}

// formerFiles yields the site files that taking changes back can bring back.
func formerFiles(c *catalog.Catalog) iter.Seq[*catalog.SiteFile] {
	return func(yield func(*catalog.SiteFile) bool) {
		for record := range c.History() {
			if record.Undo == nil {
				continue
			}
			for i := range record.Undo.Files {
				if !yield(&record.Undo.Files[i]) {
					return
				}
			}
		}
	}
}

// manifests remembers what manifests name, for they never change. Only those of present images are kept.
type manifests struct {
	mu   sync.Mutex
	refs map[chunk.ID][]chunk.Ref
}

// load returns the chunks that a manifest names, which must be in the store and properly signed.
func (m *manifests) load(ctx context.Context, s chunkstore.Store, c *catalog.Catalog, ref chunk.Ref) ([]chunk.Ref, error) {
	m.mu.Lock()
	refs, ok := m.refs[ref.ID]
	m.mu.Unlock()
	if ok {
		return refs, nil
	}
	b, err := chunkstore.ReadAll(ctx, s, ref.ID, min(ref.Size, chunk.MaxManifest))
	if err != nil {
		return nil, err
	}
	manifest, err := chunk.Open(b, c.Cluster.SigningKeys())
	if err != nil {
		return nil, err
	}
	refs = slices.DeleteFunc(manifest.Refs(), func(r chunk.Ref) bool { return r.ID.IsZero() })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refs[ref.ID] = refs
	return refs, nil
}

// named is what a manifest names, if that is known.
func (m *manifests) named(id chunk.ID) []chunk.Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refs[id]
}

// keep forgets the manifests that are not among those, and returns what they named, themselves included.
func (m *manifests) keep(present []chunk.Ref) (dropped []chunk.Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := make(map[chunk.ID][]chunk.Ref, len(present))
	for _, ref := range present {
		if refs, ok := m.refs[ref.ID]; ok {
			kept[ref.ID] = refs
		}
	}
	for id, refs := range m.refs {
		if _, ok := kept[id]; !ok {
			dropped = append(append(dropped, refs...), chunk.Ref{ID: id})
		}
	}
	m.refs = kept
	return dropped
}
