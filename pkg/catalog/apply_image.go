package catalog

import (
	"cmp"
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
	tags := append([]string{TagLatest}, x.Tags...)
	if old, ok := c.Image(x.Name); ok {
		next.Tags = maps.Clone(old.Tags)
		next.Versions = slices.Clone(old.Versions)
		if !x.Base.IsZero() && old.Tags[TagLatest] != x.Base {
			tags = nil // somebody was faster; both keep their work, and people decide which is the latest
		}
	}
	v := x.Version
	v.Created, v.By, v.Message = e.At, e.By, e.Message
	if _, ok := next.Version(v.Manifest.ID.String()); !ok { // the same bytes once more only move the tags
		next.Versions = append(next.Versions, v)
	}
	for _, tag := range tags {
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
		return fault.New(fault.NotFound, "image %s has no version %s", x.Name, x.Version.Short()).WithFix("see its versions with: wulf image history %s", x.Name)
	}
	next := *old
	next.Tags = maps.Clone(old.Tags)
	next.Tags[x.Tag] = x.Version
	c.images.put(string(x.Name), &next)
	c.touched.image(x.Name)
	return nil
}

func (x UntagImage) apply(c *Catalog, _ *Entry) error {
	old, ok := c.Image(x.Name)
	if !ok {
		return c.noImage(string(x.Name))
	}
	if _, ok := old.Tags[x.Tag]; !ok {
		return notFound("tag of image "+string(x.Name), x.Tag, slices.Values(sortedKeys(old.Tags)))
	}
	if x.Tag == TagLatest {
		return fault.New(fault.Invalid, "image %s always has a latest version", x.Name).WithFix("let it mean another one: wulf image tag %s latest VERSION", x.Name)
	}
	if users := c.imageUsers(x.Name, x.Tag); users != "" {
		return inUse("image", string(x.Name)+":"+x.Tag, users)
	}
	next := *old
	next.Tags = maps.Clone(old.Tags)
	delete(next.Tags, x.Tag)
	c.images.put(string(x.Name), &next)
	c.touched.image(x.Name)
	return nil
}

// newImage checks the name of an image that is to come.
func (c *Catalog) newImage(name ImageName) error {
	if _, err := ParseName[ImageName]("image", string(name)); err != nil {
		return err
	}
	if _, ok := c.Image(name); ok {
		return fault.New(fault.Conflict, "there is an image %s already", name).WithFix("choose another name, or delete it first")
	}
	return nil
}

func (x CopyImage) apply(c *Catalog, _ *Entry) error {
	old, ok := c.Image(x.Name)
	if !ok {
		return c.noImage(string(x.Name))
	}
	if err := c.newImage(x.To); err != nil {
		return err
	}
	v, ok := old.Version(cmp.Or(x.Version, old.Tags[TagLatest]).String())
	if !ok {
		return fault.New(fault.NotFound, "image %s has no version %s", x.Name, x.Version.Short()).WithFix("see its versions with: wulf image history %s", x.Name)
	}
	c.images.put(string(x.To), &Image{Name: x.To, Tags: map[string]chunk.ID{TagLatest: v.Manifest.ID}, Versions: []ImageVersion{v}})
	c.touched.image(x.To)
	return nil
}

// apply lets nodes and profiles follow: a rename changes what nothing boots.
func (x RenameImage) apply(c *Catalog, e *Entry) error {
	old, ok := c.Image(x.Name)
	if !ok {
		return c.noImage(string(x.Name))
	}
	if err := c.newImage(x.To); err != nil {
		return err
	}
	next := *old
	next.Name = x.To
	c.images.put(string(x.To), &next)
	if err := x.follow(c, e); err != nil {
		return err
	}
	c.images.delete(string(x.Name))
	c.touched.image(x.To)
	c.touched.image(x.Name)
	c.touched.renamed = append(c.touched.renamed, x)
	return nil
}

func (x RenameImage) follow(c *Catalog, e *Entry) error {
	profiles, nodes := map[string][]ProfileName{}, map[string]NodeSet{} // by the image as they name it
	for p := range c.Profiles() {
		if p.Settings.Image != nil && x.names(*p.Settings.Image) {
			profiles[*p.Settings.Image] = append(profiles[*p.Settings.Image], p.Name)
		}
	}
	for n := range c.Nodes() {
		if n.Settings.Image != nil && x.names(*n.Settings.Image) {
			nodes[*n.Settings.Image] = append(nodes[*n.Settings.Image], n.Name)
		}
	}
	image := func(ref string) Settings {
		return Settings{Image: new(string(x.To) + strings.TrimPrefix(ref, string(x.Name)))}
	}
	for _, ref := range sortedKeys(profiles) {
		if err := (SetProfiles{Names: profiles[ref], Set: image(ref)}).apply(c, e); err != nil {
			return err
		}
	}
	for _, ref := range sortedKeys(nodes) {
		if err := (SetNodes{Nodes: nodes[ref], Set: image(ref)}).apply(c, e); err != nil {
			return err
		}
	}
	return nil
}

func (x RenameImage) names(ref string) bool {
	name, _ := SplitImage(ref)
	return name == x.Name
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
