package catalog

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Bounds of what is remembered of the past. Records go oldest first; what would take a change back goes earlier, when
// it is about many nodes.
const (
	MaxHistory = 1000
	maxUndo    = 100_000 // nodes in all undos together, see Undo.nodes
)

// Record is what is remembered of a change that happened.
type Record struct {
	Revision Revision       `json:"revision"`
	By       string         `json:"by,omitempty"`
	At       time.Time      `json:"at"`
	Kind     string         `json:"kind"` // as KindOf says it
	Message  string         `json:"message,omitempty"`
	Nodes    NodeSet        `json:"nodes,omitempty"` // that it changed
	Profiles []ProfileName  `json:"profiles,omitempty"`
	Networks []NetworkName  `json:"networks,omitempty"`
	Images   []ImageName    `json:"images,omitempty"`
	Overlays []OverlayName  `json:"overlays,omitempty"`
	Files    []string       `json:"files,omitempty"` // paths of site files
	Rules    []RuleName     `json:"rules,omitempty"`
	Machines []HardwareAddr `json:"machines,omitempty"` // that are ignored, or no longer
	Undo     *Undo          `json:"undo,omitempty"`     // nil: it cannot be taken back, or not any more
}

// Undo leads from the state after a change to the one before it.
type Undo struct {
	Gone         NodeSet                           `json:"gone,omitempty"`  // nodes that the change made
	Nodes        []Node                            `json:"nodes,omitempty"` // that it deleted, as they were
	Set          []SetNodes                        `json:"set,omitempty"`   // what it changed, grouped by what was before
	GoneProfiles []ProfileName                     `json:"gone_profiles,omitempty"`
	Profiles     []Profile                         `json:"profiles,omitempty"`
	GoneNetworks []NetworkName                     `json:"gone_networks,omitempty"`
	Networks     []Network                         `json:"networks,omitempty"`
	Tags         map[ImageName]map[string]chunk.ID `json:"tags,omitempty"` // of images that are still there
	Renamed      []RenameImage                     `json:"renamed,omitempty"`
	GoneOverlays []OverlayName                     `json:"gone_overlays,omitempty"`
	Overlays     []Overlay                         `json:"overlays,omitempty"`   // of which the site's part was another
	GoneFiles    []string                          `json:"gone_files,omitempty"` // site files
	Files        []SiteFile                        `json:"files,omitempty"`
	GoneRules    []RuleName                        `json:"gone_rules,omitempty"`
	Rules        []DiscoverRule                    `json:"rules,omitempty"`
	GoneIgnored  []HardwareAddr                    `json:"gone_ignored,omitempty"`
	Ignored      []Ignored                         `json:"ignored,omitempty"`
}

// nodes is how many nodes the undo holds on to; what has large settings counts as several, and a site file as one.
func (u *Undo) nodes() int {
	if u == nil {
		return 0
	}
	n := len(u.Gone) + len(u.Nodes) + len(u.GoneFiles) + len(u.Files) + len(u.GoneIgnored) + len(u.Ignored)
	for i := range u.Rules {
		n += 1 + len(u.Rules[i].Nodes)/undoFolded
	}
	for i := range u.Nodes {
		n += u.Nodes[i].Settings.size() / undoSize
	}
	for i := range u.Set {
		n += len(u.Set[i].Nodes) + u.Set[i].Set.size()/undoSize
	}
	for i := range u.Profiles {
		n += u.Profiles[i].Settings.size() / undoSize
	}
	for i := range u.Overlays { // their content is kept for as long, too
		n += int(u.Overlays[i].Content.Size) / undoSize
	}
	return n
}

// undoSize is up to how many bytes settings are not large.
const undoSize = 8 << 10

// undoFolded is how many names of a rule's node set count as one node: nothing is held of them but the name.
const undoFolded = 100

// history is the last records, by revision.
type history struct {
	records table[*Record]
	undo    int      // nodes in the undos kept
	floor   Revision // changes up to here can no longer be taken back
}

// History yields what is remembered of the past, the newest first.
func (c *Catalog) History() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		all := slices.Collect(c.history.records.values())
		for _, r := range slices.Backward(all) {
			if !yield(r) {
				return
			}
		}
	}
}

// RecordOf is what is remembered of the change that happened at a revision.
func (c *Catalog) RecordOf(rev Revision) (*Record, bool) { return c.history.records.get(age(rev)) }

// Settled is the last revision that changed something at a time or before it, as far as that is remembered.
func (c *Catalog) Settled(at time.Time) Revision {
	for r := range c.History() {
		if !r.At.After(at) {
			return r.Revision
		}
	}
	return 0
}

// HistoryFloor is the revision to which Revert can still go.
func (c *Catalog) HistoryFloor() Revision { return c.history.floor }

func (h *history) add(r *Record) {
	h.records.put(age(r.Revision), r)
	h.undo += r.Undo.nodes()
	for h.records.len() > MaxHistory {
		k, old := h.oldest(func(*Record) bool { return true })
		h.records.delete(k)
		h.undo -= old.Undo.nodes()
		h.floor = max(h.floor, old.Revision)
	}
	for h.undo > maxUndo {
		k, old := h.oldest(func(r *Record) bool { return r.Undo.nodes() > 0 })
		bare := *old
		bare.Undo = nil
		h.records.put(k, &bare)
		h.undo -= old.Undo.nodes()
		h.floor = max(h.floor, old.Revision)
	}
}

func (h *history) oldest(is func(*Record) bool) (string, *Record) {
	for k, r := range h.records.all() {
		if is(r) {
			return k, r
		}
	}
	return "", nil // cannot be: the counts say that there is one
}

// touched notes what a change touches while it is applied, so that what it did can be found without a look at
// everything. A nil *touched notes nothing.
type touched struct {
	nodes    []NodeName
	profiles []ProfileName
	networks []NetworkName
	images   []ImageName
	overlays []OverlayName
	renamed  []RenameImage
	files    []string
	rules    []RuleName
	machines []HardwareAddr
	asked    []NodeName // nodes that something was asked of, and nothing decided about
	nets     bool       // whether addresses of nodes that the change did not name may have become wrong
}

func (c *Catalog) touch(nodes []*Node) {
	if c.touched == nil {
		return
	}
	for _, n := range nodes {
		c.touched.nodes = append(c.touched.nodes, n.Name)
	}
}

func (t *touched) profile(name ProfileName) {
	if t != nil {
		t.profiles = append(t.profiles, name)
	}
}

func (t *touched) network(name NetworkName) {
	if t != nil {
		t.networks = append(t.networks, name)
		t.nets = true
	}
}

func (t *touched) image(name ImageName) {
	if t != nil {
		t.images = append(t.images, name)
	}
}

func (t *touched) file(path string) {
	if t != nil {
		t.files = append(t.files, path)
	}
}

func (t *touched) rule(name RuleName) {
	if t != nil {
		t.rules = append(t.rules, name)
	}
}

func (t *touched) machine(hw HardwareAddr) {
	if t != nil {
		t.machines = append(t.machines, hw)
	}
}

func (t *touched) overlay(name OverlayName) {
	if t != nil {
		t.overlays = append(t.overlays, name)
	}
}

// once makes each name stand there once, in order.
func (t *touched) once() {
	t.profiles, t.networks, t.images, t.files = sortedOnce(t.profiles), sortedOnce(t.networks), sortedOnce(t.images), sortedOnce(t.files)
	t.overlays, t.rules, t.machines = sortedOnce(t.overlays), sortedOnce(t.rules), sortedOnce(t.machines)
	if !slices.IsSorted(t.nodes) || hasTwice(t.nodes) {
		t.nodes = sortedOnce(t.nodes)
	}
}

func hasTwice[S ~string](sorted []S) bool {
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return true
		}
	}
	return false
}

func sortedOnce[S ~string](names []S) []S {
	slices.Sort(names)
	return slices.Compact(names)
}

// record makes the record of a change that led from before to c.
func (c *Catalog) record(before *Catalog, rev Revision, e *Entry) *Record {
	t := c.touched
	t.once()
	r := &Record{
		Revision: rev, By: e.By, At: e.At, Kind: KindOf(e.Change), Message: e.Message,
		Nodes: NodeSetOf(slices.Concat(t.nodes, t.asked)...), Profiles: t.profiles, Networks: t.networks, Images: t.images, Files: t.files, Overlays: t.overlays,
		Rules: t.rules, Machines: t.machines,
	}
	u := &Undo{}
	u.ofNodes(before, c, t.nodes)
	for _, name := range t.profiles {
		if old, ok := before.Profile(name); ok {
			u.Profiles = append(u.Profiles, *old)
		} else if _, is := c.Profile(name); is {
			u.GoneProfiles = append(u.GoneProfiles, name)
		}
	}
	for _, name := range t.networks {
		if old, ok := before.Network(name); ok {
			u.Networks = append(u.Networks, *old)
		} else if _, is := c.Network(name); is {
			u.GoneNetworks = append(u.GoneNetworks, name)
		}
	}
	for _, name := range t.images {
		old, was := before.Image(name)
		_, is := c.Image(name)
		if was && is {
			if u.Tags == nil {
				u.Tags = map[ImageName]map[string]chunk.ID{}
			}
			u.Tags[name] = old.Tags
		}
	}
	u.Renamed = t.renamed
	u.ofFiles(before, c, t.files)
	u.ofOverlays(before, c, t.overlays)
	u.ofMachines(before, c, t)
	if len(t.nodes)+len(t.profiles)+len(t.networks)+len(t.files)+len(t.rules)+len(t.machines)+len(u.Tags)+len(u.Renamed)+len(u.GoneOverlays)+len(u.Overlays) > 0 {
		r.Undo = u
	}
	return r
}

// About says in a few words what a change was about.
func (r *Record) About() string {
	var parts []string
	if n := len(r.Nodes); n == 1 {
		parts = append(parts, "node "+string(r.Nodes[0]))
	} else if n > 1 {
		parts = append(parts, fmt.Sprintf("%d nodes %s", n, clip(r.Nodes.String())))
	}
	parts = append(parts, named("profile", r.Profiles)...)
	parts = append(parts, named("network", r.Networks)...)
	parts = append(parts, named("image", r.Images)...)
	parts = append(parts, named("site file", r.Files)...)
	parts = append(parts, named("overlay", r.Overlays)...)
	parts = append(parts, named("discover rule", r.Rules)...)
	parts = append(parts, named("machine", r.Machines)...)
	return joinWords(parts)
}
