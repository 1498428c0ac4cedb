package cli

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) discoverRule() *cli.Command {
	return noun("rule", "rules by which unknown machines become nodes",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list rules, in the order in which they are asked",
			examples: []string{"wulf discover rule list"}, flags: listFlags(), run: p.ruleList,
		},
		verb{
			name: "add", usage: "make a rule, or another one of its name", args: "RULE", least: 1, most: 1,
			about: "The controller that leads asks the rules about each machine that waits, and claims what they say. A rule claims at most --limit machines, and none after --for: a rule that is " +
				"forgotten hands out nothing. It gives no node another machine. A rule that goes by what machines say trusts the wire.",
			examples: []string{
				"wulf discover rule add r07 --nodes 'r07n[01-48]' --rack r07 --for 30m",
				"wulf discover rule add sn --nodes @* --match serial --for 720h --order=-1",
				"wulf discover rule add ports --nodes 'r07n[01-48]' --network rack7 --match port --port 'sw{n1}/Ethernet{n2}'",
				"wulf discover rule add next --nodes n[1-8] --limit 1",
			},
			flags: changeFlags(ruleFlags()...), run: p.ruleAdd,
		},
		verb{
			name: "test", usage: "say what a rule would do with the machines that wait, and do nothing", args: "RULE", least: 1, most: 1,
			about:    "Without --nodes it is about the rule of that name; else about one that is said as for add.",
			examples: []string{"wulf discover rule test r07", "wulf discover rule test new --nodes 'r07n[01-48]' --match port --port '*/{n2}'"},
			flags:    listFlags(ruleFlags()...), run: p.ruleTest,
		},
		verb{
			name: "delete", aliases: []string{"rm", "del", "remove"}, usage: "forget a rule; what it has claimed stays", args: "RULE", least: 1, most: 1,
			examples: []string{"wulf discover rule delete r07"}, flags: changeFlags(), run: p.ruleDelete,
		},
	)
}

func ruleFlags() []cli.Flag {
	return []cli.Flag{
		text("nodes", "the nodes to fill: a `NODESET`, in its order"),
		text("match", "go by `WHAT`: first (the next machine gets the next node; default), serial (the node's tag serial), uuid (its setting uuid), port (option 82)"),
		text("port", "with --match port: a `FORMULA` of where a node's machine is plugged in, as SWITCH/PORT; */PORT for any switch (default: the node's tag port)"),
		text("network", "only machines that ask in network `NAME`"),
		text("rack", "only machines that a relay of the rack `NAME` saw, with no relay agent between"),
		number("limit", "claim at most `N` machines in all (default: as many as there are nodes)"),
		duration("for", 24*time.Hour, "claim nothing any more after `TIME`"),
		number("order", "rules with a lower `N` are asked before (default 0), equals by name"),
	}
}

// ruleOf is the rule that a command line says.
func (p *program) ruleOf(c *cli.Context, cl *client) (catalog.DiscoverRule, error) {
	r := catalog.DiscoverRule{
		Name: catalog.RuleName(c.Args().First()), Match: catalog.MatchFirst, Network: catalog.NetworkName(c.String("network")), Rack: c.String("rack"),
		Port: c.String("port"), Order: c.Int("order"), Limit: c.Int("limit"), Expires: time.Now().Add(c.Duration("for")).UTC().Truncate(time.Second),
	}
	if c.IsSet("match") {
		r.Match = c.String("match")
	}
	if err := notEmpty(c, c.String("nodes")); err != nil {
		return r, err
	}
	all, err := cl.names(c, api.NodeQuery{Nodes: c.String("nodes")})
	if err != nil {
		return r, err
	}
	r.Nodes = nodeSet(all)
	if !c.IsSet("limit") {
		r.Limit = len(all)
	}
	return r, nil
}

func ruleName(r catalog.DiscoverRule) string { return string(r.Name) }

func (p *program) ruleList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.DiscoverRule](cl, api.PathRules)
	if err != nil {
		return err
	}
	return printList(p, c, listing[catalog.DiscoverRule]{
		list: list,
		name: ruleName,
		columns: []column[catalog.DiscoverRule]{
			{name: "NAME", cell: ruleName},
			{name: "MATCH", cell: func(r catalog.DiscoverRule) string { return r.Match }},
			{name: "NETWORK", cell: func(r catalog.DiscoverRule) string { return or(string(r.Network)) }},
			{name: "RACK", cell: func(r catalog.DiscoverRule) string { return or(r.Rack) }},
			{name: "NODES", cell: func(r catalog.DiscoverRule) string { return r.Nodes.String() }},
			{name: "PORT", cell: func(r catalog.DiscoverRule) string { return or(r.Port) }},
			{name: "CLAIMED", cell: func(r catalog.DiscoverRule) string { return fmt.Sprintf("%d of %d", r.Claimed, r.Limit) }},
			{name: "STATE", cell: func(r catalog.DiscoverRule) string {
				if end := r.Ends(time.Now()); end != "" {
					return end
				}
				return "for " + brief(time.Until(r.Expires))
			}},
			{name: "ORDER", wide: true, cell: func(r catalog.DiscoverRule) string { return fmt.Sprint(r.Order) }},
			{name: "EXPIRES", wide: true, cell: func(r catalog.DiscoverRule) string { return r.Expires.UTC().Format(time.RFC3339) }},
			{name: "CREATED", wide: true, cell: func(r catalog.DiscoverRule) string { return ago(r.Created) }},
			{name: "BY", wide: true, cell: func(r catalog.DiscoverRule) string { return or(r.By) }},
		},
	})
}

func (p *program) ruleAdd(c *cli.Context) error {
	if !c.IsSet("nodes") {
		return fault.New(fault.Invalid, "nothing says which nodes are to be filled").WithFix("say --nodes NODESET")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	r, err := p.ruleOf(c, cl)
	if err != nil {
		return err
	}
	if err := p.perform(c, cl, mutation{change: catalog.PutDiscoverRule{Rule: r}}); err != nil {
		return err
	}
	if p.hints() && !c.Bool("dry-run") {
		fmt.Fprintf(p.err, "next: power on, and watch: wulf discover list -w\n")
	}
	return nil
}

func (p *program) ruleTest(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	var r catalog.DiscoverRule
	if c.IsSet("nodes") {
		if r, err = p.ruleOf(c, cl); err != nil {
			return err
		}
	} else {
		rules, err := fetch[catalog.DiscoverRule](cl, api.PathRules)
		if err != nil {
			return err
		}
		found, err := find("discover rule", rules.Items, []string{c.Args().First()}, ruleName)
		if err != nil {
			return err
		}
		if r = found[0]; r.Ends(time.Now()) == "expired" {
			return fault.New(fault.Conflict, "discover rule %s expired %s", r.Name, ago(r.Expires)).WithFix("make it anew: wulf discover rule add %s --nodes '%s' --match %s", r.Name, r.Nodes, r.Match)
		}
	}
	list := api.List[discover.Found]{Items: []discover.Found{}}
	if err := cl.ask(func() error { return cl.Query(cl.ctx, api.PathTryRule+cl.stale, api.TryRule{Rule: r}, &list) }); err != nil {
		return err
	}
	waiting := list.Items[:0]
	for _, f := range list.Items {
		if f.State == discover.New {
			waiting = append(waiting, f)
		}
	}
	list.Items = waiting
	return printList(p, c, listing[discover.Found]{list: list, name: foundName, columns: foundColumns()})
}

func (p *program) ruleDelete(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.perform(c, cl, mutation{change: catalog.DeleteDiscoverRule{Name: catalog.RuleName(c.Args().First())}})
}
