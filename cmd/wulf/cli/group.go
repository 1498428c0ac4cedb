package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func (p *program) group() *cli.Command {
	setFlags := func(more ...cli.Flag) []cli.Flag {
		return append(append(selectFlags(), toggle("offline", "take names as they are, ask nobody; there are no groups then")), more...)
	}
	return noun("group", "groups of nodes, and node sets as such",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list groups with their nodes", args: "[SOURCE]", most: 1,
			about:    "SOURCE is group (the default), profile, image, rack, zone, cluster, network, role, tag, state, relay or drift.",
			examples: []string{"wulf group list", "wulf group list rack", "wulf group list tag -o csv"},
			flags:    listFlags(), run: p.groupList,
		},
		verb{
			name: "add", usage: "put nodes into a group", args: "GROUP NODESET", least: 2, most: unlimited,
			examples: []string{"wulf group add io 'n[1-8]'"}, flags: changeFlags(), run: func(c *cli.Context) error { return p.groupChange(c, true) },
		},
		verb{
			name: "remove", aliases: []string{"rm", "del", "delete"}, usage: "take nodes out of a group", args: "GROUP NODESET", least: 2, most: unlimited,
			examples: []string{"wulf group remove io n8"}, flags: changeFlags(), run: func(c *cli.Context) error { return p.groupChange(c, false) },
		},
		verb{
			name: "expand", usage: "print the names of a node set, one a line", args: "NODESET", most: unlimited,
			examples: []string{"wulf group expand @rack:r07", "wulf group expand 'n[1-10]!n7' --offline", "wulf group expand 'n[1-48]' --separator ,"},
			flags:    setFlags(text("separator", "put `TEXT` between names instead of a line end", "S")), run: p.groupExpand,
		},
		verb{
			name: "fold", usage: "print a node set as short as can be", args: "NODESET", most: unlimited,
			examples: []string{"wulf group fold n1 n2 n3", "squeue -h -o %N | wulf group fold - --offline", "wulf group fold 'n[1-9]' --split 3"},
			flags:    setFlags(number("autostep", "write `N` or more names with a step as n[0-8/4]"), number("split", "in `N` parts, one a line"), toggle("contiguous", "each run by itself, one a line")), run: p.groupFold,
		},
		verb{
			name: "count", usage: "print how many nodes are in a node set", args: "NODESET", most: unlimited,
			examples: []string{"wulf group count @state:failed"}, flags: setFlags(), run: p.groupCount,
		},
		verb{
			name: "regroup", usage: "print a node set by groups that are wholly in it, and the rest", args: "NODESET", most: unlimited,
			examples: []string{"wulf group regroup @state:failed --by rack"},
			flags:    append(selectFlags(), text("by", "groups of `SOURCE` (default: rack)"), staleFlag()), run: p.groupRegroup,
		},
	)
}

// chosenSet is the node set that a command line names, with somebody in it: as the controllers know it, or with
// --offline as it is written.
func (p *program) chosenSet(c *cli.Context) (nodeset.Set, error) {
	set, q, err := p.maybeEmpty(c)
	if err == nil && set.Len() == 0 {
		err = nobody(q)
	}
	return set, err
}

func (p *program) maybeEmpty(c *cli.Context) (nodeset.Set, api.NodeQuery, error) {
	var none nodeset.Set
	if c.NArg() == 0 && (c.Bool("offline") || len(names(c, "select")) == 0) {
		return none, api.NodeQuery{}, fault.New(fault.Invalid, "%s needs NODESET", commandOf(c)).WithFix("name nodes; @* is all of them, - is standard input")
	}
	if c.Bool("offline") {
		return p.offlineSet(c)
	}
	q, err := p.query(c, false)
	if err != nil {
		return none, q, err
	}
	cl, err := p.connect(c)
	if err != nil {
		return none, q, err
	}
	defer cl.done()
	all, err := cl.names(c, q)
	if err != nil {
		return none, q, err
	}
	set, err := nodeset.Of(all...)
	return set, q, err
}

// offlineSet is the set as it is written.
func (p *program) offlineSet(c *cli.Context) (nodeset.Set, api.NodeQuery, error) {
	q := api.NodeQuery{Nodes: strings.Join(c.Args().Slice(), " "), Exclude: c.String("exclude")}
	var none nodeset.Set
	if c.IsSet("select") {
		return none, q, fault.New(fault.Invalid, "--select and --offline exclude one another: only controllers know what is decided about nodes")
	}
	parser := nodeset.Parser{Read: func(file string) (string, error) { return readSets(p.in, file) }}
	set, err := parser.Parse(q.Nodes)
	if err != nil {
		return none, q, err
	}
	if q.Exclude != "" {
		without, err := parser.Parse(q.Exclude)
		if err != nil {
			return none, q, err
		}
		set = set.Minus(without)
	}
	left, err := picked(c, set.Names())
	if err != nil {
		return none, q, err
	}
	set, err = nodeset.Of(left...)
	return set, q, err
}

func (p *program) groupExpand(c *cli.Context) error {
	set, err := p.chosenSet(c)
	if err != nil {
		return err
	}
	if c.IsSet("separator") {
		_, err := fmt.Fprintln(p.out, strings.Join(set.Names(), c.String("separator")))
		return err
	}
	return p.printNames(set.Names())
}

func (p *program) groupFold(c *cli.Context) error {
	set, err := p.chosenSet(c)
	if err != nil {
		return err
	}
	parts := []nodeset.Set{set}
	switch {
	case c.IsSet("split") && c.Bool("contiguous"):
		return fault.New(fault.Invalid, "--split and --contiguous exclude one another")
	case c.IsSet("split"):
		if c.Int("split") < 1 {
			return fault.New(fault.Invalid, "--split %d is not a number of parts", c.Int("split"))
		}
		parts = set.Split(c.Int("split"))
	case c.Bool("contiguous"):
		parts = set.Contiguous()
	}
	lines := make([]string, len(parts))
	for i, part := range parts {
		lines[i] = part.Fold(nodeset.FoldOptions{Autostep: c.Int("autostep")})
	}
	return p.printNames(lines)
}

func (p *program) groupCount(c *cli.Context) error {
	set, _, err := p.maybeEmpty(c) // of which 0 is the answer
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.out, set.Len())
	return err
}

// groupsOf are the groups of a source, with their nodes.
func (cl *client) groupsOf(source string) (api.List[api.GroupView], error) {
	return fetch[api.GroupView](cl, pathOf(api.PathGroups, source))
}

func (p *program) groupRegroup(c *cli.Context) error {
	set, err := p.chosenSet(c)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	source := c.String("by")
	if source == "" {
		source = "rack"
	}
	list, err := cl.groupsOf(source)
	if err != nil {
		return err
	}
	groups := make([]nodeset.Group, 0, len(list.Items))
	for _, g := range list.Items {
		nodes, err := nodeset.Parse(g.Nodes)
		if err != nil {
			return err
		}
		groups = append(groups, nodeset.Group{Source: source, Name: g.Name, Set: nodes})
	}
	_, err = fmt.Fprintln(p.out, nodeset.Regroup(set, groups).String())
	return err
}

func (p *program) groupList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	source := c.Args().First()
	if source == "" {
		source = "group"
	}
	list, err := cl.groupsOf(source)
	if err != nil {
		return err
	}
	return printList(p, c, listing[api.GroupView]{
		list: list,
		name: func(g api.GroupView) string { return g.Name },
		columns: []column[api.GroupView]{
			{name: "GROUP", cell: func(g api.GroupView) string { return g.Name }},
			{name: "COUNT", cell: func(g api.GroupView) string { return thousands(g.Count) }},
			{name: "NODES", cell: func(g api.GroupView) string { return g.Nodes }},
		},
	})
}

// matching connects, and lists the nodes of a set that a change is about: at least one. Whoever gets a client has to end it.
func (p *program) matching(c *cli.Context, set string) (*client, api.List[api.NodeView], error) {
	var none api.List[api.NodeView]
	q := api.NodeQuery{Nodes: set}
	if err := notEmpty(c, q.Nodes); err != nil {
		return nil, none, err
	}
	if err := p.readFiles(q.Nodes, &q); err != nil {
		return nil, none, err
	}
	cl, err := p.connect(c)
	if err != nil {
		return nil, none, err
	}
	list, err := cl.views(q)
	if err == nil && len(list.Items) == 0 {
		err = nobody(q)
	}
	if err != nil {
		cl.done()
		return nil, none, err
	}
	return cl, list, nil
}

// groupChange puts nodes into a group or takes them out. A node that is in it by a profile leaves it by ~GROUP.
func (p *program) groupChange(c *cli.Context, in bool) error {
	args := c.Args().Slice()
	group, err := groupName(args[0])
	if err != nil {
		return err
	}
	cl, list, err := p.matching(c, strings.Join(args[1:], " "))
	if err != nil {
		return err
	}
	defer cl.done()
	change, err := regrouped(list.Items, group, in)
	if err != nil {
		return err
	}
	return p.performIfAny(c, cl, change, mutation{seen: list.Revision})
}
