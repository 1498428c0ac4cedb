package catalog

import (
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (x PutOverlay) apply(c *Catalog, e *Entry) error {
	o := x.Overlay
	if _, err := ParseName[OverlayName]("overlay", string(o.Name)); err != nil {
		return err
	}
	if o.Shipped { // an entry of format 2
		return ShipOverlay{Name: o.Name, Base: o.Content, Files: o.Files}.apply(c, e)
	}
	old, ok := c.Overlay(o.Name)
	if !ok {
		old = &Overlay{Name: o.Name}
	}
	if o.Content.ID.IsZero() && old.Base.ID.IsZero() {
		return fault.New(fault.Invalid, "overlay %s: it has no content", o.Name)
	}
	if x.Has != nil && *x.Has != old.Content.ID {
		return OverlayChanged(old)
	}
	o.Changed, o.By = e.At, e.By
	o.Laid = o.Laid && !old.Base.ID.IsZero() // what may come with wulfmesh later was not thought of
	c.putOverlay(old.withOwn(&o))
	return nil
}

// OverlayChanged is the error of a write that was made out of a content that is no more.
func OverlayChanged(now *Overlay) error {
	by := ""
	if now.By != "" {
		by = " by " + now.By
	}
	return fault.New(fault.Conflict, "overlay %s was changed%s in the meantime", now.Name, by).WithFix("look at it as it is now, and try again: wulf overlay show %s", now.Name)
}

func (x ShipOverlay) apply(c *Catalog, e *Entry) error {
	if _, err := ParseName[OverlayName]("overlay", string(x.Name)); err != nil {
		return err
	}
	if x.Base.ID.IsZero() {
		return fault.New(fault.Invalid, "overlay %s: it has no content", x.Name)
	}
	next := Overlay{Name: x.Name}
	if old, ok := c.Overlay(x.Name); ok {
		next = *old
	}
	next.Base, next.BaseFiles, next.Shipped = x.Base, x.Files, true
	if next.Content.ID.IsZero() { // else it says when the site changed it
		next.Changed, next.By = e.At, e.By
	}
	c.putOverlay(&next)
	return nil
}

func (c *Catalog) putOverlay(o *Overlay) {
	c.overlays.put(string(o.Name), o)
	c.touched.overlay(o.Name)
}

func (x DeleteOverlay) apply(c *Catalog, e *Entry) error {
	old, ok := c.Overlay(x.Name)
	switch {
	case !ok:
		return c.noOverlay(x.Name)
	case old.Shipped && old.Content.ID.IsZero():
		return fault.New(fault.Conflict, "overlay %s comes with wulfmesh, and nothing in it is the site's", x.Name).
			WithFix("nodes and profiles that shall not have it: wulf profile overlay remove PROFILE %s", x.Name)
	case old.Shipped:
		c.putOverlay(old.withOwn(&Overlay{Changed: e.At, By: e.By}))
		return nil
	}
	if users := c.overlayUsers(x.Name); users != "" {
		return inUse("overlay", string(x.Name), users)
	}
	c.overlays.delete(string(x.Name))
	c.touched.overlay(x.Name)
	return nil
}

// overlayUsers says who names the overlay.
func (c *Catalog) overlayUsers(name OverlayName) string {
	return usersOf(c, func(_ []ProfileName, s Settings) bool {
		return slices.ContainsFunc(slices.Concat(s.Overlays.System, s.Overlays.Runtime), func(o string) bool { return strings.TrimPrefix(o, "~") == string(name) })
	})
}

func (c *Catalog) noOverlay(name OverlayName) error {
	return notFound("overlay", string(name), func(yield func(string) bool) {
		for o := range c.Overlays() {
			if !yield(string(o.Name)) {
				return
			}
		}
	})
}
