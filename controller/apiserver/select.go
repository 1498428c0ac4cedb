package apiserver

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Bounds of a query.
const (
	maxColumns = 64
	maxWhere   = 32
)

// selection answers questions about the nodes of one catalog and their boots: in which groups they are, and what is in
// their columns. It is made for one request.
type selection struct {
	c     *catalog.Catalog
	boots func(catalog.NodeName) *api.Boot
	now   time.Time
	due   catalog.Revision // that running nodes should follow by now

	journal *journal.Journal
	booted  map[catalog.NodeName][]string // in which boot sessions nodes were; made when it is asked for

	names  []string                       // of all nodes, in order
	groups map[string]map[string][]string // by source, then group; made when they are asked for

	// The node that was asked about last: it is in all its columns, one after the other.
	last    *catalog.Node
	settled catalog.Settings
}

func (s *Server) selection(c *catalog.Catalog) *selection {
	now := time.Now()
	return &selection{c: c, boots: s.cfg.Journal.Last, journal: s.cfg.Journal, now: now, due: c.Settled(now.Add(-api.Settling)), groups: map[string]map[string][]string{}}
}

// choose returns the nodes that a query is about, in the order asked for, before it is cut into pages. A name that no
// node has is an error that says which was perhaps meant.
func (x *selection) choose(q *api.NodeQuery) ([]*catalog.Node, error) {
	chosen, err := x.set(q)
	if err != nil {
		return nil, err
	}
	conditions, err := x.conditions(q.Where)
	if err != nil {
		return nil, err
	}
	nodes := make([]*catalog.Node, 0, chosen.Len())
	for name := range chosen.All() {
		n, ok := x.c.Node(catalog.NodeName(name))
		if !ok {
			if q.Any {
				continue
			}
			_, err := x.c.Resolve(catalog.NodeName(name))
			return nil, err
		}
		if conditions.hold(n) {
			nodes = append(nodes, n)
		}
	}
	if q.Sort != "" {
		return nodes, x.sort(nodes, q.Sort)
	}
	return nodes, nil
}

func (x *selection) set(q *api.NodeQuery) (nodeset.Set, error) {
	parser := nodeset.Parser{Groups: x, Match: x.match, Read: func(file string) (string, error) {
		text, ok := q.Files[file]
		if !ok {
			return "", fault.New(fault.Invalid, "the content of file %q does not come with the query", file)
		}
		return text, nil
	}}
	var chosen nodeset.Set
	var err error
	if q.Nodes == "" {
		chosen, err = nodeset.Of(x.all()...)
	} else {
		chosen, err = parser.Parse(q.Nodes)
	}
	if err != nil || q.Exclude == "" {
		return chosen, err
	}
	without, err := parser.Parse(q.Exclude)
	return chosen.Minus(without), err
}

func (x *selection) all() []string {
	if x.names == nil {
		x.names = make([]string, 0, x.c.NodeCount())
		for n := range x.c.Nodes() {
			x.names = append(x.names, string(n.Name))
		}
	}
	return x.names
}

func (x *selection) match(re *regexp.Regexp) ([]string, error) {
	return slices.DeleteFunc(slices.Clone(x.all()), func(n string) bool { return !re.MatchString(n) }), nil
}

// settings are what holds for a node.
func (x *selection) settings(n *catalog.Node) *catalog.Settings {
	if x.last != n {
		x.last, x.settled = n, x.c.Effective(n)
	}
	return &x.settled
}

// sources say for each source of groups in which of its groups a node is.
func (x *selection) sources() map[string]func(*catalog.Node) []string {
	return map[string]func(*catalog.Node) []string{
		"profile": func(n *catalog.Node) []string {
			var all []string
			for _, name := range x.c.Expand(n.Profiles) {
				all = append(all, string(name))
			}
			return all
		},
		"image": func(n *catalog.Node) []string {
			image := x.c.Scalar(n, func(s *catalog.Settings) *string { return s.Image })
			if image == "" {
				return nil
			}
			name, _ := catalog.SplitImage(image)
			return []string{string(name), image}
		},
		"group":   func(n *catalog.Node) []string { return x.c.List(n, groupsOf) },
		"role":    func(n *catalog.Node) []string { return x.c.List(n, rolesOf) },
		"rack":    x.scalar(func(s *catalog.Settings) *string { return s.Rack }),
		"zone":    x.scalar(func(s *catalog.Settings) *string { return s.Zone }),
		"cluster": x.scalar(func(s *catalog.Settings) *string { return s.Cluster }),
		"network": func(n *catalog.Node) []string {
			var all []string
			if r, err := x.c.Resolve(n.Name); err == nil {
				for _, d := range r.Nets {
					if d.Network != nil {
						all = append(all, string(d.Network.Name))
					}
				}
			}
			return all
		},
		"state": func(n *catalog.Node) []string { return []string{api.StateOf(x.boots(n.Name), x.now)} },
		"relay": func(n *catalog.Node) []string {
			if b := x.boots(n.Name); b != nil && b.Relay != "" {
				return []string{string(b.Relay)}
			}
			return nil
		},
		"drift": x.drift,
		"boot":  x.sessionsOf,
		"tag": func(n *catalog.Node) []string {
			var all []string
			for k, v := range x.settings(n).Tags {
				all = append(all, k, k+"="+v)
			}
			return all
		},
	}
}

func groupsOf(s *catalog.Settings) []string { return s.Groups }
func rolesOf(s *catalog.Settings) []string  { return s.Roles }

func (x *selection) scalar(field func(*catalog.Settings) *string) func(*catalog.Node) []string {
	return func(n *catalog.Node) []string {
		if v := x.c.Scalar(n, field); v != "" {
			return []string{v}
		}
		return nil
	}
}

// drift says in what a running node differs from what is declared for it now.
func (x *selection) drift(n *catalog.Node) []string {
	b := x.boots(n.Name)
	if b == nil {
		return nil
	}
	var all []string
	if r, err := x.c.Resolve(n.Name); err == nil && !b.Manifest.IsZero() && r.Version.Manifest.ID != b.Manifest {
		all = append(all, "image")
	}
	if how := x.runtime(n); how != "" && how != api.RuntimeInStep {
		all = append(all, "runtime")
	}
	return all
}

// runtime tells how a node's runtime overlays are.
func (x *selection) runtime(n *catalog.Node) string {
	return api.RuntimeOf(x.boots(n.Name), x.due, x.now)
}

// defaultSource is meant by @NAME: the groups that nodes are in, then profiles, whichever has the name.
var defaultSource = []string{"group", "profile"}

// Group returns the nodes in a group, as nodeset.Groups.
func (x *selection) Group(source, name string) ([]string, error) {
	if source == "" && name == "*" {
		return x.all(), nil
	}
	if source == "boot" && name != "*" {
		return x.session(name)
	}
	all := x.sources()
	sources := []string{source}
	if source == "" {
		sources = defaultSource
	} else if all[source] == nil {
		return nil, noSource(source, name, all)
	}
	for _, source := range sources {
		if in, ok := x.index(source, all[source])[name]; ok {
			return in, nil
		}
	}
	return x.noGroup(sources, name)
}

// noSource says that there is no such source of groups, and which was perhaps meant.
func noSource[V any](source, name string, known map[string]V) error {
	err := fault.New(fault.NotFound, "there are no groups by %q", source)
	if best := catalog.Nearest(source, maps.Keys(known), min(2, len(source)-2)); best != "" {
		return err.WithFix("did you mean @%s:%s?", best, name)
	}
	return err.WithFix("there are groups by %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

func (x *selection) noGroup(sources []string, name string) ([]string, error) {
	source := sources[len(sources)-1]
	if name == "*" {
		var any []string
		for _, in := range x.groups[source] {
			any = append(any, in...)
		}
		return any, nil
	}
	if source == "state" && api.IsState(name) || source == "drift" && (name == "image" || name == "runtime") || source == "profile" && x.hasProfile(name) {
		return nil, nil // there might be such nodes, and there are none
	}
	err := fault.New(fault.NotFound, "no node has the %s %q", strings.Join(sources, " or "), name)
	for _, s := range sources {
		if best := catalog.Nearest(name, maps.Keys(x.groups[s]), 2); best != "" {
			return nil, err.WithFix("did you mean @%s:%s?", s, best)
		}
	}
	return nil, err
}

func (x *selection) hasProfile(name string) bool {
	_, ok := x.c.Profile(catalog.ProfileName(name))
	return ok
}

// index is the nodes of every group of a source: one walk over all nodes, whatever is asked for.
func (x *selection) index(source string, of func(*catalog.Node) []string) map[string][]string {
	if found, ok := x.groups[source]; ok {
		return found
	}
	index := map[string][]string{}
	for n := range x.c.Nodes() {
		for _, group := range of(n) {
			index[group] = append(index[group], string(n.Name))
		}
	}
	x.groups[source] = index
	return index
}

// sort orders nodes by a column; those that are equal in it by their names.
func (x *selection) sort(nodes []*catalog.Node, by string) error {
	name, down := strings.CutPrefix(by, "-")
	col, err := x.column(name)
	if err != nil {
		return err
	}
	type keyed struct {
		key  string
		node *catalog.Node
	}
	all := make([]keyed, len(nodes))
	for i, n := range nodes {
		all[i] = keyed{col(n), n}
	}
	slices.SortStableFunc(all, func(a, b keyed) int {
		c := cmp.Or(nodeset.Compare(a.key, b.key), nodeset.Compare(string(a.node.Name), string(b.node.Name)))
		if down {
			return -c
		}
		return c
	})
	for i := range all {
		nodes[i] = all[i].node
	}
	return nil
}

// conditions of a query; all must hold.
type conditions []func(*catalog.Node) bool

func (c conditions) hold(n *catalog.Node) bool {
	for _, holds := range c {
		if !holds(n) {
			return false
		}
	}
	return true
}

func (x *selection) conditions(where []string) (conditions, error) {
	if len(where) > maxWhere {
		return nil, fault.New(fault.Invalid, "%d conditions are more than %d", len(where), maxWhere)
	}
	var all conditions
	for _, w := range where {
		name, value, compares := strings.Cut(w, "=")
		negated := false
		if compares {
			name, negated = strings.CutSuffix(name, "!")
		} else {
			name, negated = strings.CutPrefix(name, "!")
		}
		col, err := x.column(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		value = strings.TrimSpace(value)
		all = append(all, func(n *catalog.Node) bool {
			got := col(n)
			is := got != ""
			if compares {
				is = got == value || slices.Contains(strings.FieldsFunc(strings.Trim(got, "[]"), func(r rune) bool { return r == ' ' || r == ',' }), value)
			}
			return is != negated
		})
	}
	return all, nil
}
