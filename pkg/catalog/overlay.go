package catalog

import (
	"iter"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Overlay is a name for files and templates, in two parts that are chunks (see pkg/overlay): what comes with wulfmesh,
// which upgrades replace, and the site's own, which they never touch.
type Overlay struct {
	Name      OverlayName `json:"name"`
	Base      chunk.Ref   `json:"base,omitzero"`    // what comes with wulfmesh; zero: nothing does
	Content   chunk.Ref   `json:"content,omitzero"` // the site's own files; zero: there are none
	Laid      bool        `json:"laid,omitempty"`   // the site's files lie over those of Base; else, if there are any, they are all
	BaseFiles int         `json:"base_files,omitempty"`
	Files     int         `json:"files"`             // of Content
	Shipped   bool        `json:"shipped,omitempty"` // there is a Base
	Changed   time.Time   `json:"changed,omitzero"`
	By        string      `json:"by,omitempty"`
}

// Layers are the parts that nodes get: own laid over base, either of which may be zero.
func (o *Overlay) Layers() (base, own chunk.Ref) {
	if o.Laid || o.Content.ID.IsZero() {
		base = o.Base
	}
	return base, o.Content
}

// alike tells whether the site's part of two overlays is the same.
func (o *Overlay) alike(other *Overlay) bool {
	return o.Content == other.Content && o.Laid == other.Laid
}

// withOwn is the overlay with the site's part of another one.
func (o Overlay) withOwn(from *Overlay) *Overlay {
	o.Content, o.Laid, o.Files, o.Changed, o.By = from.Content, from.Laid, from.Files, from.Changed, from.By
	return &o
}

// formerly makes the two parts of an overlay as formats before 3 had it: all of it was either wulfmesh's or the site's.
func (o Overlay) formerly() *Overlay {
	if o.Shipped && o.Base.ID.IsZero() {
		o.Base, o.BaseFiles = o.Content, o.Files
		o.Content, o.Files = chunk.Ref{}, 0
	}
	return &o
}

// FormerOverlays yields overlays as a revert would make them again. Some are as they are now, and some come more than
// once.
func (c *Catalog) FormerOverlays() iter.Seq[*Overlay] {
	return func(yield func(*Overlay) bool) {
		for r := range c.History() {
			if r.Undo == nil {
				continue
			}
			for i := range r.Undo.Overlays {
				if !yield(&r.Undo.Overlays[i]) {
					return
				}
			}
		}
	}
}

// OverlayAt is an overlay as the site had it at a revision, with what comes with wulfmesh now; that of then is not
// remembered. Nil: there was none.
func (c *Catalog) OverlayAt(name OverlayName, rev Revision) (*Overlay, error) {
	if rev < c.history.floor {
		return nil, fault.New(fault.NotFound, "what was there at revision %d is not remembered any more", rev).
			WithFix("the oldest revision to look at is %d", c.history.floor)
	}
	now, _ := c.Overlay(name)
	at := now
	for r := range c.History() {
		if r.Revision <= rev {
			break
		}
		if r.Undo == nil {
			continue
		}
		if slices.Contains(r.Undo.GoneOverlays, name) {
			at = nil
		}
		for i := range r.Undo.Overlays {
			if r.Undo.Overlays[i].Name == name {
				at = &r.Undo.Overlays[i]
			}
		}
	}
	switch {
	case at == nil || at == now || now == nil:
		return at, nil
	}
	return now.withOwn(at), nil
}
