package catalog

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// inheritance finds out for many nodes what changes for them: what is alike for many is compared once.
type inheritance struct {
	before, after *Catalog
	groups        *previewGroups
	at            map[NodeName]int      // the groups of the nodes that the change names
	lists         map[string]*inherited // by the lists of profiles before and after
	alike         map[string][]string   // paths that change, by group and lists
	nets          map[NetworkName]bool  // that nodes see differently
	files         map[string]bool       // overlays of which the files change
	laid          map[string]fromFiles  // what comes of that for nodes that name no overlay, by list of profiles
}

// fromFiles is what overlays of which the files change do to a node that names them.
type fromFiles struct{ changes, reboot bool }

type inherited struct{ paths []string }

// networks finds the networks of which something changes that nodes are told.
func (x *inheritance) networks() {
	for _, name := range x.after.touched.networks {
		old, was := x.before.Network(name)
		now, is := x.after.Network(name)
		if was && is {
			a, b := *old, *now
			for _, n := range []*Network{&a, &b} { // what only relays and the catalog go by
				n.Pool, n.Allocate, n.DHCP, n.Secrets, n.Comment = Range{}, Range{}, "", "", ""
			}
			if reflect.DeepEqual(a, b) {
				continue
			}
		}
		if x.nets == nil {
			x.nets = map[NetworkName]bool{}
		}
		x.nets[name] = true
	}
}

// of says whether a node comes out differently, and whether it must boot again for it.
func (x *inheritance) of(old, now *Node) (changes, reboot bool) {
	if len(x.after.touched.images) > 0 {
		image := cmp.Or(now.Settings.Image, x.after.base(now.Profiles).settings.Image)
		if image != nil && x.moved(*image) {
			return true, true
		}
	}
	if len(x.nets) > 0 && x.movedNet(old, now) {
		return true, true
	}
	if len(x.files) > 0 {
		f := x.filesOf(now)
		changes, reboot = f.changes, f.reboot
	}
	for _, path := range x.paths(old, now) {
		changes = changes || path != "comment"
		reboot = reboot || needsBoot(path)
	}
	return changes, reboot
}

// paths are the settings that change for a node, all considered.
func (x *inheritance) paths(old, now *Node) []string {
	if len(old.Settings.Without)+len(now.Settings.Without) > 0 {
		return x.compared(old, now)
	}
	key := listKey(old.Profiles) + "\x01" + listKey(now.Profiles)
	list := x.list(key, old.Profiles, now.Profiles)
	if old == now {
		for _, path := range list {
			if _, own := now.Settings.Value(path); own { // decided by both, in one way or another
				return x.compared(old, now)
			}
		}
		return list
	}
	at := x.at[now.Name]
	if at < 0 {
		return list // nothing in the node itself
	}
	key = strconv.Itoa(at) + "\x01" + key
	if paths, ok := x.alike[key]; ok && len(list) == 0 {
		return paths
	}
	paths, sure := x.surely(x.groups.all[at].Lines, old, now)
	if !sure || len(list) > 0 {
		paths = x.compared(old, now)
	}
	if len(list) == 0 { // else what the node decides itself matters, too
		x.alike[key] = paths
	}
	return paths
}

// surely are the paths of the lines if each is one that only the node decides. It is not sure of others.
func (x *inheritance) surely(lines []PreviewLine, old, now *Node) (paths []string, sure bool) {
	a, b := &x.before.base(old.Profiles).settings, &x.after.base(now.Profiles).settings
	for _, l := range lines {
		_, was := a.Value(l.Path)
		_, is := b.Value(l.Path)
		if l.Path == "profiles" || isList(l.Path) || l.Before == "" && was || l.After == "" && is {
			return nil, false
		}
		switch l.Path {
		case "method", "init", "root": // there are defaults
			return nil, false
		}
		paths = append(paths, l.Path)
	}
	return paths, true
}

// compared are the paths that change, found the long way.
func (x *inheritance) compared(old, now *Node) []string {
	set, unset := Difference(x.before.Effective(old), x.after.Effective(now))
	set.Without = nil
	return slices.Concat(set.Decided(), slices.DeleteFunc(unset, func(path string) bool { return path == "without" }))
}

// movedNet tells whether a network that changes is told to a node.
func (x *inheritance) movedNet(old, now *Node) bool {
	for _, side := range []struct {
		c *Catalog
		n *Node
	}{{x.before, old}, {x.after, now}} {
		for _, d := range side.c.places(side.n) {
			if n := side.c.networkOf(d); n != nil && x.nets[n.Name] {
				return true
			}
		}
	}
	return false
}

// overlays finds the overlays of which nodes get other files.
func (x *inheritance) overlays() {
	for _, name := range x.after.touched.overlays {
		old, was := x.before.Overlay(name)
		now, is := x.after.Overlay(name)
		if !was || !is {
			continue // nothing uses it, or what does changes, too
		}
		base, own := old.Layers()
		if b, o := now.Layers(); b == base && o == own {
			continue
		}
		if x.files == nil {
			x.files, x.laid = map[string]bool{}, map[string]fromFiles{}
		}
		x.files[string(name)] = true
	}
}

// filesOf says what overlays of which the files change do to a node.
func (x *inheritance) filesOf(n *Node) fromFiles {
	if o := n.Settings.Overlays; len(o.System)+len(o.Runtime)+len(n.Settings.Without) > 0 {
		return x.filesIn(x.after.Effective(n).Overlays)
	}
	key := listKey(n.Profiles)
	found, ok := x.laid[key]
	if !ok {
		found = x.filesIn(x.after.base(n.Profiles).settings.Overlays)
		x.laid[key] = found
	}
	return found
}

func (x *inheritance) filesIn(o OverlaySettings) fromFiles {
	is := func(name string) bool { return x.files[name] }
	system := slices.ContainsFunc(o.System, is)
	return fromFiles{system || slices.ContainsFunc(o.Runtime, is), system}
}

// moved tells whether an image as a node names it stands for another version now.
func (x *inheritance) moved(ref string) bool {
	name, _ := SplitImage(ref)
	if !slices.Contains(x.after.touched.images, name) {
		return false
	}
	_, a, _ := x.before.ImageVersion(ref)
	_, b, _ := x.after.ImageVersion(ref)
	return a.Manifest.ID != b.Manifest.ID
}

func (x *inheritance) list(key string, was, is []ProfileName) []string {
	if found, ok := x.lists[key]; ok {
		return found.paths
	}
	set, unset := Difference(x.before.base(was).settings, x.after.base(is).settings)
	found := &inherited{slices.Concat(set.Decided(), unset)}
	x.lists[key] = found
	return found.paths
}

// isList tells whether a setting is appended to what profiles decide, instead of replacing it.
func isList(path string) bool {
	switch path {
	case "kernel.args", "overlays.system", "overlays.runtime", "ssh_keys", "roles", "groups":
		return true
	}
	return strings.HasPrefix(path, "resources.")
}

// needsBoot tells whether a running node goes on as before until it boots again. What templates of runtime overlays read
// reaches it without; of what those of system overlays read beyond this, nobody can say here.
func needsBoot(path string) bool {
	top, _, _ := strings.Cut(path, ".")
	switch top {
	case "image", "method", "ipxe", "kernel", "init", "root", "primary", "nets", "disks", "filesystems":
		return true
	}
	return path == "overlays.system"
}
