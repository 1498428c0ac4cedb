package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) discover() *cli.Command {
	c := noun("discover", "machines that no node claims, and the rules by which they become nodes",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list the machines that asked and that nobody knows, longest waiting first",
			about: "The list is what the relays have seen and the controller asked has heard. What machines say of themselves is not proven: whoever is on the wire may say anything.",
			examples: []string{
				"wulf discover list", "wulf discover list -w", "wulf discover list --all -o wide", "wulf discover list --network rack7 -o name",
			},
			flags: listFlags(append(waitingFlags(),
				toggle("all", "also those that are ignored, or nodes by now", "a"),
				toggle("watch", "then tell of each that comes, or becomes a node, a line each, until CTRL-C", "w"))...),
			run: p.discoverList,
		},
		verb{
			name: "claim", usage: "make a machine a node, which then boots by itself", args: "HARDWARE NODE", least: 1, most: unlimited,
			about: "The node must be declared; it needs no address. The machine's serial number and the switch port that it is behind are kept as tags of the node, where it has none. " +
				"With --next, NODESET is filled in the order in which machines came: as many as wait. Who has not asked for ten minutes waits no more, and of two network devices of one machine only one counts.",
			examples: []string{
				"wulf discover claim 52:54:00:00:00:07 n7",
				"wulf discover claim 52:54:00:00:00:07 n7 --replace -m 'new board'",
				"wulf discover claim --next 'r07n[01-48]' --rack r07 --dry-run",
			},
			flags: changeFlags(append(waitingFlags(),
				toggle("next", "fill NODESET with the machines that have waited longest"),
				toggle("replace", "although the node has a machine, the place of which this one takes"),
				text("netname", "it is the network device `NAME` (default: the one that the node boots from)"))...),
			run: p.discoverClaim,
		},
		verb{
			name: "ignore", usage: "leave machines out of the list, and to no rule", args: "HARDWARE…", least: 1, most: unlimited,
			examples: []string{"wulf discover ignore 52:54:00:00:00:99 --why 'the printer on floor 2'", "wulf discover ignore 52:54:00:00:00:99 --undo"},
			flags:    changeFlags(text("why", "for those who wonder later, a `TEXT`"), toggle("undo", "ignore them no longer")), run: p.discoverIgnore,
		},
	)
	c.Subcommands = append(c.Subcommands, p.discoverRule())
	return c
}

// waitingFlags choose among the machines that wait.
func waitingFlags() []cli.Flag {
	return []cli.Flag{text("network", "only machines that ask in network `NAME`"), text("rack", "only machines that a relay of the rack `NAME` saw, with no relay agent between")}
}

// inbox are the machines of which the flags hold, in the order in which they came.
func (cl *client) inbox(c *cli.Context, states ...string) (api.List[discover.Found], error) {
	list, err := fetch[discover.Found](cl, api.PathDiscover)
	list.Items = slices.DeleteFunc(list.Items, func(f discover.Found) bool {
		return len(states) > 0 && !slices.Contains(states, f.State) ||
			c.IsSet("network") && string(f.Facts.Network) != c.String("network") || c.IsSet("rack") && f.Rack != c.String("rack")
	})
	return list, err
}

func foundName(f discover.Found) string { return string(f.Hardware) }

func foundColumns() []column[discover.Found] {
	return []column[discover.Found]{
		{name: "HARDWARE", cell: foundName},
		{name: "FIRST", cell: func(f discover.Found) string { return ago(f.First) }},
		{name: "LAST", cell: func(f discover.Found) string { return ago(f.Last) }},
		{name: "NETWORK", cell: func(f discover.Found) string { return or(string(f.Facts.Network)) }},
		{name: "RELAY", cell: func(f discover.Found) string { return or(string(f.Relay)) }},
		{name: "RACK", wide: true, cell: func(f discover.Found) string { return or(f.Rack) }},
		{name: "PORT", cell: func(f discover.Found) string { return or(f.Facts.Place()) }},
		{name: "MACHINE", cell: func(f discover.Found) string {
			return or(strings.TrimSpace(f.Facts.Maker + " " + f.Facts.Product))
		}},
		{name: "SERIAL", cell: func(f discover.Found) string { return or(f.Facts.Serial) }},
		{name: "UUID", wide: true, cell: func(f discover.Found) string { return or(f.Facts.UUID) }},
		{name: "ASSET", wide: true, cell: func(f discover.Found) string { return or(f.Facts.Asset) }},
		{name: "ADDRESS", wide: true, cell: func(f discover.Found) string { return or(f.Address) }},
		{name: "AGENT", wide: true, cell: func(f discover.Found) string { return or(f.Facts.Agent) }},
		{name: "FIRMWARE", wide: true, cell: func(f discover.Found) string { return or(f.Firmware) }},
		{name: "STATE", cell: func(f discover.Found) string { return f.State }},
		{name: "NODE", cell: func(f discover.Found) string { return or(string(f.Node)) }},
		{name: "RULE", cell: func(f discover.Found) string { return or(string(f.Rule)) }},
		{name: "WHY", cell: func(f discover.Found) string { return cmp.Or(f.Why, f.Error) }},
	}
}

func (p *program) discoverList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	states := []string{discover.New}
	if c.Bool("all") || c.Bool("watch") {
		states = nil
	}
	if c.Bool("watch") {
		return p.watchInbox(c, cl)
	}
	list, err := cl.inbox(c, states...)
	if err != nil {
		return err
	}
	if err := printList(p, c, listing[discover.Found]{list: list, name: foundName, columns: foundColumns()}); err != nil {
		return err
	}
	if p.hints() && len(list.Items) > 0 && !c.Bool("all") {
		fmt.Fprintf(p.err, "next: wulf discover claim %s NODE\n", list.Items[0].Hardware)
	}
	return nil
}

// inboxEvery is how often a watch of the inbox looks.
const inboxEvery = 2 * time.Second

// watchInbox tells of what is in the inbox, and then of each machine that comes or becomes something else, a line each.
func (p *program) watchInbox(c *cli.Context, cl *client) error {
	f, err := p.format(c, formatTable, formatLines)
	if err != nil {
		return err
	}
	cl.cancel() // it has no end
	watching := &client{Client: cl.Client, ctx: c.Context, cancel: func() {}, stale: cl.stale}
	type state struct{ state, node, rule string }
	known := map[catalog.HardwareAddr]state{}
	for {
		list, err := watching.inbox(c)
		if err != nil && c.Context.Err() == nil {
			return err
		}
		for _, m := range list.Items {
			now := state{m.State, string(m.Node), string(m.Rule)}
			if known[m.Hardware] == now {
				continue
			}
			known[m.Hardware] = now
			if f == formatLines {
				err = json.NewEncoder(p.out).Encode(m)
			} else {
				_, err = fmt.Fprintf(p.out, "%s  %s: %s\n", m.Last.Local().Format("15:04:05"), m.Hardware, plain(foundLine(m)))
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-time.After(inboxEvery):
		case <-c.Context.Done():
			return nil // somebody has seen enough
		}
	}
}

// foundLine says all that is known of a machine in one line.
func foundLine(m discover.Found) string {
	words := []string{m.State}
	for _, w := range []struct{ what, is string }{
		{"", strings.TrimSpace(m.Facts.Maker + " " + m.Facts.Product)}, {"serial number ", m.Facts.Serial}, {"port ", m.Facts.Place()}, {"network ", string(m.Facts.Network)},
	} {
		if w.is != "" {
			words = append(words, w.what+w.is)
		}
	}
	line := strings.Join(words, ", ")
	switch {
	case m.State == discover.Claimed:
		line += " → is node " + string(m.Node)
	case m.Node != "":
		line += fmt.Sprintf(" → node %s by rule %s", m.Node, m.Rule)
	case m.Why != "":
		line += " (" + m.Why + ")"
	}
	return line
}

func (p *program) discoverClaim(c *cli.Context) error {
	if c.Bool("next") {
		return p.claimNext(c)
	}
	if c.NArg() != 2 {
		return fault.New(fault.Invalid, "wulf discover claim needs HARDWARE NODE").WithFix("see wulf discover claim --help")
	}
	hw, err := catalog.ParseHardwareAddr(c.Args().Get(0))
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[discover.Found](cl, api.PathDiscover)
	if err != nil {
		return err
	}
	claim := catalog.ClaimNode{Node: catalog.NodeName(c.Args().Get(1)), Hardware: hw, Device: c.String("netname"), Replace: c.Bool("replace")}
	i := slices.IndexFunc(list.Items, func(f discover.Found) bool { return f.Hardware == hw })
	if i >= 0 {
		claim.Facts = list.Items[i].Facts
	} else {
		p.say("no relay has seen %s yet", hw)
	}
	return p.perform(c, cl, mutation{change: claim})
}

// claimNext fills nodes with the machines that have waited longest.
func (p *program) claimNext(c *cli.Context) error {
	if c.Bool("replace") || c.IsSet("netname") {
		return fault.New(fault.Invalid, "--next gives machines to nodes that have none").WithFix("claim one machine after the other for what is not so")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	nodes, err := p.namedNodes(c, cl)
	if err != nil {
		return err
	}
	views, err := cl.views(api.NodeQuery{Nodes: nodeSet(nodes).String()})
	if err != nil {
		return err
	}
	list, err := cl.inbox(c, discover.New)
	if err != nil {
		return err
	}
	waiting, left := discover.Next(list.Items)
	p.leftOut(left)
	var batch catalog.Batch
	for _, v := range views.Items {
		if len(batch.Changes) == len(waiting) {
			break
		}
		if hasMachine(v) {
			continue
		}
		m := waiting[len(batch.Changes)]
		batch.Changes = append(batch.Changes, catalog.Step{Change: catalog.ClaimNode{Node: v.Name, Hardware: m.Hardware, Facts: m.Facts}})
	}
	switch {
	case len(waiting) == 0:
		return fault.New(fault.NotFound, "no machine waits to become a node").WithFix("see wulf discover list")
	case len(batch.Changes) == 0:
		return fault.New(fault.Conflict, "all of these nodes have machines").WithFix("see wulf node list %s --columns name,hardware", nodeSet(nodes))
	}
	return p.perform(c, cl, mutation{change: batch, ask: fmt.Sprintf("Make %s nodes, in the order in which they came?", plural(len(batch.Changes), "machine"))})
}

// maxLeft bounds the machines that are named when others are chosen.
const maxLeft = 5

// leftOut says which machines are none of the next ones, and why: who fills a rack counts them.
func (p *program) leftOut(machines []discover.Found) {
	for _, m := range machines[:min(len(machines), maxLeft)] {
		p.say("left out: %s, seen %s: %s", m.Hardware, ago(m.Last), plain(m.Why))
	}
	if n := len(machines) - maxLeft; n > 0 {
		p.say("left out: %s more; see wulf discover list", plural(n, "machine"))
	}
}

// hasMachine tells whether a node declares a hardware address; the controllers decide in the end.
func hasMachine(v api.NodeView) bool {
	for _, d := range v.Settings.Nets {
		if d.Hardware != nil {
			return true
		}
	}
	return false
}

func (p *program) discoverIgnore(c *cli.Context) error {
	var machines []catalog.HardwareAddr
	for _, w := range c.Args().Slice() {
		hw, err := catalog.ParseHardwareAddr(w)
		if err != nil {
			return err
		}
		machines = append(machines, hw)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if c.Bool("undo") {
		lines := make([]string, len(machines))
		for i, hw := range machines {
			lines[i] = "ignore " + string(hw) + " no longer"
		}
		return p.perform(c, cl, mutation{change: catalog.UnignoreMachines{Machines: machines}, diff: lines})
	}
	return p.perform(c, cl, mutation{change: catalog.IgnoreMachines{Machines: machines, Why: c.String("why")}})
}
