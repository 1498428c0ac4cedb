package catalog

import (
	"maps"
	"slices"
	"strings"

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
	c.touched.image(x.Name)
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
	c.touched.image(x.Name)
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
		c.touched.image(x.Name)
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
	c.touched.image(x.Name)
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
