package catalog

import (
	"maps"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// goingBack makes the state before some changes again. Each state on the way was right when it was the present one, and
// need not be right among the images and relays of now: only where it ends is checked.
type goingBack struct {
	c    *Catalog
	edit *nodeEdit
}

// over goes back over one change.
func (x goingBack) over(u *Undo) error {
	x.networks(u)
	x.profiles(u)
	for _, r := range slices.Backward(u.Renamed) {
		if err := x.rename(r); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.Tags)) {
		if old, ok := x.c.Image(name); ok { // else it was deleted since, with all that it had
			next := *old
			next.Tags = u.Tags[name]
			x.c.images.put(string(name), &next)
			x.c.touched.image(name)
		}
	}
	x.files(u)
	x.overlays(u)
	x.machines(u)
	return x.nodes(u)
}

// machines gives rules back as they were, with what they had claimed until then, and the list of ignored machines.
func (x goingBack) machines(u *Undo) {
	for _, name := range u.GoneRules {
		x.c.rules.delete(string(name))
		x.c.touched.rule(name)
	}
	for i := range u.Rules {
		x.c.putRule(&u.Rules[i])
	}
	for _, hw := range u.GoneIgnored {
		x.c.unignore(hw)
	}
	for i := range u.Ignored {
		x.c.ignore(&u.Ignored[i])
	}
}

func (x goingBack) files(u *Undo) {
	for _, path := range u.GoneFiles {
		x.c.files.delete(path)
		x.c.touched.file(path)
	}
	for _, f := range u.Files {
		x.c.files.put(&f)
		x.c.touched.file(f.Path)
	}
}

// overlays gives overlays the site's part that they had.
func (x goingBack) overlays(u *Undo) {
	for _, name := range u.GoneOverlays {
		if now, ok := x.c.Overlay(name); ok && now.Shipped { // it came with wulfmesh since
			x.c.putOverlay(now.withOwn(&Overlay{Changed: now.Changed, By: now.By}))
			continue
		}
		x.c.overlays.delete(string(name))
		x.c.touched.overlay(name)
	}
	for i := range u.Overlays {
		old := &u.Overlays[i]
		if now, ok := x.c.Overlay(old.Name); ok {
			old = now.withOwn(old)
		}
		x.c.putOverlay(old)
	}
}

// rename gives an image the name back that it had; one that was deleted since stays so.
func (x goingBack) rename(r RenameImage) error {
	now, ok := x.c.Image(r.To)
	if !ok {
		return nil
	}
	if err := x.c.newImage(r.Name); err != nil {
		return err
	}
	next := *now
	next.Name = r.Name
	x.c.images.put(string(r.Name), &next)
	x.c.images.delete(string(r.To))
	x.c.touched.image(r.Name)
	x.c.touched.image(r.To)
	x.c.touched.renamed = append(x.c.touched.renamed, RenameImage{Name: r.To, To: r.Name})
	return nil
}

func (x goingBack) networks(u *Undo) {
	gone := u.GoneNetworks
	for _, n := range u.Networks {
		gone = append(slices.Clip(gone), n.Name)
	}
	for _, name := range gone { // all of them first: prefixes may have gone from one to another
		if n, ok := x.c.Network(name); ok {
			x.c.dropNetwork(n)
		}
	}
	for _, n := range u.Networks {
		x.c.storeNetwork(&n)
	}
}

func (x goingBack) profiles(u *Undo) {
	for _, name := range u.GoneProfiles {
		x.c.profiles.delete(string(name))
		x.c.touched.profile(name)
	}
	for _, p := range u.Profiles {
		x.c.profiles.put(string(p.Name), &p)
		x.c.touched.profile(p.Name)
	}
	if len(u.Profiles)+len(u.GoneProfiles) > 0 {
		x.c.profilesChanged()
		x.c.touched.nets = true
	}
}

// nodes takes all nodes out of the index before it puts any in, for addresses may have gone from one to another.
func (x goingBack) nodes(u *Undo) error {
	for _, name := range u.Gone {
		old, ok := x.edit.nodes.get(string(name))
		if !ok {
			return x.c.noNode(name)
		}
		x.edit.unindex(old)
		x.edit.nodes.delete(string(name))
	}
	x.c.touched.nodes = append(x.c.touched.nodes, u.Gone...)
	fresh := make([]*Node, 0, len(u.Nodes)+len(u.Set))
	for _, g := range u.Set {
		for _, name := range g.Nodes {
			old, ok := x.edit.nodes.get(string(name))
			if !ok {
				return x.c.noNode(name)
			}
			n := *old
			if g.Profiles != nil {
				n.Profiles = *g.Profiles
			}
			if err := n.Settings.Patch(g.Set, g.Unset); err != nil {
				return err
			}
			x.edit.unindex(old)
			fresh = append(fresh, &n)
		}
	}
	for _, n := range u.Nodes {
		fresh = append(fresh, &n)
	}
	for _, n := range fresh {
		x.edit.store(n)
	}
	x.c.touch(fresh)
	return nil
}

// check refuses a state that was right once and is not any more: what is there now besides cannot be taken back.
func (x goingBack) check() error {
	c := x.c
	c.touched.once()
	for _, name := range c.touched.networks {
		if n, ok := c.Network(name); ok {
			if err := c.checkNetwork(n); err != nil {
				return err
			}
			continue
		}
		for r := range c.Relays() {
			if slices.Contains(r.Networks, name) {
				return inUse("network", string(name), "relay "+string(r.Name))
			}
		}
	}
	for _, name := range c.touched.images {
		i, ok := c.Image(name)
		if !ok {
			continue // it has another name
		}
		for _, tag := range sortedKeys(i.Tags) {
			if _, ok := i.Version(tag); !ok {
				return fault.New(fault.NotFound, "image %s no longer has the version %s", name, i.Tags[tag].Short()).WithFix("see its versions with: wulf image show %s", name)
			}
		}
	}
	for _, name := range c.touched.overlays {
		if _, ok := c.Overlay(name); ok {
			continue
		}
		if users := c.overlayUsers(name); users != "" {
			return inUse("overlay", string(name), users)
		}
	}
	for _, name := range c.touched.profiles {
		if p, ok := c.Profile(name); ok {
			if err := c.checkProfile(p); err != nil {
				return err
			}
		}
	}
	for _, name := range c.touched.nodes {
		n, ok := c.Node(name)
		if !ok {
			continue
		}
		x.edit.unindex(n) // nothing comes of it: the index was committed before
		if err := x.edit.claim(n); err != nil {
			return err
		}
		if err := c.checkNode(n); err != nil {
			return err
		}
	}
	return nil
}
