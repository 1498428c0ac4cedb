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

func (p *program) nodeAdd(c *cli.Context) error {
	names, err := newNames(c.Args().Slice())
	if err != nil {
		return err
	}
	d, err := p.readDecisions(c, true)
	if err != nil {
		return err
	}
	if err := d.spreadOver(names); err != nil {
		return err
	}
	if err := p.readCSV(c, &d, names); err != nil {
		return err
	}
	change := catalog.AddNodes{Names: nodeSet(names), Profiles: d.profiles, Set: d.set, Compute: d.compute, Each: d.each}
	if d.without != nil {
		change.Set.Without = d.without(nil)
	}
	for _, name := range names {
		if _, err := catalog.ParseName[catalog.NodeName]("node", name); err != nil {
			return err
		}
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if err := p.perform(c, cl, mutation{change: change}); err != nil {
		return err
	}
	if p.hints() && !c.Bool("dry-run") {
		fmt.Fprintf(p.err, "next: power on, and see what happens: wulf boot watch; wulf node why %s\n", names[0])
	}
	return nil
}

func (p *program) nodeSet(c *cli.Context) error {
	d, err := p.readDecisions(c, true)
	if err != nil {
		return err
	}
	if d.empty() && !c.IsSet("csv") {
		return fault.New(fault.Invalid, "nothing is said about what to set").WithFix("see wulf node set --help")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	names, err := p.namedNodes(c, cl)
	if err != nil {
		return err
	}
	if err := d.spreadOver(names); err != nil {
		return err
	}
	if err := p.readCSV(c, &d, names); err != nil {
		return err
	}
	change := catalog.SetNodes{Nodes: nodeSet(names), Profiles: d.profiles, Set: d.set, Unset: d.unset, Compute: d.compute, Each: d.each}
	if d.without != nil {
		if err := cl.setWithout(&change, d.without); err != nil {
			return err
		}
	}
	return p.perform(c, cl, mutation{change: change})
}

// setWithout changes what nodes do not inherit: a list, of which each may have its own.
func (cl *client) setWithout(change *catalog.SetNodes, changed func([]string) []string) error {
	list, err := cl.views(api.NodeQuery{Nodes: change.Nodes.String()})
	if err != nil {
		return err
	}
	if change.Each == nil {
		change.Each = map[catalog.NodeName]catalog.Settings{}
	}
	var unset int
	for _, v := range list.Items {
		own := change.Each[v.Name]
		if own.Without = changed(v.Settings.Without); len(own.Without) == 0 {
			unset++
			continue
		}
		change.Each[v.Name] = own
	}
	if unset == len(list.Items) {
		change.Unset = append(change.Unset, "without")
	} else if unset > 0 {
		return fault.New(fault.Invalid, "some of these nodes would be without something and others not").WithFix("name them apart")
	}
	return nil
}

func (p *program) nodeDelete(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	names, err := p.namedNodes(c, cl)
	if err != nil {
		return err
	}
	m := mutation{change: catalog.DeleteNodes{Nodes: nodeSet(names)}, diff: []string{"delete " + counted(names, "node")}, count: len(names)}
	if len(names) > 1 {
		m.ask = fmt.Sprintf("Delete %s nodes?", thousands(len(names)))
	}
	return p.perform(c, cl, m)
}

// nodeReplace gives a node the hardware address of another machine: the board was changed, the node stays what it is.
func (p *program) nodeReplace(c *cli.Context) error {
	if !c.IsSet("mac") {
		return fault.New(fault.Invalid, "the new machine's hardware address is missing").WithFix("say --mac ADDRESS")
	}
	hw, err := catalog.ParseHardwareAddr(c.String("mac"))
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	var v api.NodeView
	if err := cl.get(nodePath(c.Args().First()), &v); err != nil {
		return err
	}
	device, err := replacedDevice(v, c.String("netname"))
	if err != nil {
		return err
	}
	set := catalog.Settings{Nets: map[string]catalog.NetDev{device: {Hardware: &hw}}}
	if c.IsSet("uuid") {
		u, err := catalog.ParseUUID(c.String("uuid"))
		if err != nil {
			return err
		}
		set.UUID = &u
	}
	return p.perform(c, cl, mutation{change: catalog.SetNodes{Nodes: catalog.NodeSet{v.Name}, Set: set}})
}

// replacedDevice is the network device of a node whose hardware address another machine's takes the place of: the one
// that is named, else the one that the node boots from, as catalog.Resolved has it, if DHCP knows the node by it; else
// the first by which DHCP knows it.
func replacedDevice(v api.NodeView, named string) (string, error) {
	s := effective(v)
	known := sortedKeys(s.Nets)
	if named != "" {
		if !slices.Contains(known, named) {
			err := fault.New(fault.NotFound, "node %s has no network device %q", v.Name, named)
			if len(known) > 0 {
				return "", err.WithFix("it has %s", strings.Join(known, ", "))
			}
			return "", err.WithFix("declare it: wulf node set %s --netname %s --hwaddr …", v.Name, named)
		}
		return named, nil
	}
	usual := defaultNet
	if s.Primary != nil {
		usual = *s.Primary
	}
	if s.Nets[usual].Hardware != nil {
		return usual, nil
	}
	for _, name := range known {
		if s.Nets[name].Hardware != nil {
			return name, nil
		}
	}
	if slices.Contains(known, usual) {
		return usual, nil
	}
	return "", fault.New(fault.Invalid, "node %s has no network device with a hardware address", v.Name).WithFix("declare one: wulf node set %s --hwaddr …", v.Name)
}

func nodeSet(names []string) catalog.NodeSet {
	set := make(catalog.NodeSet, len(names))
	for i, n := range names {
		set[i] = catalog.NodeName(n)
	}
	return set
}
