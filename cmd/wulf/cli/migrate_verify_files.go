package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// compareFiles compares every file that a node gets of its overlays.
func (v *verifier) compareFiles(ctx context.Context, m warewulf.Merged, r *catalog.Resolved) error {
	for _, kind := range []struct {
		name        string
		there, here []string
	}{{"system", m.SystemOverlay, r.Settings.Overlays.System}, {"runtime", m.RuntimeOverlay, r.Settings.Overlays.Runtime}} {
		there, ok := v.filesThere(ctx, m, r, kind.name, kind.there)
		if !ok {
			continue
		}
		s := render.Subject{Node: r, Secrets: overlay.Secrets{Open: func(catalog.Secret) (string, bool) { return veiledSecret, true }}}
		here, err := v.here.Node(ctx, v.catalog, s, kind.here)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid && fault.KindOf(err) != fault.NotFound {
				return err
			}
			v.differ(m.Name, unlike{Kind: "file", Subject: kind.name + " overlays", What: sentence(err), Of: m.Name})
			continue
		}
		v.compareLists(m.Name, there, here.Files)
	}
	return nil
}

// filesThere are those that Warewulf makes; false, if it makes none.
func (v *verifier) filesThere(ctx context.Context, m warewulf.Merged, r *catalog.Resolved, kind string, names []string) ([]overlay.Rendered, bool) {
	var layers []overlay.Layer
	for _, name := range names {
		l := v.layer(name)
		if l.err != nil {
			v.differ(m.Name, unlike{Kind: "file", Subject: "overlay " + name, What: sentence(l.err)})
			return nil, false
		}
		layers = append(layers, l.Layer)
	}
	n, ok := v.there.fleet.Find(m.Name)
	if !ok {
		return nil, false
	}
	own := *n
	if version, _, err := r.Kernel(); r.Image != nil && err == nil && (own.Kernel.Version == "" || strings.HasPrefix(version, own.Kernel.Version)) {
		own.Kernel.Version = version // Warewulf has a part of it
	}
	out, err := overlay.Render(ctx, v.there.memo, v.there.view(&own), layers...)
	if err != nil {
		v.differ(m.Name, unlike{Kind: "file", Subject: kind + " overlays", What: "Warewulf does not make them: " + sentence(err), Of: m.Name})
		return nil, false
	}
	return out.Files, true
}

// layer reads an overlay of Warewulf's.
func (v *verifier) layer(name string) *layer {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.bundles[name]; l != nil {
		return l
	}
	l := &layer{}
	v.bundles[name] = l
	dir, site, ok := v.there.root(name)
	if !ok {
		l.err = v.there.inv.noOverlay(name)
		return l
	}
	b, err := readBundle(dir, true)
	l.site, l.err = site, err
	l.Layer = overlay.Layer{Name: name, Bundle: b}
	if declared, ok := v.catalog.Overlay(catalog.OverlayName(name)); ok {
		l.Changed = declared.Changed.UTC() // so that the time of making is the same
	}
	return l
}

// compareLists compares files in the order of their paths.
func (v *verifier) compareLists(node string, there, here []overlay.Rendered) {
	compared := 0
	for len(there) > 0 || len(here) > 0 {
		switch {
		case len(here) == 0 || len(there) > 0 && there[0].Path < here[0].Path:
			v.onlyThere(node, &there[0])
			there = there[1:]
		case len(there) == 0 || here[0].Path < there[0].Path:
			v.onlyHere(node, &here[0])
			here = here[1:]
		default:
			v.both(node, &there[0], &here[0])
			there, here = there[1:], here[1:]
		}
		compared++
	}
	v.mu.Lock()
	v.files += compared
	v.mu.Unlock()
}

func (v *verifier) onlyThere(node string, f *overlay.Rendered) {
	if !v.layer(f.Overlay).site {
		v.except(node, unlike{Kind: "file", Subject: "overlay " + f.Overlay, What: "it came with Warewulf, and its work is done by other means here"})
		return
	}
	v.differ(node, unlike{Kind: "file", Subject: "/" + f.Path, What: fmt.Sprintf("overlay %s of Warewulf makes it, and nothing here", f.Overlay)})
}

func (v *verifier) onlyHere(node string, f *overlay.Rendered) {
	if v.ours(f) {
		v.except(node, unlike{Kind: "file", Subject: "overlay " + f.Overlay, What: "it comes with wulfmesh"})
		return
	}
	v.differ(node, unlike{Kind: "file", Subject: "/" + f.Path, What: fmt.Sprintf("overlay %s makes it here, and nothing in Warewulf", f.Overlay)})
}

// ours tells whether an overlay is as it comes with wulfmesh.
func (v *verifier) ours(f *overlay.Rendered) bool {
	o, ok := v.catalog.Overlay(catalog.OverlayName(f.Overlay))
	return ok && o.Shipped && o.Content.ID.IsZero()
}

func (v *verifier) both(node string, there, here *overlay.Rendered) {
	var what []string
	var diff []string
	switch {
	case there.Type != here.Type:
		what = append(what, fmt.Sprintf("it is a %s there, and a %s here", there.Type, here.Type))
	case there.Type == overlay.TypeLink && there.Target != here.Target:
		what = append(what, fmt.Sprintf("it leads to %s there, and to %s here", there.Target, here.Target))
	case there.Type == overlay.TypeFile && !bytes.Equal(there.Content, here.Content):
		what = append(what, "its text differs")
		diff = unified(there.Content, here.Content, shownDiff)
	}
	if there.Type != overlay.TypeLink && there.Mode != here.Mode {
		what = append(what, fmt.Sprintf("its mode is %04o there, and %04o here", there.Mode, here.Mode))
	}
	if there.UID != here.UID || there.GID != here.GID {
		what = append(what, fmt.Sprintf("it is %d:%d's there, and %d:%d's here", there.UID, there.GID, here.UID, here.GID))
	}
	if len(what) == 0 {
		return
	}
	if v.ours(here) && !v.layer(there.Overlay).site {
		v.except(node, unlike{Kind: "file", Subject: "overlay " + here.Overlay, What: "it came with Warewulf, and wulfmesh has its own"})
		return
	}
	v.differ(node, unlike{Kind: "file", Subject: "/" + here.Path, What: strings.Join(what, "; "), Of: node, Diff: diff})
}
