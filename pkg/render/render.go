// Package render renders nodes' overlays from a catalog: it fetches what pkg/overlay takes as values, and keeps what many
// renderings share.
//
// Relays render with it what nodes get, controllers what would become of a change, and the command line what somebody
// looks at.
package render

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf/view"
)

// Chunks reads chunks from wherever they are, verified.
type Chunks interface {
	// ReadAll reads a chunk of at most limit bytes.
	ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error)
}

// Bounds of what a Renderer keeps, besides its memo.
const (
	maxBundles   = 64 << 20 // bytes of overlays
	maxIncludes  = 16 << 20 // bytes of files that templates include
	maxCatalogs  = 4
	bundleWeight = 4 // parsed, a bundle takes about so many times what it takes as a chunk
)

// Renderer renders nodes of one catalog after another. Any number of goroutines may use it.
type Renderer struct {
	chunks Chunks
	memo   *overlay.Memo

	bundles  *shelf[[2]chunk.ID, *overlay.Bundle]
	includes *shelf[include, []byte]
	images   sync.Mutex // an index takes much memory: one is opened at a time

	mu     sync.Mutex
	worlds []*world // the last ones first
}

type world struct {
	catalog *catalog.Catalog
	*overlay.World
}

// New makes a renderer that remembers renderings of about so many bytes.
func New(chunks Chunks, memory int) *Renderer {
	return &Renderer{chunks: chunks, memo: overlay.NewMemo(memory), bundles: newShelf[[2]chunk.ID, *overlay.Bundle](maxBundles), includes: newShelf[include, []byte](maxIncludes)}
}

// Stats tells how much was rendered and how much was there already.
func (r *Renderer) Stats() overlay.Stats { return r.memo.Stats() }

// Subject is a node that is rendered.
type Subject struct {
	Node    *catalog.Resolved
	Secrets overlay.Secrets
	Server  *overlay.Server // what it is told of the server, if not what the site says
}

// Node renders the overlays of those names for a node of the catalog, in order. It reaches for chunks, so it takes what
// that takes; what templates may take is bounded. A template that fails is fault.Invalid and says which, an overlay that
// does not exist fault.NotFound.
func (r *Renderer) Node(ctx context.Context, c *catalog.Catalog, s Subject, names []string) (*overlay.Result, error) {
	layers := make([]overlay.Layer, 0, len(names))
	for _, name := range names {
		l, err := r.Layer(ctx, c, catalog.OverlayName(name))
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return r.Layers(ctx, c, s, layers...)
}

// Layers renders overlays that are given.
func (r *Renderer) Layers(ctx context.Context, c *catalog.Catalog, s Subject, layers ...overlay.Layer) (*overlay.Result, error) {
	w, err := r.world(ctx, c)
	if err != nil {
		return nil, err
	}
	return overlay.Render(ctx, r.memo, overlay.View{World: w, Node: overlay.NodeOf(c, s.Node), Secrets: s.Secrets, Server: s.Server}, layers...)
}

// Layer is what the catalog has under the name of an overlay: the site's files over those that come with wulfmesh.
func (r *Renderer) Layer(ctx context.Context, c *catalog.Catalog, name catalog.OverlayName) (overlay.Layer, error) {
	declared, ok := c.Overlay(name)
	if !ok {
		return overlay.Layer{}, fault.New(fault.NotFound, "overlay %s does not exist", name).WithFix("see which there are: wulf overlay list")
	}
	b, err := r.Bundle(ctx, declared)
	if err != nil {
		return overlay.Layer{}, fault.Wrap(fault.KindOf(err), err, "overlay %s", name)
	}
	return overlay.Layer{Name: string(name), Bundle: b, Changed: declared.Changed.UTC()}, nil
}

// Bundle is the content of an overlay.
func (r *Renderer) Bundle(ctx context.Context, declared *catalog.Overlay) (*overlay.Bundle, error) {
	base, own := declared.Layers()
	key := [2]chunk.ID{base.ID, own.ID}
	if b, ok := r.bundles.get(key); ok {
		return b, nil
	}
	var parts [2]*overlay.Bundle
	for i, ref := range []chunk.Ref{base, own} {
		if ref.ID.IsZero() {
			continue
		}
		raw, err := r.chunks.ReadAll(ctx, ref, overlay.MaxBundle)
		if err != nil {
			return nil, err
		}
		if parts[i], err = overlay.Decode(raw); err != nil {
			return nil, err
		}
	}
	b := parts[0]
	if parts[1] != nil {
		var err error
		if b, err = overlay.Lay(parts[0], parts[1]); err != nil {
			return nil, err
		}
	}
	if b == nil {
		b = &overlay.Bundle{}
	}
	r.bundles.put(key, b, bundleWeight*int(base.Size+own.Size))
	return b, nil
}

// world is what all nodes of a catalog share.
func (r *Renderer) world(ctx context.Context, c *catalog.Catalog) (*overlay.World, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.worlds, func(w *world) bool { return w.catalog == c }); i >= 0 {
		return r.worlds[i].World, nil
	}
	w := &world{c, overlay.NewWorld(c, r)}
	if text, ok, err := r.siteText(ctx, c, catalog.SiteServerFile); err != nil {
		return nil, err
	} else if ok {
		s, err := view.ReadServer(text)
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "site file %s", catalog.SiteServerFile)
		}
		w.Server = &s
	}
	r.worlds = append([]*world{w}, r.worlds[:min(len(r.worlds), maxCatalogs-1)]...)
	return w.World, nil
}

// Server is what templates are told of Warewulf's server: what the site says, or what its packages have.
func (r *Renderer) Server(ctx context.Context, c *catalog.Catalog) (overlay.Server, error) {
	w, err := r.world(ctx, c)
	if err != nil {
		return overlay.Server{}, err
	}
	if w.Server == nil {
		return overlay.DefaultServer(), nil
	}
	return *w.Server, nil
}

func (r *Renderer) siteText(ctx context.Context, c *catalog.Catalog, path string) ([]byte, bool, error) {
	f, ok := c.SiteFile(path)
	if !ok || f.IsLink() {
		return nil, false, nil
	}
	text, err := r.ReadChunk(ctx, f.Content)
	return text, err == nil, err
}

// ReadChunk reads a site file for a template: see overlay.Reader.
func (r *Renderer) ReadChunk(ctx context.Context, ref chunk.Ref) ([]byte, error) {
	key := include{of: ref.ID}
	if b, ok := r.includes.get(key); ok {
		return b, nil
	}
	b, err := r.chunks.ReadAll(ctx, ref, catalog.MaxSiteFile)
	if err == nil {
		r.includes.put(key, b, len(b))
	}
	return b, err
}

// shelf keeps what was made, as long as all of it takes no more than so many bytes.
type shelf[K comparable, V any] struct {
	limit int

	mu    sync.Mutex
	held  map[K]V
	sizes map[K]int
	bytes int
}

func newShelf[K comparable, V any](limit int) *shelf[K, V] {
	return &shelf[K, V]{limit: limit, held: map[K]V{}, sizes: map[K]int{}}
}

func (s *shelf[K, V]) get(k K) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.held[k]
	return v, ok
}

// put keeps a value, at the cost of others if need be.
func (s *shelf[K, V]) put(k K, v V, size int) {
	size = cmp.Or(size, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[k]; ok || size > s.limit {
		return
	}
	for old, n := range s.sizes {
		if s.bytes+size <= s.limit {
			break
		}
		delete(s.held, old)
		delete(s.sizes, old)
		s.bytes -= n
	}
	s.held[k], s.sizes[k] = v, size
	s.bytes += size
}
