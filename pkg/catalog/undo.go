package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ofNodes notes how the nodes were before.
func (u *Undo) ofNodes(before, after *Catalog, names []NodeName) {
	var groups undoGroups
	for _, name := range names {
		old, was := before.Node(name)
		now, is := after.Node(name)
		switch {
		case was && !is:
			u.Nodes = append(u.Nodes, *old)
		case !was && is:
			u.Gone = append(u.Gone, name)
		case was && is:
			groups.add(now, old)
		}
	}
	u.Gone = NodeSetOf(u.Gone...)
	u.Set = groups.all
}

// ofFiles notes how site files were before.
func (u *Undo) ofFiles(before, after *Catalog, paths []string) {
	for _, path := range paths {
		if old, ok := before.SiteFile(path); ok {
			u.Files = append(u.Files, *old)
		} else if _, is := after.SiteFile(path); is {
			u.GoneFiles = append(u.GoneFiles, path)
		}
	}
}

// ofOverlays notes how the site's part of overlays was before. What comes with wulfmesh is not taken back: the next
// controller that leads would bring it again.
func (u *Undo) ofOverlays(before, after *Catalog, names []OverlayName) {
	for _, name := range names {
		old, was := before.Overlay(name)
		now, is := after.Overlay(name)
		switch {
		case was && (!is || !old.alike(now)):
			u.Overlays = append(u.Overlays, *old)
		case !was && is && (!now.Shipped || !now.Content.ID.IsZero()): // of one that came with wulfmesh, in the same change, that stays
			u.GoneOverlays = append(u.GoneOverlays, name)
		}
	}
}

// ofMachines notes how rules and ignored machines were before.
func (u *Undo) ofMachines(before, after *Catalog, t *touched) {
	for _, name := range t.rules {
		if old, ok := before.DiscoverRule(name); ok {
			u.Rules = append(u.Rules, *old)
		} else if _, is := after.DiscoverRule(name); is {
			u.GoneRules = append(u.GoneRules, name)
		}
	}
	for _, hw := range t.machines {
		if old, ok := before.IgnoredMachine(hw); ok {
			u.Ignored = append(u.Ignored, *old)
		} else if _, is := after.IgnoredMachine(hw); is {
			u.GoneIgnored = append(u.GoneIgnored, hw)
		}
	}
}

// undoGroups gathers nodes by what leads each back to how it was: most nodes of one change were alike before.
type undoGroups struct {
	all   []SetNodes
	byKey map[string]int // for those that are not like one of the last few

	last way // of the node before, and its group
	at   int
}

// recentGroups is how many groups are compared one by one before their encodings are.
const recentGroups = 4

func (g *undoGroups) add(from, to *Node) {
	w := way{old: to, now: from}
	if w.sameAs(g.last) {
		g.all[g.at].Nodes = append(g.all[g.at].Nodes, to.Name)
		return
	}
	g.last, g.at = w, g.find(from, to)
}

// find puts a node into the group that it belongs to, and returns that.
func (g *undoGroups) find(from, to *Node) int {
	back := SetNodes{}
	back.Set, back.Unset = Difference(from.Settings, to.Settings)
	if !slices.Equal(from.Profiles, to.Profiles) {
		list := to.Profiles
		back.Profiles = &list
	}
	for i := len(g.all) - 1; i >= max(0, len(g.all)-recentGroups); i-- {
		if alike(&g.all[i], &back) {
			g.all[i].Nodes = append(g.all[i].Nodes, to.Name)
			return i
		}
	}
	key := fmt.Sprintf("%t %q %q %s", back.Profiles != nil, deref(back.Profiles), back.Unset, encoded(back.Set))
	if g.byKey == nil {
		g.byKey = map[string]int{}
	}
	if i, ok := g.byKey[key]; ok {
		g.all[i].Nodes = append(g.all[i].Nodes, to.Name)
		return i
	}
	g.byKey[key] = len(g.all)
	back.Nodes = NodeSet{to.Name}
	g.all = append(g.all, back)
	return len(g.all) - 1
}

func encoded(s Settings) string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error() // cannot be: it was decoded once
	}
	return string(b)
}

func alike(a, b *SetNodes) bool {
	return slices.Equal(a.Unset, b.Unset) && (a.Profiles == nil) == (b.Profiles == nil) &&
		slices.Equal(deref(a.Profiles), deref(b.Profiles)) && equal(reflect.ValueOf(&a.Set).Elem(), reflect.ValueOf(&b.Set).Elem())
}

// equal is reflect.DeepEqual for settings, most of which are not decided, or one and the same in both.
func equal(a, b reflect.Value) bool {
	if a.Kind() == reflect.Struct && a.Type() != addrType {
		for i := range a.NumField() {
			if !equal(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return shared(a, b) || reflect.DeepEqual(a.Interface(), b.Interface())
}

// Difference is what Patch needs to make to of from.
func Difference(from, to Settings) (set Settings, unset []string) {
	unset = difference(reflect.ValueOf(&from).Elem(), reflect.ValueOf(&to).Elem(), reflect.ValueOf(&set).Elem(), "", nil)
	return set, unset
}

func difference(from, to, set reflect.Value, path string, unset []string) []string {
	switch from.Kind() {
	case reflect.Struct:
		for i := range from.NumField() {
			a, b := from.Field(i), to.Field(i)
			if shared(a, b) || a.IsZero() && b.IsZero() {
				continue
			}
			unset = difference(a, b, set.Field(i), join(path, jsonName(from.Type().Field(i))), unset)
		}
		return unset
	case reflect.Map:
		return differenceOfMaps(from, to, set, path, unset)
	}
	switch {
	case same(from, to):
	case to.IsZero() || to.Kind() == reflect.Slice && to.Len() == 0: // a list without words decides nothing
		unset = append(unset, path)
	default:
		set.Set(to)
	}
	return unset
}

func differenceOfMaps(from, to, set reflect.Value, path string, unset []string) []string {
	if from.Pointer() == to.Pointer() {
		return unset
	}
	put := func(key, v reflect.Value) {
		if set.IsNil() {
			set.Set(reflect.MakeMap(set.Type()))
		}
		set.SetMapIndex(key, v)
	}
	keys := map[string]bool{}
	for _, m := range []reflect.Value{from, to} {
		for it := m.MapRange(); it.Next(); {
			keys[it.Key().String()] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		key := reflect.ValueOf(k)
		a, b := from.MapIndex(key), to.MapIndex(key)
		switch {
		case !b.IsValid():
			unset = append(unset, join(path, k))
		case !a.IsValid():
			put(key, b)
		case b.Kind() != reflect.Struct:
			if a.String() != b.String() {
				put(key, b)
			}
		default:
			part := reflect.New(b.Type()).Elem()
			unset = difference(a, b, part, join(path, k), unset)
			if !part.IsZero() {
				put(key, part)
			}
		}
	}
	return unset
}

// shared tells of values without parts, lists and maps whether they are one and the same, as most are after a change.
func shared(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer, reflect.Map:
		return a.Pointer() == b.Pointer()
	case reflect.Slice:
		return a.Len() == b.Len() && a.Pointer() == b.Pointer()
	}
	return false
}

// same compares pointers to scalars and lists by what they hold; those that are shared are the same at once.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Pointer && a.Pointer() == b.Pointer() {
		return true
	}
	if a.Kind() == reflect.Slice && a.Len()+b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func (x Revert) apply(c *Catalog, e *Entry) error {
	now := c.requests.changed
	switch {
	case x.To >= now:
		return fault.New(fault.Invalid, "there is nothing to take back after revision %d: the last change was %d", x.To, now).WithFix("see wulf history")
	case x.To < c.history.floor:
		return fault.New(fault.NotFound, "the changes after revision %d are not all remembered any more", x.To).
			WithFix("the oldest revision to go back to is %d", c.history.floor)
	}
	back := goingBack{c, c.editNodes()}
	did := false
	for r := range c.History() {
		if r.Revision <= x.To {
			break
		}
		if r.Undo == nil {
			continue // joins, tokens, bytes of images: what is done there stays
		}
		did = true
		if err := back.over(r.Undo); err != nil {
			return within(fmt.Sprintf("taking back revision %d", r.Revision), err)
		}
	}
	if !did {
		return fault.New(fault.Invalid, "nothing that can be taken back happened after revision %d", x.To).WithFix("see wulf history")
	}
	back.edit.commit()
	return back.check()
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func named[N ~string](what string, names []N) []string {
	switch len(names) {
	case 0:
		return nil
	case 1:
		return []string{what + " " + string(names[0])}
	}
	return []string{fmt.Sprintf("%d %ss", len(names), what)}
}

func joinWords(parts []string) string { return strings.Join(parts, ", ") }
