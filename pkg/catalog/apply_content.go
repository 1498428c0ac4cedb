package catalog

import (
	"maps"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (x PutImage) apply(c *Catalog, e *Entry) error {
	if _, err := ParseName[ImageName]("image", string(x.Name)); err != nil {
		return err
	}
	if x.Version.Manifest.ID.IsZero() || x.Version.Manifest.Size <= 0 {
		return fault.New(fault.Invalid, "image %s: a version needs a manifest", x.Name)
	}
	next := &Image{Name: x.Name, Tags: map[string]chunk.ID{}}
	if old, ok := c.Image(x.Name); ok {
		next.Tags = maps.Clone(old.Tags)
		next.Versions = slices.Clone(old.Versions)
	}
	v := x.Version
	v.Created, v.By = e.At, e.By
	if _, ok := next.Version(v.Manifest.ID.String()); !ok { // the same bytes once more only move the tags
		next.Versions = append(next.Versions, v)
	}
	for _, tag := range append([]string{TagLatest}, x.Tags...) {
		if _, err := ParseName[string]("tag", tag); err != nil {
			return err
		}
		next.Tags[tag] = v.Manifest.ID
	}
	if err := c.trimVersions(next); err != nil {
		return err
	}
	c.images.put(string(x.Name), next)
	return nil
}

// trimVersions keeps an image within MaxVersions by dropping the oldest version that nothing names.
func (c *Catalog) trimVersions(i *Image) error {
	for len(i.Versions) > MaxVersions {
		at := slices.IndexFunc(i.Versions, func(v ImageVersion) bool {
			return !tagged(i, v.Manifest.ID) && c.imageUsers(i.Name, v.Manifest.ID.String()) == ""
		})
		if at < 0 {
			return fault.New(fault.Full, "image %s has %d versions and all are in use", i.Name, MaxVersions).WithFix("delete a tag or a version that is no longer needed")
		}
		i.Versions = slices.Delete(i.Versions, at, at+1)
	}
	return nil
}

func tagged(i *Image, id chunk.ID) bool {
	for _, t := range i.Tags {
		if t == id {
			return true
		}
	}
	return false
}

func (x TagImage) apply(c *Catalog, _ *Entry) error {
	old, ok := c.Image(x.Name)
	if !ok {
		return c.noImage(string(x.Name))
	}
	if _, err := ParseName[string]("tag", x.Tag); err != nil {
		return err
	}
	if _, ok := old.Version(x.Version.String()); !ok {
		return fault.New(fault.NotFound, "image %s has no version %s", x.Name, x.Version.Short()).WithFix("see its versions with: wulf image show %s", x.Name)
	}
	next := *old
	next.Tags = maps.Clone(old.Tags)
	next.Tags[x.Tag] = x.Version
	c.images.put(string(x.Name), &next)
	return nil
}

func (x DeleteImage) apply(c *Catalog, _ *Entry) error {
	old, ok := c.Image(x.Name)
	if !ok {
		return c.noImage(string(x.Name))
	}
	if x.Version.IsZero() {
		if users := c.imageUsers(x.Name, ""); users != "" {
			return inUse("image", string(x.Name), users)
		}
		c.images.delete(string(x.Name))
		return nil
	}
	if _, ok := old.Version(x.Version.String()); !ok {
		return fault.New(fault.NotFound, "image %s has no version %s", x.Name, x.Version.Short())
	}
	if tagged(old, x.Version) {
		return fault.New(fault.Conflict, "version %s of image %s has a tag", x.Version.Short(), x.Name).WithFix("move the tag first: wulf image tag %s TAG VERSION", x.Name)
	}
	if users := c.imageUsers(x.Name, x.Version.String()); users != "" {
		return inUse("image", string(x.Name)+"@"+x.Version.Short(), users)
	}
	next := *old
	next.Versions = slices.DeleteFunc(slices.Clone(old.Versions), func(v ImageVersion) bool { return v.Manifest.ID == x.Version })
	c.images.put(string(x.Name), &next)
	return nil
}

// imageUsers says who names the image, or only those who name that version of it.
func (c *Catalog) imageUsers(name ImageName, version string) string {
	return usersOf(c, func(_ []ProfileName, s Settings) bool {
		if s.Image == nil {
			return false
		}
		n, v := SplitImage(*s.Image)
		return n == name && (version == "" || v == version)
	})
}

func (c *Catalog) noImage(ref string) error {
	return notFound("image", ref, func(yield func(string) bool) {
		for i := range c.Images() {
			if !yield(string(i.Name)) {
				return
			}
		}
	})
}

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
		return slices.Contains(s.Overlays.System, string(x.Name)) || slices.Contains(s.Overlays.Runtime, string(x.Name))
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

func (x AddNetwork) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Network(x.Network.Name); ok {
		return fault.New(fault.Conflict, "network %q exists already", x.Network.Name).WithFix("change it with: wulf network set %s …", x.Network.Name)
	}
	return c.putNetwork(x.Network)
}

func (x SetNetwork) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Network(x.Network.Name); !ok {
		return c.noNetwork(x.Network.Name)
	}
	if err := c.putNetwork(x.Network); err != nil {
		return err
	}
	for n := range c.Nodes() {
		if err := c.checkNets(n); err != nil {
			return err
		}
	}
	return nil
}

func (x DeleteNetwork) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Network(x.Name); !ok {
		return c.noNetwork(x.Name)
	}
	users := usersOf(c, func(_ []ProfileName, s Settings) bool {
		for _, d := range s.Nets {
			if d.Network != nil && *d.Network == string(x.Name) {
				return true
			}
		}
		return false
	})
	if users != "" {
		return inUse("network", string(x.Name), users)
	}
	for r := range c.Relays() {
		if slices.Contains(r.Networks, x.Name) {
			return inUse("network", string(x.Name), "relay "+string(r.Name))
		}
	}
	c.networks.delete(string(x.Name))
	return nil
}

func (c *Catalog) noNetwork(name NetworkName) error {
	return notFound("network", string(name), func(yield func(string) bool) {
		for n := range c.Networks() {
			if !yield(string(n.Name)) {
				return
			}
		}
	})
}
