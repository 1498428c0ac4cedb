package cache

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// needs is what the catalog's images, overlays and site files need, as far as it is known: the segments of a version are known
// once its manifest was read. It is immutable.
type needs struct {
	of      *catalog.Catalog
	read    int64                   // manifests that had been read when it was made
	known   map[chunk.ID]known      // every chunk that may be asked for
	wanted  []chunk.Ref             // what should be here, the most needed first
	images  []version               // those that nodes or tags name
	unread  []chunk.Ref             // manifests of versions that nodes or tags name, not read yet
	blind   bool                    // one of them is of a version that stays: any chunk may belong to it
	version map[chunk.ID]*chunk.Ref // every version of every image, by its manifest's ID
}

// known is what is known of a chunk that the catalog names.
type known struct {
	size   int64
	public bool // nodes may have it without saying who they are
	pin    bool // nodes boot from it now, or will at their next boot: it stays, whatever the budget
	keep   bool // nodes booted from it before, and may have to again: nothing else takes its place
	want   bool // it should be here
	turn   turn // when it is fetched
}

// version is what a version of an image needs.
type version struct {
	manifest chunk.ID
	read     bool // its manifest was: else nobody knows all that it needs
	chunks   []chunk.Ref
}

// turn is the order in which chunks are fetched ahead.
type turn int

const (
	turnFirst  turn = iota // small, and every boot needs it
	turnKernel             // kernels and stage ones that nodes boot
	turnImage              // the rest of what nodes boot
	turnTagged             // what nodes might boot
)

func (n *needs) pinned(id chunk.ID) bool { return n.known[id].pin }

const (
	maxManifests = 512             // kept in memory
	searchEvery  = 2 * time.Second // all manifests are looked through for an unknown chunk so often at most
)

// present returns the needs of the catalog that is served now.
func (c *Cache) present() *needs {
	now, read := c.cfg.Catalog(), c.read.Load()
	if n := c.needs.Load(); n.of == now && n.read == read {
		return n
	}
	c.needsLock.Lock()
	defer c.needsLock.Unlock()
	if n := c.needs.Load(); n.of == now && n.read == read {
		return n
	}
	n := c.derive(now)
	c.needs.Store(n)
	return n
}

// derive works out what a catalog needs. Versions that nodes and profiles name come before those that only a tag
// names, and are pinned; others are served if somebody asks.
func (c *Cache) derive(cat *catalog.Catalog) *needs {
	n := &needs{of: cat, blind: cat.Revision == 0, known: map[chunk.ID]known{}, version: map[chunk.ID]*chunk.Ref{}}
	add := func(ref chunk.Ref, public, pin, want bool, at turn) {
		old, had := n.known[ref.ID]
		if had {
			at = min(at, old.turn)
		}
		n.known[ref.ID] = known{size: ref.Size, public: old.public || public, pin: old.pin || pin, keep: old.keep, want: old.want || want, turn: at}
		if want && !old.want {
			n.wanted = append(n.wanted, ref)
		}
	}
	for o := range cat.Overlays() {
		base, own := o.Layers()
		for _, ref := range []chunk.Ref{base, own} {
			if !ref.ID.IsZero() {
				add(ref, false, true, true, turnFirst)
			}
		}
	}
	for f := range cat.SiteFiles() { // overlays include them, so no rack boots without
		if !f.IsLink() {
			add(f.Content, false, true, true, turnFirst)
		}
	}
	used, looked := usedVersions(cat), hasWarewulf(cat)
	last := versionsBefore(cat, used)
	c.mu.Lock()
	defer c.mu.Unlock()
	n.read = c.read.Load()
	for _, pass := range []struct{ pin, want bool }{{true, true}, {false, true}, {false, false}} {
		for img := range cat.Images() {
			for _, v := range slices.Backward(img.Versions) {
				pin, tagged := used[v.Manifest.ID], last[v.Manifest.ID] || hasTag(img, v.Manifest.ID)
				if pin != pass.pin || (pin || tagged) != pass.want {
					continue
				}
				n.version[v.Manifest.ID] = &v.Manifest
				of := version{manifest: v.Manifest.ID}
				seen := map[chunk.ID]bool{}
				need := func(ref chunk.Ref, at turn) {
					add(ref, true, pass.pin, pass.want, at)
					if last[v.Manifest.ID] {
						k := n.known[ref.ID]
						k.keep = true
						n.known[ref.ID] = k
					}
					if !seen[ref.ID] {
						seen[ref.ID] = true
						of.chunks = append(of.chunks, ref)
					}
				}
				begin, rest := turnTagged, turnTagged
				if pass.pin {
					begin, rest = turnKernel, turnImage
				}
				need(v.Manifest, turnFirst)
				for _, k := range v.Kernels {
					need(k.Kernel, begin)
					need(k.StageOne, begin)
				}
				m, ok := c.manifests[v.Manifest.ID]
				of.read = ok
				switch {
				case ok:
					for _, s := range m.Segments {
						need(s.Ref, rest)
					}
					if !m.Extras.ID.IsZero() {
						need(m.Extras, rest)
					}
					if !m.Index.ID.IsZero() { // no node asks for it, but Warewulf's boots are made with it
						add(m.Index, true, looked && pass.pin, looked && pass.want, rest)
					}
				case pass.want:
					n.unread = append(n.unread, v.Manifest)
					n.blind = n.blind || pass.pin || last[v.Manifest.ID]
				}
				if pass.want {
					n.images = append(n.images, of)
				}
			}
		}
	}
	return n
}

// hasWarewulf tells whether relays look into images for somebody.
func hasWarewulf(cat *catalog.Catalog) bool {
	for n := range cat.Networks() {
		if n.Warewulf {
			return true
		}
	}
	return false
}

func hasTag(img *catalog.Image, id chunk.ID) bool {
	for _, t := range img.Tags {
		if t == id {
			return true
		}
	}
	return false
}

// usedVersions are those that a node or a profile names.
func usedVersions(cat *catalog.Catalog) map[chunk.ID]bool {
	names := map[string]bool{}
	for p := range cat.Profiles() {
		if p.Settings.Image != nil {
			names[*p.Settings.Image] = true
		}
	}
	for n := range cat.Nodes() {
		if n.Settings.Image != nil {
			names[*n.Settings.Image] = true
		}
	}
	used := map[chunk.ID]bool{}
	for name := range names {
		if _, v, ok := cat.ImageVersion(name); ok {
			used[v.Manifest.ID] = true
		}
	}
	return used
}

// versionsBefore are those that came before the used ones, so that a rollback finds them here.
func versionsBefore(cat *catalog.Catalog, used map[chunk.ID]bool) map[chunk.ID]bool {
	before := map[chunk.ID]bool{}
	for img := range cat.Images() {
		for i, v := range img.Versions[min(1, len(img.Versions)):] {
			if last := img.Versions[i].Manifest.ID; used[v.Manifest.ID] && !used[last] {
				before[last] = true
			}
		}
	}
	return before
}

// Public returns the reference of a chunk that anybody may have: the manifests, kernels, stage ones and segments of
// the catalog's images. Any other is fault.NotFound; fault.Unavailable, if it cannot be told now because a manifest
// is missing.
func (c *Cache) Public(ctx context.Context, id chunk.ID) (chunk.Ref, error) {
	n := c.present()
	if _, ok := n.version[id]; ok {
		// A manifest that the cluster did not sign is not handed out, even to those who would see it for themselves.
		if _, err := c.Manifest(ctx, id); err != nil {
			return chunk.Ref{}, err
		}
	}
	k, ok := n.known[id]
	if !ok {
		if err := c.readAllManifests(ctx); err != nil {
			return chunk.Ref{}, err
		}
		k, ok = c.present().known[id]
	}
	if !ok || !k.public {
		return chunk.Ref{}, fault.New(fault.NotFound, "no image of the catalog has the chunk %s", id.Short())
	}
	return chunk.Ref{ID: id, Size: k.size}, nil
}

// Size returns the size of a chunk that the catalog names or that is on disk.
func (c *Cache) Size(id chunk.ID) (int64, bool) {
	if k, ok := c.present().known[id]; ok {
		return k.size, true
	}
	return c.index.size(id)
}

// Manifest returns the manifest of a version that the catalog has, verified with the cluster's keys. It fetches it
// if need be; it is fault.NotFound if the catalog has no such version.
func (c *Cache) Manifest(ctx context.Context, id chunk.ID) (*chunk.Manifest, error) {
	n := c.present()
	ref, ok := n.version[id]
	if !ok {
		return nil, fault.New(fault.NotFound, "no image of the catalog has the version %s", id.Short())
	}
	c.mu.Lock()
	m, ok := c.manifests[id]
	c.mu.Unlock()
	if ok {
		return m, nil
	}
	b, err := c.ReadAll(ctx, *ref, chunk.MaxManifest)
	if err != nil {
		return nil, err
	}
	keys := make([]ed25519.PublicKey, 0, len(n.of.Cluster.ManifestKeys))
	for _, k := range n.of.Cluster.ManifestKeys {
		keys = append(keys, k)
	}
	if m, err = chunk.Open(b, keys); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.manifests) >= maxManifests {
		for old := range c.manifests {
			if _, ok := n.version[old]; !ok || len(c.manifests) >= maxManifests {
				delete(c.manifests, old)
			}
		}
	}
	c.manifests[id] = m
	c.read.Add(1)
	return m, nil
}

// readAllManifests reads the manifests of all versions, so that every chunk of the catalog's images is known.
func (c *Cache) readAllManifests(ctx context.Context) error {
	c.mu.Lock()
	soon := time.Since(c.searched) < searchEvery
	if !soon {
		c.searched = time.Now()
	}
	c.mu.Unlock()
	var missing []error
	for id := range c.present().version {
		c.mu.Lock()
		_, ok := c.manifests[id]
		c.mu.Unlock()
		if ok {
			continue
		}
		if soon {
			return fault.New(fault.Unavailable, "not all image manifests are here yet")
		}
		if _, err := c.Manifest(ctx, id); err != nil && !errors.Is(err, fault.Corrupt) {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return fault.Wrap(fault.Unavailable, missing[0], "not all image manifests can be read")
	}
	return nil
}
