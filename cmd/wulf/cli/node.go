package cli

import (
	"fmt"

	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) node() *cli.Command {
	return noun("node", "the machines that boot",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list nodes, how they are decided and how they are", args: "[NODESET]", most: unlimited,
			examples: []string{
				"wulf node list",
				"wulf node list 'r[01-04]n[1-48]' -o wide",
				"wulf node list @state:failed -o nodeset",
				"wulf node list --columns name,rack,image,state",
			},
			flags: listFlags(excludeFlag()), run: p.nodeList,
		},
		verb{
			name: "show", usage: "show a node's settings, and who decided each", args: "NODE", least: 1, most: 1,
			examples: []string{"wulf node show n1", "wulf node show n1 -o yaml"},
			flags:    showFlags(), run: p.nodeShow,
		},
		verb{
			name: "why", usage: "explain a node's state: its last boot step by step, the cause and the cure", args: "NODE", least: 1, most: 1,
			examples: []string{"wulf node why n1"},
			flags:    showFlags(), run: p.nodeWhy,
		},
		verb{
			name: "add", usage: "declare nodes", args: "NODESET", least: 1, most: unlimited,
			examples: []string{
				"wulf node add n1 --image debian --hwaddr 52:54:00:00:00:01 --ipaddr 10.1.0.1",
				"wulf node add 'n[1-48]' -P cpu --hwaddr 52:54:00:00:00:01+ --ipaddr 10.1.0.1+",
				"wulf node add 'r[1-4]n[1-48]' -P cpu --ipaddr '10.1.{n1}.{n2}' --rack 'r{n1}'",
			},
			flags: changeFlags(append(settingFlags(), addressFlags()...)...), run: p.nodeAdd,
		},
		verb{
			name: "set", usage: "change what is decided about nodes; what is not named stays", args: "NODESET", least: 1, most: unlimited,
			examples: []string{
				"wulf node set n1 --image rocky",
				"wulf node set @rack:r07 -P gpu --wait",
				"wulf node set n1 --unset kernel.args --comment 'memory replaced'",
			},
			flags: changeFlags(append(append(settingFlags(), addressFlags()...), unsetFlag(), excludeFlag())...), run: p.nodeSet,
		},
		verb{
			name: "delete", aliases: []string{"rm"}, usage: "forget nodes", args: "NODESET", least: 1, most: unlimited,
			examples: []string{"wulf node delete n1", "wulf node delete 'n[1-8]' --yes"},
			flags:    changeFlags(excludeFlag()), run: p.nodeDelete,
		},
	)
}

func nodePath(name string) string { return pathOf(api.PathNode, name) }

// pathOf is one of the API's paths with the name of a thing in it.
func pathOf(path, name string) string {
	return strings.Replace(path, "{name}", url.PathEscape(name), 1)
}

func (p *program) nodeList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := p.chosenNodes(c, cl, true)
	if err != nil {
		return err
	}
	return printList(p, c, listing[api.NodeView]{
		list: list,
		name: func(v api.NodeView) string { return string(v.Name) },
		columns: []column[api.NodeView]{
			{name: "NAME", cell: func(v api.NodeView) string { return string(v.Name) }},
			{name: "PROFILES", wide: true, cell: func(v api.NodeView) string { return or(words(v.Profiles)) }},
			{name: "IMAGE", cell: func(v api.NodeView) string { return or(deref(effective(v).Image)) }},
			{name: "ADDRESS", cell: func(v api.NodeView) string { return or(addressesOf(v)) }},
			{name: "HARDWARE", wide: true, cell: func(v api.NodeView) string { return or(hardwareOf(v)) }},
			{name: "RACK", wide: true, cell: func(v api.NodeView) string { return or(deref(effective(v).Rack)) }},
			{name: "ZONE", wide: true, cell: func(v api.NodeView) string { return or(deref(effective(v).Zone)) }},
			{name: "STATE", cell: nodeState},
			{name: "SINCE", cell: func(v api.NodeView) string { return ago(lastBoot(v).Last) }},
			{name: "RELAY", cell: func(v api.NodeView) string { return or(string(lastBoot(v).Relay)) }},
			{name: "REVISION", wide: true, cell: func(v api.NodeView) string { return or(revision(lastBoot(v).Revision)) }},
			{name: "COMMENT", wide: true, cell: func(v api.NodeView) string { return deref(effective(v).Comment) }},
		},
	})
}

func lastBoot(v api.NodeView) api.Boot {
	if v.Boot == nil {
		return api.Boot{}
	}
	return *v.Boot
}

// revision is a revision as text, "" for none.
func revision(r catalog.Revision) string {
	if r == 0 {
		return ""
	}
	return fmt.Sprint(r)
}

func addressesOf(v api.NodeView) string {
	return eachNet(v, func(d catalog.NetDev) string {
		if d.Address == nil {
			return ""
		}
		return d.Address.String()
	})
}

func hardwareOf(v api.NodeView) string {
	return eachNet(v, func(d catalog.NetDev) string { return deref(d.Hardware) })
}

// eachNet says something of every network device, in the order of their names.
func eachNet(v api.NodeView, say func(catalog.NetDev) string) string {
	nets := effective(v).Nets
	var all []string
	for _, name := range sortedKeys(nets) {
		if s := say(nets[name]); s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, ",")
}

func (p *program) nodeShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	var v api.NodeView
	if err := cl.get(nodePath(c.Args().First()), &v); err != nil {
		return err
	}
	return p.show(c, v, func(r *report) {
		r.line("node %s: %s", v.Name, nodeState(v))
		rows := [][]string{{"SETTING", "VALUE", "DECIDED BY"}, {"profiles", or(words(v.Profiles)), "node " + string(v.Name)}}
		values := flat(effective(v))
		for _, path := range sortedKeys(values) {
			rows = append(rows, []string{path, values[path], v.Blame[path]})
		}
		if v.HostKey != "" {
			rows = append(rows, []string{"host key", v.HostKey, "cluster"})
		}
		r.rows(rows)
	})
}

func (p *program) nodeWhy(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	var why api.Why
	if err := cl.get(pathOf(api.PathWhy, c.Args().First()), &why); err != nil {
		return err
	}
	return p.show(c, why, func(r *report) {
		r.line("%s  %s", why.Node, why.State)
		if why.Boot != nil {
			r.timeline(*why.Boot)
		}
		if why.Verdict != "" {
			r.line("verdict: %s", why.Verdict)
		}
		if why.Fix != "" {
			r.line("fix:     %s", why.Fix)
		}
	})
}

// timeline tells a boot step by step. A heart-beat is no step.
func (r *report) timeline(b api.Boot) {
	var rows [][]string
	console := ""
	for _, e := range b.Events {
		if e.Stage == boot.StageAlive {
			continue
		}
		mark := "✓"
		if e.Stage == boot.StageFailed || e.Error != "" {
			mark = "✗"
		}
		rows = append(rows, []string{"  " + mark + " " + string(e.Stage), e.Time.UTC().Format("15:04:05"), eventDetail(e)})
		if e.Console != "" {
			console = e.Console
		}
	}
	r.rows(rows)
	for line := range strings.SplitSeq(strings.TrimSpace(console), "\n") {
		if line != "" {
			r.WriteString("  | " + plain(line) + "\n")
		}
	}
}

// eventDetail is what an event tells besides its stage, as far as people want to know.
func eventDetail(e boot.Event) string {
	var parts []string
	for _, s := range []string{e.Address, string(e.Firmware), e.Image} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if e.Relay != "" {
		parts = append(parts, "relay "+string(e.Relay))
	}
	if e.From != "" && e.From != e.Relay {
		parts = append(parts, "from "+string(e.From))
	}
	if e.Bytes > 0 {
		parts = append(parts, size(e.Bytes))
	}
	if e.Took > 0 {
		parts = append(parts, fmt.Sprintf("%.1f s", e.Took.Seconds()))
	}
	for _, s := range []string{e.Message, e.Error} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ", ")
}

func (p *program) nodeAdd(c *cli.Context) error {
	names, err := newNames(c.Args().Slice())
	if err != nil {
		return err
	}
	d, err := readDecisions(c)
	if err != nil {
		return err
	}
	each, err := d.perNode(c, names)
	if err != nil {
		return err
	}
	change := catalog.AddNodes{}
	for _, name := range names {
		n := catalog.Node{Settings: d.set}
		if n.Name, err = catalog.ParseName[catalog.NodeName]("node", name); err != nil {
			return err
		}
		if d.profiles != nil {
			n.Profiles = *d.profiles
		}
		if err := n.Settings.Patch(each[n.Name], nil); err != nil {
			return err
		}
		change.Nodes = append(change.Nodes, n)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	m := mutation{change: change, diff: []string{"add " + counted(names, "node")}}
	if err := p.perform(c, cl, m); err != nil {
		return err
	}
	if p.hints() {
		fmt.Fprintf(p.err, "next: power on, and see what happens: wulf boot watch; wulf node why %s\n", names[0])
	}
	return nil
}

func (p *program) nodeSet(c *cli.Context) error {
	d, err := readDecisions(c)
	if err != nil {
		return err
	}
	if d.empty() && !c.IsSet("hwaddr") && !c.IsSet("ipaddr") {
		return fault.New(fault.Invalid, "nothing is said about what to set").WithFix("see wulf node set --help")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := p.chosenNodes(c, cl, false)
	if err != nil {
		return err
	}
	change := catalog.SetNodes{Profiles: d.profiles, Unset: d.unset}
	var names []string
	for _, v := range list.Items {
		change.Nodes, names = append(change.Nodes, v.Name), append(names, string(v.Name))
	}
	if change.Each, err = d.perNode(c, names); err != nil {
		return err
	}
	change.Set = d.set
	var diffs []difference
	for _, v := range list.Items {
		diff, err := settingsDiff(string(v.Name), v.Profiles, v.Settings, d, change.Each[v.Name])
		if err != nil {
			return err
		}
		diffs = append(diffs, diff)
	}
	m := mutation{change: change, diff: grouped("node", diffs)}
	limit, err := p.confirmAbove(c)
	if err != nil {
		return err
	}
	if len(names) > limit {
		m.ask = fmt.Sprintf("Change %d nodes?", len(names))
	}
	return p.perform(c, cl, m)
}

func (p *program) nodeDelete(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := p.chosenNodes(c, cl, false)
	if err != nil {
		return err
	}
	var change catalog.DeleteNodes
	var names []string
	for _, v := range list.Items {
		change.Nodes, names = append(change.Nodes, v.Name), append(names, string(v.Name))
	}
	m := mutation{change: change, diff: []string{"delete " + counted(names, "node")}, count: len(names)}
	if len(names) > 1 {
		m.ask = fmt.Sprintf("Delete %d nodes?", len(names))
	}
	return p.perform(c, cl, m)
}
