package cli

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// comparison is what differs between two sessions. Durations are nanoseconds.
type comparison struct {
	Before api.BootSession `json:"before"`
	After  api.BootSession `json:"after"`
	Errors []newError      `json:"errors"` // more of them than before, or for the first time
	Gone   []newError      `json:"gone"`   // that are not there any more
	Slower slower          `json:"slower"`
	Worse  string          `json:"worse"`  // nodes that came up before and not after, folded
	Better string          `json:"better"` // and the other way round
	Relays []slowerRelay   `json:"relays"` // whose nodes came up later by more than that
}

type newError struct {
	State  string `json:"state"`
	Text   string `json:"text"`
	Before int    `json:"before"`
	After  int    `json:"after"`
	Nodes  string `json:"nodes"` // after; where there are none any more, before
}

type slower struct {
	Than  time.Duration `json:"than"`
	Count int           `json:"count"`
	Nodes string        `json:"nodes"` // folded
	Most  []slowerNode  `json:"most"`  // a few, the slowest first
}

type slowerNode struct {
	Node   catalog.NodeName `json:"node"`
	Before time.Duration    `json:"before"`
	After  time.Duration    `json:"after"`
}

type slowerRelay struct {
	Relay  catalog.RelayName `json:"relay"`
	Before time.Duration     `json:"before"` // p95 of its nodes
	After  time.Duration     `json:"after"`
}

// mostSlower is how many of the slowest nodes and relays are named with their times.
const mostSlower = 5

func (p *program) bootCompare(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	refs := [2]string{c.Args().First(), lastSession}
	if c.NArg() == 2 {
		refs[1] = c.Args().Get(1)
	}
	var sessions [2]api.BootSession
	var nodes [2][]api.SessionNode
	for i, ref := range refs {
		if sessions[i], err = cl.session(ref); err != nil {
			return err
		}
		list, err := fetch[api.SessionNode](cl, pathOf(api.PathSessionNodes, sessionNumber(sessions[i])))
		if err != nil {
			return err
		}
		nodes[i] = list.Items
	}
	v := compare(sessions, nodes, c.Duration("slower"))
	return p.show(c, v, func(r *report) { compareReport(r, v) })
}

// compare finds what differs between two sessions: errors, nodes and relays.
func compare(of [2]api.BootSession, nodes [2][]api.SessionNode, than time.Duration) comparison {
	v := comparison{Before: of[0], After: of[1], Errors: []newError{}, Gone: []newError{}, Slower: slower{Than: than, Most: []slowerNode{}}, Relays: []slowerRelay{}}
	before := map[string]api.SessionError{}
	key := func(e api.SessionError) string { return e.State + " " + errorText(e) }
	for _, e := range of[0].Errors {
		before[key(e)] = e
	}
	for _, e := range of[1].Errors {
		old := before[key(e)]
		delete(before, key(e))
		if e.Count > old.Count {
			v.Errors = append(v.Errors, newError{e.State, errorText(e), old.Count, e.Count, e.Nodes})
		}
	}
	for _, e := range of[0].Errors {
		if _, gone := before[key(e)]; gone {
			v.Gone = append(v.Gone, newError{e.State, errorText(e), e.Count, 0, e.Nodes})
		}
	}
	v.compareNodes(nodes)
	was := map[catalog.RelayName]time.Duration{}
	for _, r := range of[0].Relays {
		was[r.Relay] = r.P95
	}
	for _, r := range of[1].Relays {
		if b := was[r.Relay]; b > 0 && r.P95 > b+than {
			v.Relays = append(v.Relays, slowerRelay{r.Relay, b, r.P95})
		}
	}
	slices.SortFunc(v.Relays, func(a, b slowerRelay) int {
		return cmp.Or(cmp.Compare(b.After-b.Before, a.After-a.Before), cmp.Compare(a.Relay, b.Relay))
	})
	return v
}

func (v *comparison) compareNodes(nodes [2][]api.SessionNode) {
	was := map[catalog.NodeName]api.SessionNode{}
	for _, n := range nodes[0] {
		was[n.Node] = n
	}
	var late, worse, better []string
	for _, n := range nodes[1] {
		old, ok := was[n.Node]
		if !ok || n.Node == "" {
			continue
		}
		switch up, wasUp := n.State == api.ResultUp, old.State == api.ResultUp; {
		case up && !wasUp:
			better = append(better, string(n.Node))
		case wasUp && !up && n.State != api.ResultBooting:
			worse = append(worse, string(n.Node))
		case up && n.Took > old.Took+v.Slower.Than:
			late = append(late, string(n.Node))
			v.Slower.Most = append(v.Slower.Most, slowerNode{n.Node, old.Took, n.Took})
		}
	}
	slices.SortFunc(v.Slower.Most, func(a, b slowerNode) int {
		return cmp.Or(cmp.Compare(b.After-b.Before, a.After-a.Before), cmp.Compare(a.Node, b.Node))
	})
	v.Slower.Most = v.Slower.Most[:min(len(v.Slower.Most), mostSlower)]
	v.Slower.Count, v.Slower.Nodes = len(late), nodeset.Fold(late)
	v.Worse, v.Better = nodeset.Fold(worse), nodeset.Fold(better)
}

// compareReport shows the two side by side, phase by phase, and then what is new.
func compareReport(r *report, v comparison) {
	a, b := v.Before, v.After
	change := func(x, y api.Spread, of func(api.Spread) time.Duration) string {
		if x.Count == 0 || y.Count == 0 {
			return fmt.Sprintf("%s → %s", spreadText(x, of(x)), spreadText(y, of(y)))
		}
		d, sign := of(y)-of(x), "+"
		if d < 0 {
			d, sign = -d, "-"
		}
		return fmt.Sprintf("%s → %s (%s%s)", lasting(of(x)), lasting(of(y)), sign, lasting(d))
	}
	p50, p95 := func(s api.Spread) time.Duration { return s.P50 }, func(s api.Spread) time.Duration { return s.P95 }
	r.line("boot #%d: %s, %s, took %s", a.Number, machines(a), countsText(a), lasting(a.Took))
	r.line("boot #%d: %s, %s, took %s", b.Number, machines(b), countsText(b), lasting(b.Took))
	r.line("")
	rows := [][]string{{"PHASE", "P50", "P95"}, {"all", change(a.ToUp, b.ToUp, p50), change(a.ToUp, b.ToUp, p95)}}
	for i, ph := range b.Phases {
		if i < len(a.Phases) && (ph.Count > 0 || a.Phases[i].Count > 0) {
			rows = append(rows, []string{string(ph.Stage), change(a.Phases[i].Spread, ph.Spread, p50), change(a.Phases[i].Spread, ph.Spread, p95)})
		}
	}
	r.rows(rows)
	r.line("")
	for _, e := range v.Errors {
		r.line("%s %s → %s %s  %s", mark(e.State), thousands(e.Before), thousands(e.After), e.Text, e.Nodes)
	}
	for _, e := range v.Gone {
		r.line("✓ %s → 0 %s  %s", thousands(e.Before), e.Text, e.Nodes)
	}
	if v.Worse != "" {
		r.line("not up any more: %s", v.Worse)
	}
	if v.Better != "" {
		r.line("up again: %s", v.Better)
	}
	if v.Slower.Count > 0 {
		r.line("slower by more than %s: %s: %s", lasting(v.Slower.Than), plural(v.Slower.Count, "node"), v.Slower.Nodes)
		for _, n := range v.Slower.Most {
			r.line("    %s %s → %s", n.Node, lasting(n.Before), lasting(n.After))
		}
	}
	for i, rel := range v.Relays {
		if i < mostSlower {
			r.line("relay %s: p95 %s → %s", rel.Relay, lasting(rel.Before), lasting(rel.After))
		}
	}
	if imagesText(a.Images, 3) != imagesText(b.Images, 3) {
		r.line("images: %s → %s", or(imagesText(a.Images, 3)), or(imagesText(b.Images, 3)))
	}
}
