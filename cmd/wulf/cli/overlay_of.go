package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// overlayOf is the command that adds overlays to what nodes or profiles decide and takes them away, and leaves the others.
func overlayOf(noun, whose string, run func(*cli.Context) error) verb {
	return verb{
		name: "overlay", usage: "give " + noun + "s overlays besides those that they have, or take some away", args: "add|remove " + whose + " [OVERLAY…]", least: 2, most: unlimited,
		about: "Overlays are added to the end of their list, where they win over those before; without a flag, to that of --system-overlays. " +
			"Remove takes those that no flag names out of both lists; what a profile brings is taken away with a ~.",
		examples: []string{
			fmt.Sprintf("wulf %s overlay add %s site", noun, exampleOf(whose)),
			fmt.Sprintf("wulf %s overlay add %s -R slurm", noun, exampleOf(whose)),
			fmt.Sprintf("wulf %s overlay remove %s site", noun, exampleOf(whose)),
		},
		flags: changeFlags(
			texts("system-overlays", "overlay `NAME`, of those that are laid over the image before init starts", "O"),
			texts("runtime-overlays", "overlay `NAME`, of those that are refreshed while the node runs, too", "R", "runtime"),
		), run: run,
	}
}

func exampleOf(whose string) string {
	if whose == "NODESET" {
		return "@rack:r07"
	}
	return "gpu"
}

// overlayList is one of the two lists of overlays that nodes and profiles decide.
type overlayList struct {
	path string
	of   func(*catalog.Settings) *[]string
}

func overlayLists() []overlayList {
	return []overlayList{
		{"overlays.system", func(s *catalog.Settings) *[]string { return &s.Overlays.System }},
		{"overlays.runtime", func(s *catalog.Settings) *[]string { return &s.Overlays.Runtime }},
	}
}

// overlayMove is what a command does to lists of overlays.
type overlayMove struct {
	in    bool
	names [][]string // by list
}

func parseOverlayMove(c *cli.Context) (overlayMove, error) {
	m := overlayMove{names: [][]string{names(c, "system-overlays"), names(c, "runtime-overlays")}}
	others := c.Args().Slice()[2:]
	switch word := c.Args().First(); word {
	case "add":
		m.in = true
	case "remove", "rm", "del", "delete":
		m.names[1] = append(m.names[1], others...)
	default:
		return m, fault.New(fault.Invalid, "%s can add and remove, and not %q", commandOf(c), word).WithFix("see %s --help", commandOf(c))
	}
	m.names[0] = append(m.names[0], others...)
	if len(m.names[0])+len(m.names[1]) == 0 {
		return m, fault.New(fault.Invalid, "%s %s names no overlay", commandOf(c), c.Args().First()).WithFix("see %s --help", commandOf(c))
	}
	return m, nil
}

// moved is a list as the command wants it. Has is what comes of it with what is inherited.
func (m *overlayMove) moved(names, own, has []string) []string {
	out := slices.Clone(own)
	for _, name := range names {
		inherited := slices.Contains(has, name) && !slices.Contains(own, name) || slices.Contains(own, "~"+name)
		if m.in && slices.Contains(own, name) {
			continue // where it is
		}
		out = slices.DeleteFunc(out, func(o string) bool { return o == name || o == "~"+name })
		switch {
		case m.in && !inherited:
			out = append(out, name)
		case !m.in && inherited:
			out = append(out, "~"+name)
		}
	}
	return out
}

// settings are what is to be set and unset to make the lists of own as the command wants them; neither if they are so.
func (m *overlayMove) settings(own, has catalog.Settings) (set catalog.Settings, unset []string) {
	for i, l := range overlayLists() {
		now := *l.of(&own)
		next := m.moved(m.names[i], now, *l.of(&has))
		switch {
		case slices.Equal(next, now):
		case len(next) == 0:
			unset = append(unset, l.path)
		default:
			*l.of(&set) = next
		}
	}
	return set, unset
}

func (p *program) nodeOverlay(c *cli.Context) error {
	m, err := parseOverlayMove(c)
	if err != nil {
		return err
	}
	cl, list, err := p.matching(c, c.Args().Get(1))
	if err != nil {
		return err
	}
	defer cl.done()
	var sets groupedNodes
	for _, v := range list.Items {
		if set, unset := m.settings(v.Settings, effective(v)); len(unset)+len(set.Decided()) > 0 {
			sets.add(v.Name, nil, set, unset, catalog.Settings{})
		}
	}
	var b batch
	for _, g := range sets.all {
		b.add(catalog.SetNodes{Nodes: g.nodes, Set: g.set, Unset: g.unset})
	}
	return p.performIfAny(c, cl, b.change(), mutation{seen: list.Revision})
}

func (p *program) profileOverlay(c *cli.Context) error {
	m, err := parseOverlayMove(c)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.Profile](cl, api.PathProfiles)
	if err != nil {
		return err
	}
	found, err := find("profile", list.Items, strings.Split(c.Args().Get(1), ","), func(v catalog.Profile) string { return string(v.Name) })
	if err != nil {
		return err
	}
	var b batch
	for _, v := range found {
		has := v.Settings
		if !m.in && len(v.Profiles) > 0 { // perhaps another profile brings it
			has = catalog.Settings{Overlays: catalog.OverlaySettings{System: m.names[0], Runtime: m.names[1]}}
		}
		if set, unset := m.settings(v.Settings, has); len(unset)+len(set.Decided()) > 0 {
			b.add(catalog.SetProfiles{Names: []catalog.ProfileName{v.Name}, Set: set, Unset: unset})
		}
	}
	return p.performIfAny(c, cl, b.change(), mutation{seen: list.Revision})
}

// change is all steps as one change; nil if there is none.
func (b *batch) change() catalog.Change {
	if len(b.steps) == 0 {
		return nil
	}
	return catalog.Batch{Changes: b.steps}
}
