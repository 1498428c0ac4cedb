package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Preview says what a change does, for people to decide on. Nothing in it is secret.
type Preview struct {
	Groups []PreviewGroup `json:"groups"`
	More   int            `json:"more,omitempty"` // groups that are left out, for nobody reads more than a screen

	Nodes    int     `json:"nodes"`           // that the change is about
	Added    int     `json:"added"`           // of those, how many are new
	Deleted  int     `json:"deleted"`         // nodes, profiles, networks, images, overlays, site files, rules and ignored machines that are no more
	Affected int     `json:"affected"`        // nodes that come out differently, also because of a profile
	Which    NodeSet `json:"which,omitempty"` // those
	Racks    int     `json:"racks"`           // in which they are
	Reboot   int     `json:"reboot"`          // of those, how many must boot again before it takes effect
	Changed  bool    `json:"changed"`         // whether anything is different at all
}

// PreviewGroup is what a change does to things that it does the same to.
type PreviewGroup struct {
	Action string        `json:"action"` // add, change or delete
	What   string        `json:"what"`   // node, profile, network, image, overlay, file, rule or ignored machine
	Names  string        `json:"names"`  // folded
	Count  int           `json:"count"`
	Lines  []PreviewLine `json:"lines,omitempty"`
}

// PreviewLine is what becomes of one setting; "" stands for one that is not decided.
type PreviewLine struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Other  int    `json:"other,omitempty"` // how many more have other values, of which this is an example
}

// maxPreview is how many groups a preview has: a screenful.
const maxPreview = 12

// Preview applies an entry to a copy and says what it did. It fails as the entry would.
func (c *Catalog) Preview(entry []byte) (*Preview, error) {
	e, err := DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	if e.If > c.Revision || e.If != 0 && e.If < c.requests.changed {
		_, out := c.step(c.Revision+1, &e)
		return nil, out.Err
	}
	draft := *c
	if len(e.Message) > MaxMessage {
		return nil, fault.New(fault.Invalid, "the message has %d bytes, more than %d", len(e.Message), MaxMessage)
	}
	if err := draft.change(&e); err != nil {
		return nil, err
	}
	draft.touched.once()
	return preview(c, &draft), nil
}

func preview(before, after *Catalog) *Preview {
	t := after.touched
	p := &Preview{}
	var groups previewGroups
	for _, name := range t.networks {
		old, _ := before.Network(name)
		now, _ := after.Network(name)
		groups.add("network", string(name), old != nil, now != nil, flatNetwork(old), flatNetwork(now))
	}
	for _, name := range t.profiles {
		old, _ := before.Profile(name)
		now, _ := after.Profile(name)
		groups.add("profile", string(name), old != nil, now != nil, flatProfile(old), flatProfile(now))
	}
	for _, name := range t.images {
		old, _ := before.Image(name)
		now, _ := after.Image(name)
		groups.add("image", string(name), old != nil, now != nil, flatImage(old), flatImage(now))
	}
	for _, path := range t.files {
		old, _ := before.SiteFile(path)
		now, _ := after.SiteFile(path)
		groups.add("file", path, old != nil, now != nil, flatSiteFile(old), flatSiteFile(now))
	}
	for _, name := range t.overlays {
		old, _ := before.Overlay(name)
		now, _ := after.Overlay(name)
		groups.add("overlay", string(name), old != nil, now != nil, flatOverlay(old), flatOverlay(now))
	}
	for _, name := range t.rules {
		old, _ := before.DiscoverRule(name)
		now, _ := after.DiscoverRule(name)
		groups.add("rule", string(name), old != nil, now != nil, flatRule(old), flatRule(now))
	}
	for _, hw := range t.machines {
		old, _ := before.IgnoredMachine(hw)
		now, _ := after.IgnoredMachine(hw)
		groups.add("ignored machine", string(hw), old != nil, now != nil, flatIgnored(old), flatIgnored(now))
	}
	at := make(map[NodeName]int, len(t.nodes)) // its group
	for _, name := range t.nodes {
		old, _ := before.Node(name)
		now, _ := after.Node(name)
		if old != nil || now != nil { // else it came and went, and nobody need be told
			p.Nodes++
		}
		if old == nil && now != nil {
			p.Added++
		}
		at[name] = groups.addNode(old, now)
	}
	x := inheritance{before: before, after: after, groups: &groups, at: at, lists: map[string]*inherited{}, alike: map[string][]string{}}
	x.networks()
	x.overlays()
	p.affected(&x)
	p.Changed = len(groups.all) > 0 || before.overlays != after.overlays || before.relays != after.relays ||
		before.controllers != after.controllers || before.tokens != after.tokens || before.images != after.images
	for _, g := range groups.all {
		if g.Action == "delete" {
			p.Deleted += len(g.names)
		}
	}
	p.Groups, p.More = groups.shown()
	return p
}

// affected counts the nodes that come out differently, and those that must boot again for it.
func (p *Preview) affected(x *inheritance) {
	t := x.after.touched
	beyond := len(t.profiles)+len(t.images)+len(x.nets)+len(x.files) > 0 // nodes that the change did not name may be affected
	racks := map[string]bool{}
	for n := range x.after.Nodes() {
		if _, named := x.at[n.Name]; !named && !beyond {
			continue
		}
		old, was := x.before.Node(n.Name)
		if !was {
			continue // a new node is not affected: it has not booted
		}
		changes, reboot := x.of(old, n)
		if !changes {
			continue
		}
		p.Affected++
		p.Which = append(p.Which, n.Name)
		if reboot {
			p.Reboot++
		}
		if rack := cmp.Or(n.Settings.Rack, x.after.base(n.Profiles).settings.Rack); rack != nil {
			racks[*rack] = true
		}
	}
	p.Racks = len(racks)
	p.Which = NodeSetOf(p.Which...)
}

// previewGroups gathers things by what is done to them.
type previewGroups struct {
	all   []previewGroup
	byKey map[string]int

	// The last node that was changed, and its group: thousands in a row change alike.
	last struct {
		way way
		at  int // -1: nothing became of it
	}
}

type previewGroup struct {
	PreviewGroup
	names []string
}

// addNode notes what becomes of a node, and returns its group; -1 if nothing becomes of it.
func (g *previewGroups) addNode(old, now *Node) int {
	if old == nil && now == nil {
		return -1 // made and deleted in one change
	}
	if old == nil || now == nil {
		return g.add("node", string(cmp.Or(old, now).Name), old != nil, now != nil, flatNode(old), flatNode(now))
	}
	w := way{old, now}
	if !w.sameAs(g.last.way) {
		g.last.way, g.last.at = w, g.changed(old, now)
		return g.last.at
	}
	if g.last.at >= 0 {
		g.all[g.last.at].names = append(g.all[g.last.at].names, string(now.Name))
	}
	return g.last.at
}

// changed notes a node whose way is another than that of the node before.
func (g *previewGroups) changed(old, now *Node) int {
	var fwd, back SetNodes
	fwd.Set, fwd.Unset = Difference(old.Settings, now.Settings)
	back.Set, back.Unset = Difference(now.Settings, old.Settings)
	if !slices.Equal(old.Profiles, now.Profiles) {
		fwd.Profiles, back.Profiles = &now.Profiles, &old.Profiles
	}
	return g.add("node", string(now.Name), true, true, flatSide(&back), flatSide(&fwd))
}

// flatSide is what differs, as it is on one side.
func flatSide(x *SetNodes) map[string]string {
	out := x.Set.Flat()
	if x.Profiles != nil {
		out["profiles"] = joinNames(*x.Profiles)
	}
	return out
}

// add notes what becomes of one thing, and returns its group; -1 if nothing becomes of it.
func (g *previewGroups) add(what, name string, was, is bool, before, after map[string]string) int {
	action := "change"
	switch {
	case !was && !is:
		return -1
	case !was:
		action = "add"
	case !is:
		action, before = "delete", nil
	}
	lines := previewLines(before, after)
	if action == "change" && len(lines) == 0 {
		return -1
	}
	var k strings.Builder
	for _, part := range []string{action, what} {
		k.WriteString(part)
		k.WriteByte(0)
	}
	for _, l := range lines {
		for _, part := range []string{l.Path, l.Before, l.After} {
			k.WriteString(part)
			k.WriteByte(0)
		}
	}
	key := k.String()
	if g.byKey == nil {
		g.byKey = map[string]int{}
	}
	at, ok := g.byKey[key]
	if !ok {
		at = len(g.all)
		g.byKey[key] = at
		g.all = append(g.all, previewGroup{PreviewGroup: PreviewGroup{Action: action, What: what, Lines: lines}})
	}
	g.all[at].names = append(g.all[at].names, name)
	return at
}

func previewLines(before, after map[string]string) []PreviewLine {
	paths := sortedKeys(before)
	for k := range after {
		if _, ok := before[k]; !ok {
			paths = append(paths, k)
		}
	}
	slices.Sort(paths)
	var lines []PreviewLine
	for _, path := range paths {
		a, b := before[path], after[path]
		if a != b {
			lines = append(lines, PreviewLine{Path: path, Before: clipValue(a), After: clipValue(b)})
		}
	}
	return lines
}

// clipValue shortens a value that would fill the screen by itself.
func clipValue(s string) string {
	const most = 400
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return s
}

// shown are the groups to show. Where there are too many, those that change the same settings to different values, as
// addresses are, become one with an example.
func (g *previewGroups) shown() ([]PreviewGroup, int) {
	// Things that are new are shown together: that each has its own address is no news.
	added := byPaths(slices.DeleteFunc(slices.Clone(g.all), func(v previewGroup) bool { return v.Action != "add" }))
	others := slices.DeleteFunc(slices.Clone(g.all), func(v previewGroup) bool { return v.Action == "add" })
	if len(others) > maxPreview {
		others = byPaths(others)
	}
	all := append(added, others...)
	out := make([]PreviewGroup, 0, min(len(all), maxPreview))
	for _, v := range all[:min(len(all), maxPreview)] {
		v.Count, v.Names = len(v.names), shownNames(v.What, v.names)
		out = append(out, v.PreviewGroup)
	}
	return out, len(all) - len(out)
}

// shownNames are names for people; paths of site files and hardware addresses do not fold as names of nodes do.
func shownNames(what string, names []string) string {
	const most = 8
	switch {
	case what != "file" && what != "ignored machine":
		return fold(names)
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func byPaths(all []previewGroup) []previewGroup {
	var out []previewGroup
	at := map[string]int{}
	for _, v := range all {
		key := v.Action + " " + v.What
		for _, l := range v.Lines {
			key += " " + l.Path
		}
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			v.Lines = slices.Clone(v.Lines)
			out = append(out, v)
			continue
		}
		first := &out[i]
		first.names = append(first.names, v.names...)
		for j, l := range v.Lines {
			if l.Before != first.Lines[j].Before || l.After != first.Lines[j].After {
				first.Lines[j].Other += len(v.names)
			}
		}
	}
	return out
}

func flatNode(n *Node) map[string]string {
	if n == nil {
		return nil
	}
	out := n.Settings.Flat()
	if len(n.Profiles) > 0 {
		out["profiles"] = joinNames(n.Profiles)
	}
	return out
}

func flatProfile(p *Profile) map[string]string {
	if p == nil {
		return nil
	}
	return flatNode(&Node{Profiles: p.Profiles, Settings: p.Settings})
}

func flatImage(i *Image) map[string]string {
	if i == nil {
		return nil
	}
	out := map[string]string{"versions": fmt.Sprint(len(i.Versions))}
	for tag, id := range i.Tags {
		out["tags."+tag] = id.Short()
	}
	return out
}

func flatSiteFile(f *SiteFile) map[string]string {
	switch {
	case f == nil:
		return nil
	case f.IsLink():
		return map[string]string{"target": f.Target}
	}
	return map[string]string{"content": f.Content.ID.Short(), "size": fmt.Sprint(f.Content.Size), "mode": fmt.Sprintf("%04o", f.Mode)}
}

func flatOverlay(o *Overlay) map[string]string {
	if o == nil {
		return nil
	}
	out := map[string]string{}
	if !o.Base.ID.IsZero() {
		out["base"] = o.Base.ID.Short()
	}
	if !o.Content.ID.IsZero() {
		out["content"] = o.Content.ID.Short()
		out["files"] = fmt.Sprint(o.Files)
	}
	return out
}

func joinNames[N ~string](names []N) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = string(n)
	}
	return strings.Join(words, " ")
}
