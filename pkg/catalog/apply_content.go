package catalog

import (
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (x PutOverlay) apply(c *Catalog, _ *Entry) error {
	o := x.Overlay
	if _, err := ParseName[OverlayName]("overlay", string(o.Name)); err != nil {
		return err
	}
	if o.Content.ID.IsZero() {
		return fault.New(fault.Invalid, "overlay %s: it has no content", o.Name)
	}
	c.overlays.put(string(o.Name), &o)
	return nil
}

func (x DeleteOverlay) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Overlay(x.Name); !ok {
		return c.noOverlay(x.Name)
	}
	users := usersOf(c, func(_ []ProfileName, s Settings) bool {
		return slices.ContainsFunc(slices.Concat(s.Overlays.System, s.Overlays.Runtime), func(o string) bool { return strings.TrimPrefix(o, "~") == string(x.Name) })
	})
	if users != "" {
		return inUse("overlay", string(x.Name), users)
	}
	c.overlays.delete(string(x.Name))
	return nil
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
