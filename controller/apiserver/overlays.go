package apiserver

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// getOverlay sends the content of an overlay: what nodes get, or with ?layer= only what comes with wulfmesh or what is
// the site's.
func (s *Server) getOverlay(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	o, err := overlayOf(c, r)
	if err != nil {
		return err
	}
	if o, err = overlayAt(c, r, o); err != nil {
		return err
	}
	base, own := o.Layers()
	tag := base.ID.Short() + "-" + own.ID.Short()
	switch layer := r.URL.Query().Get("layer"); layer {
	case "":
	case api.LayerBase:
		base, own, tag = o.Base, chunk.Ref{}, contentTag(o.Base.ID)
	case api.LayerOwn:
		base, tag = chunk.Ref{}, contentTag(o.Content.ID)
	default:
		return fault.New(fault.Invalid, "an overlay has the layers %s and %s, not %.40q", api.LayerBase, api.LayerOwn, layer)
	}
	if unchanged(w, r, `"`+tag+`"`) {
		return nil
	}
	var b *overlay.Bundle
	if base.ID.IsZero() { // the site's part may take shipped files away, and says so
		b, err = s.bundle(r.Context(), own)
	} else {
		b, err = s.laid(r.Context(), base, own)
	}
	if err != nil {
		return err
	}
	raw, err := b.Encode()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(raw) // a client that is gone asks again
	return nil
}

// overlayAt is an overlay as the site had it at the revision that a request names. One that there was not had no files.
func overlayAt(c *catalog.Catalog, r *http.Request, now *catalog.Overlay) (*catalog.Overlay, error) {
	text := r.URL.Query().Get("at")
	if text == "" {
		return now, nil
	}
	rev, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%.40q is no revision", text)
	}
	at, err := c.OverlayAt(now.Name, catalog.Revision(rev))
	if at == nil {
		at = &catalog.Overlay{Name: now.Name}
	}
	return at, err
}

// overlayOf is the overlay that a request is about.
func overlayOf(c *catalog.Catalog, r *http.Request) (*catalog.Overlay, error) {
	name := catalog.OverlayName(r.PathValue("name"))
	o, ok := c.Overlay(name)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no overlay %.80q", name).WithFix("see which there are: wulf overlay list")
	}
	return o, nil
}

// contentTag names the content of a layer in ETag and If-Match.
func contentTag(id chunk.ID) string {
	if id.IsZero() {
		return api.NoContent
	}
	return id.String()
}

// laid is the content of both layers together.
func (s *Server) laid(ctx context.Context, base, own chunk.Ref) (*overlay.Bundle, error) {
	shipped, err := s.bundle(ctx, base)
	if err != nil {
		return nil, err
	}
	site, err := s.bundle(ctx, own)
	if err != nil {
		return nil, err
	}
	return overlay.Lay(shipped, site)
}

// bundle reads the content of a layer, which is empty if there is none. What this controller has not got yet, another one has.
func (s *Server) bundle(ctx context.Context, ref chunk.Ref) (*overlay.Bundle, error) {
	if ref.ID.IsZero() {
		return overlay.NewBundle(nil)
	}
	raw, err := s.content(ctx, ref, overlay.MaxBundle)
	if err != nil {
		return nil, err
	}
	return overlay.Decode(raw)
}

// content reads a chunk that the catalog names, which this controller may not have yet.
func (s *Server) content(ctx context.Context, ref chunk.Ref, most int64) ([]byte, error) {
	store := s.cfg.Chunks.Store()
	raw, err := chunkstore.ReadAll(ctx, store, ref.ID, most)
	if errors.Is(err, fault.NotFound) {
		if err = s.cfg.Chunks.Obtain(ctx, ref); err == nil {
			raw, err = chunkstore.ReadAll(ctx, store, ref.ID, most)
		}
	}
	return raw, err
}
