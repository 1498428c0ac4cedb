package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// Bounds of a trial. Nodes with the same profiles mostly fail alike, so that few are enough to find what somebody just
// broke; wulf overlay check renders for all.
const (
	trialNodes  = 32
	trialTime   = 2 * time.Second
	trialMemory = 16 << 20 // bytes, so that what all nodes share is rendered once
)

// tryOut renders the templates that a write changes, for some of the nodes that have the overlay. What fails is
// fault.Invalid with template, line, node and reason. That the time is over before all were tried is no failure.
func (s *Server) tryOut(ctx context.Context, c *catalog.Catalog, x *overlayWrite) error {
	changed, err := s.changed(ctx, x)
	if err != nil || len(changed.Files) == 0 {
		return err
	}
	short, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	renderer := render.New(chunkReader{s}, trialMemory)
	layer := overlay.Layer{Name: string(x.name), Bundle: changed, Changed: x.now.Changed.UTC()}
	for _, n := range trialOf(c, x.name) {
		r, err := c.Resolve(n.Name)
		if err != nil {
			return err
		}
		_, err = renderer.Layers(short, c, render.Subject{Node: r, Secrets: overlay.HiddenSecrets()}, layer)
		switch {
		case short.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fault.Invalid):
			return err
		}
	}
	return nil
}

// chunkReader are the controller's chunks as pkg/render asks for them.
type chunkReader struct{ s *Server }

// ReadAll reads a chunk whole, from another controller if need be.
func (r chunkReader) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	return r.s.content(ctx, ref, limit)
}

// changed are the templates that a write brings, as a bundle of their own: others are not its fault.
func (s *Server) changed(ctx context.Context, x *overlayWrite) (*overlay.Bundle, error) {
	base, own := x.now.Layers()
	was, err := s.laid(ctx, base, own)
	if err != nil {
		return nil, err
	}
	files := slices.DeleteFunc(slices.Clone(x.own.Files), func(f overlay.File) bool {
		old, ok := was.File(f.Path)
		return !f.Template || ok && old.Template && string(old.Content) == string(f.Content)
	})
	return overlay.NewBundle(files)
}

// trialOf are nodes that have an overlay, one of each list of profiles and of each list of overlays of their own.
func trialOf(c *catalog.Catalog, name catalog.OverlayName) []*catalog.Node {
	var all []*catalog.Node
	seen := map[string]bool{}
	for n := range c.Nodes() {
		key := fmt.Sprint(n.Profiles, n.Settings.Overlays, n.Settings.Without)
		if seen[key] {
			continue
		}
		seen[key] = true
		o := c.Effective(n).Overlays
		if !slices.Contains(o.System, string(name)) && !slices.Contains(o.Runtime, string(name)) {
			continue
		}
		if all = append(all, n); len(all) == trialNodes {
			break
		}
	}
	return all
}
