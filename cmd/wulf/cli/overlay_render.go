package cli

import (
	"context"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// layerOf is the content of an overlay as templates are told of it.
func layerOf(c *catalog.Catalog, name string, b *overlay.Bundle) overlay.Layer {
	l := overlay.Layer{Name: name, Bundle: b}
	if o, ok := c.Overlay(catalog.OverlayName(name)); ok {
		l.Changed = o.Changed.UTC()
	}
	return l
}

// renderAll makes of overlays what a node would get of all together. Rendering is pure, so it happens here, on the catalog.
func (cl *client) renderAll(c *catalog.Catalog, node string, layers ...overlay.Layer) (*overlay.Result, error) {
	r, err := c.Resolve(catalog.NodeName(node))
	if err != nil {
		return nil, err
	}
	return render.New(clientChunks{cl}, 0).Layers(cl.ctx, c, render.Subject{Node: r, Secrets: overlay.HiddenSecrets()}, layers...)
}

// asBundle are rendered files as an overlay without templates.
func asBundle(made *overlay.Result) *overlay.Bundle {
	out := &overlay.Bundle{Format: overlay.Format, Hooks: made.Hooks}
	for _, f := range made.Files {
		out.Files = append(out.Files, overlay.File{Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Content: f.Content, Target: f.Target, Xattrs: f.Xattrs})
	}
	return out
}

// clientChunks are the controllers' chunks as pkg/render asks for them.
type clientChunks struct{ cl *client }

// ReadAll reads a chunk whole.
func (c clientChunks) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	if ref.Size > limit {
		return nil, fault.New(fault.Invalid, "chunk %s has %d bytes, more than %d", ref.ID.Short(), ref.Size, limit)
	}
	return fetchChunk(ctx, c.cl, ref)
}

// catalog fetches the whole declared state. The snapshot that a controller has at hand may be some changes old, so it
// is asked for those, too.
func (cl *client) catalog() (*catalog.Catalog, error) {
	news, err := cl.Catalog(cl.ctx, 0, 0)
	if err == nil && news.Snapshot == nil {
		err = fault.New(fault.Internal, "the controller sent no catalog")
	}
	if err != nil {
		return nil, unreached(err)
	}
	c := news.Snapshot
	if news, err = cl.Catalog(cl.ctx, c.Revision, 0); err != nil {
		return nil, unreached(err)
	}
	if news.Snapshot != nil {
		return news.Snapshot, nil
	}
	return api.Follow(c, news.Delta)
}
