package catalog

import (
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (x AddProfile) apply(c *Catalog, _ *Entry) error {
	p := Profile{Name: x.Profile.Name, Profiles: x.Profile.Profiles}
	if err := p.Settings.Patch(x.Profile.Settings, nil); err != nil { // in the one form that settings are stored in
		return err
	}
	if _, err := ParseName[ProfileName]("profile", string(p.Name)); err != nil {
		return err
	}
	if _, ok := c.Profile(p.Name); ok {
		return fault.New(fault.Conflict, "profile %q exists already", p.Name).WithFix("change it with: wulf profile set %s …", p.Name)
	}
	return c.putProfile(&p)
}

func (x SetProfiles) apply(c *Catalog, _ *Entry) error {
	if len(x.Names) == 0 {
		return fault.New(fault.Invalid, "no profile is named")
	}
	for _, name := range x.Names {
		old, ok := c.Profile(name)
		if !ok {
			return c.noProfile(name)
		}
		p := *old
		if x.Profiles != nil {
			p.Profiles = *x.Profiles
		}
		if err := p.Settings.Patch(x.Set, x.Unset); err != nil {
			return err
		}
		if err := c.putProfile(&p); err != nil {
			return err
		}
	}
	// A profile may decide the network of a device whose address the node decides.
	c.touched.nets = c.touched.nets || x.Profiles != nil || len(x.Set.Nets) > 0 || len(x.Set.Without) > 0 || slices.ContainsFunc(x.Unset, func(path string) bool {
		return strings.HasPrefix(path, "nets") || strings.HasPrefix(path, "without")
	})
	return nil
}

func (c *Catalog) checkAllNets() error {
	for n := range c.Nodes() {
		if err := c.checkNets(n); err != nil {
			return err
		}
	}
	return nil
}

func (x DeleteProfile) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Profile(x.Name); !ok {
		return c.noProfile(x.Name)
	}
	users := usersOf(c, func(p []ProfileName, _ Settings) bool {
		return slices.Contains(p, x.Name) || slices.Contains(p, "~"+x.Name)
	})
	if users != "" {
		return inUse("profile", string(x.Name), users)
	}
	c.profiles.delete(string(x.Name))
	c.profilesChanged()
	c.touched.profile(x.Name)
	return nil
}

func (c *Catalog) putProfile(p *Profile) error {
	if len(p.Profiles) == 0 {
		p.Profiles = nil // one form for none: a snapshot brings back no other
	}
	c.profiles.put(string(p.Name), p)
	c.profilesChanged()
	c.touched.profile(p.Name)
	return c.checkProfile(p)
}

func (c *Catalog) checkProfile(p *Profile) error {
	what := "profile " + string(p.Name)
	if err := c.checkProfiles(what, p.Profiles); err != nil {
		return err
	}
	if err := c.checkSettings(what, p.Settings); err != nil {
		return err
	}
	var own Node
	own.Settings = p.Settings
	for id := range own.identities {
		return fault.New(fault.Invalid, "%s: a profile cannot hold %s, which only one node can have", what, id).
			WithFix("set it on the node: wulf node set NODE …")
	}
	if p.Settings.Asset != nil || p.Settings.Discover != nil {
		return fault.New(fault.Invalid, "%s: asset and discoverable are a node's own", what).WithFix("set them on the node: wulf node set NODE …")
	}
	if c.builtOn(p.Profiles, p.Name, map[ProfileName]bool{}) {
		return fault.New(fault.Invalid, "%s would be built on itself", what).WithFix("take the profile out of the circle")
	}
	return nil
}

// builtOn looks into each profile once: where many are built on many, there are more ways than could be walked.
func (c *Catalog) builtOn(bases []ProfileName, name ProfileName, seen map[ProfileName]bool) bool {
	for _, base := range bases {
		if base == name {
			return true
		}
		if seen[base] {
			continue
		}
		seen[base] = true
		if b, ok := c.Profile(base); ok && c.builtOn(b.Profiles, name, seen) {
			return true
		}
	}
	return false
}

func (c *Catalog) noProfile(name ProfileName) error {
	return notFound("profile", string(name), func(yield func(string) bool) {
		for p := range c.Profiles() {
			if !yield(string(p.Name)) {
				return
			}
		}
	})
}

func (x InitCluster) apply(c *Catalog, e *Entry) error {
	if c.Cluster.Name != "" {
		return fault.New(fault.Conflict, "the cluster %s exists already", c.Cluster.Name)
	}
	if _, err := ParseName[string]("cluster", x.Cluster.Name); err != nil {
		return err
	}
	c.Cluster = x.Cluster
	c.Cluster.Created = e.At.Truncate(time.Second)
	ctl := x.Controller
	ctl.Joined = e.At
	c.controllers.put(string(ctl.Name), &ctl)
	c.profiles.put(string(DefaultProfile), &Profile{Name: DefaultProfile})
	c.profilesChanged()
	return nil
}
