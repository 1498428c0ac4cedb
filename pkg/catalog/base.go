package catalog

import (
	"strings"
	"sync"
	"sync/atomic"
)

// bases remembers what lists of profiles come to, as long as no profile changes: nodes by the thousand have the same
// lists. It is a cache of a pure function, shared by all revisions in between; it takes no lock to read.
type bases struct {
	byList sync.Map // names joined by a byte that no name has → *base
	count  atomic.Int64
}

// base is what a list of profiles comes to. Its lists still have what is negated in them, for the node may negate more.
type base struct {
	settings Settings
	profiles []ProfileName // that were merged, in order
}

// maxBases bounds the lists that are remembered. More than that are computed anew each time.
const maxBases = 4096

// base returns what a list of profiles comes to.
func (c *Catalog) base(names []ProfileName) *base {
	if len(names) == 0 {
		return new(base)
	}
	if c.bases == nil {
		return c.newBase(names)
	}
	key := listKey(names)
	if b, ok := c.bases.byList.Load(key); ok {
		return b.(*base)
	}
	b := c.newBase(names)
	if c.bases.count.Load() < maxBases {
		if _, had := c.bases.byList.LoadOrStore(key, b); !had {
			c.bases.count.Add(1)
		}
	}
	return b
}

func (c *Catalog) newBase(names []ProfileName) *base {
	b := new(base)
	b.profiles = c.mergeProfiles(&b.settings, names, nil)
	return b
}

// profilesChanged forgets what lists of profiles came to.
func (c *Catalog) profilesChanged() { c.bases = new(bases) }

func listKey(names []ProfileName) string {
	if len(names) == 1 {
		return string(names[0])
	}
	var b strings.Builder
	for _, n := range names {
		b.WriteString(string(n))
		b.WriteByte(0)
	}
	return b.String()
}

// mergeProfiles merges the profiles of a list, in order, and those that they build on, and returns which those were.
func (c *Catalog) mergeProfiles(s *Settings, names []ProfileName, blame Blame) []ProfileName {
	var merged []ProfileName
	for _, p := range c.expand(names) {
		merged = append(merged, p.Name)
		inherited := p.Settings
		inherited.Comment = nil // it is about the profile
		Merge(s, inherited, "profile "+string(p.Name), blame)
	}
	return merged
}

// expand is the order in which profiles are merged, by Warewulf's rules: each once, those that it builds on right before
// it, and none of which there is a "~NAME" anywhere.
func (c *Catalog) expand(names []ProfileName) []*Profile {
	var all []ProfileName
	visited := map[ProfileName]bool{}
	var visit func(names []ProfileName)
	visit = func(names []ProfileName) {
		for _, name := range names {
			if strings.HasPrefix(string(name), "~") {
				all = append(all, name)
				continue
			}
			if visited[name] {
				continue
			}
			visited[name] = true
			if p, ok := c.Profile(name); ok {
				visit(p.Profiles)
				all = append(all, name)
			}
		}
	}
	visit(names)
	all = cleaned(all)
	profiles := make([]*Profile, len(all))
	for i, name := range all {
		profiles[i], _ = c.Profile(name)
	}
	return profiles
}

// Expand lists the profiles that a list of profiles comes to, in the order in which they are merged. The list must not be
// changed.
func (c *Catalog) Expand(names []ProfileName) []ProfileName { return c.base(names).profiles }

// lastBase finds the bases of many nodes in a row: those that were made together share one list.
type lastBase struct {
	c    *Catalog
	list []ProfileName
	base *base
}

func (l *lastBase) of(n *Node) *base {
	if l.base == nil || len(l.list) != len(n.Profiles) || len(l.list) > 0 && &l.list[0] != &n.Profiles[0] {
		l.list, l.base = n.Profiles, l.c.base(n.Profiles)
	}
	return l.base
}
