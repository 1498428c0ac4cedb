package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func csvFlag() cli.Flag {
	return text("csv", "take what differs from node to node from a CSV `FILE` with columns such as name,hwaddr,ipaddr; - is standard input")
}

// readCSV adds to the decisions what a CSV file says of the nodes. All of them must be in it, and no others: whoever adds
// two racks with a list of addresses wants to know when the list is of other racks.
func (p *program) readCSV(c *cli.Context, d *decisions, nodes []string) error {
	if !c.IsSet("csv") {
		return nil
	}
	file := c.String("csv")
	b, err := p.readDocument(file)
	if err != nil {
		return err
	}
	rows, err := parseCSV(file, b)
	if err != nil {
		return err
	}
	if d.each == nil {
		d.each = make(map[catalog.NodeName]catalog.Settings, len(rows))
	}
	for _, name := range nodes {
		row, ok := rows[name]
		if !ok {
			err := fault.New(fault.Invalid, "%s has no line for node %s", file, name)
			if best := closest(name, slices.Sorted(maps.Keys(rows))); best != "" {
				return err.WithFix("it has one for %s", best)
			}
			return err
		}
		if row.Profiles != nil {
			return fault.New(fault.Invalid, "%s sets profiles, which here are for all alike", file).WithFix("import it: wulf node import %s", file)
		}
		own := d.each[catalog.NodeName(name)]
		if err := own.Patch(row.Settings, nil); err != nil {
			return err
		}
		d.each[catalog.NodeName(name)] = own
		delete(rows, name)
	}
	if len(rows) > 0 {
		return fault.New(fault.Invalid, "%s has lines for nodes that are not named here: %s", file, cut(nodeSet(slices.Sorted(maps.Keys(rows))).String(), 80))
	}
	return nil
}

func (p *program) nodeImport(c *cli.Context) error {
	file := c.Args().First()
	format := formatOf(file)
	if c.IsSet("format") {
		format = c.String("format")
	}
	b, err := p.readDocument(file)
	if err != nil {
		return err
	}
	var want *declared
	switch format {
	case formatYAML, formatJSON:
		if want, err = parseDeclared(file, b); err != nil {
			return err
		}
		if len(want.Profiles)+len(want.Networks) > 0 {
			return fault.New(fault.Invalid, "%s declares more than nodes", file).WithFix("apply it: wulf apply -f %s", file)
		}
	case formatCSV:
		rows, err := parseCSV(file, b)
		if err != nil {
			return err
		}
		want = &declared{Nodes: rows}
	default:
		return fault.New(fault.Invalid, "--format %s is none", format).WithFix("it is yaml, json or csv")
	}
	if len(want.Nodes) == 0 {
		return fault.New(fault.Invalid, "%s declares no node", file)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	names := nodeSet(slices.Sorted(maps.Keys(want.Nodes)))
	list, err := cl.views(api.NodeQuery{Nodes: names.String(), Any: true})
	if err != nil {
		return err
	}
	now := presentNodes(list)
	if format == formatCSV { // it says what changes, and is silent about the rest
		for name, doc := range want.Nodes {
			if old, ok := now.nodes[name]; ok {
				s := old.Settings
				if err := s.Patch(doc.Settings, nil); err != nil {
					return err
				}
				if doc.Settings = s; doc.Profiles == nil {
					doc.Profiles = &old.Profiles
				}
				want.Nodes[name] = doc
			}
		}
	}
	change, err := reconcile(now, want, false)
	if err != nil {
		return err
	}
	return p.performIfAny(c, cl, change, mutation{seen: now.revision})
}

// performIfAny makes a change unless there is none to make.
func (p *program) performIfAny(c *cli.Context, cl *client, change catalog.Change, m mutation) error {
	if change == nil {
		p.say("nothing changes")
		return nil
	}
	m.change, m.message = change, commandOf(c) // several changes in one say little of where they come from
	return p.perform(c, cl, m)
}

func presentNodes(list api.List[api.NodeView]) present {
	now := present{revision: list.Revision, nodes: make(map[string]catalog.Node, len(list.Items))}
	for _, v := range list.Items {
		now.nodes[string(v.Name)] = v.Node
	}
	return now
}

func (p *program) nodeExport(c *cli.Context) error {
	f := c.String("output")
	if f == "" {
		f = formatYAML
	}
	if !slices.Contains([]string{formatYAML, formatJSON, formatCSV}, f) {
		return fault.New(fault.Invalid, "-o %s is not a format of this command", f).WithFix("choose yaml, json or csv")
	}
	q, err := p.query(c, true)
	if err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := cl.views(q)
	if err != nil {
		return err
	}
	if list.Items, err = chosen(c, q, list.Items); err != nil {
		return err
	}
	all := make([]catalog.Node, 0, len(list.Items))
	for _, v := range list.Items {
		n := v.Node
		if c.Bool("effective") {
			n.Settings, n.Profiles = effective(v), nil
		}
		all = append(all, n)
	}
	if f == formatCSV {
		return p.exportCSV(c, all)
	}
	d := nodesDeclared(all)
	if f == formatJSON {
		return writeJSON(p.out, d)
	}
	return writeYAML(p.out, d)
}

// csvUsual are the columns that an export has if nobody names others: what is a node's own.
const csvUsual = "name,profiles,nets.default.hardware,nets.default.address,rack,comment"

// exportCSV prints what nodes decide themselves, in columns that are read again as they are written.
func (p *program) exportCSV(c *cli.Context, all []catalog.Node) error {
	columns := c.String("columns")
	if columns == "" {
		columns = csvUsual
	}
	head := strings.Split(columns, ",")
	paths, err := csvColumns("--columns", head)
	if err != nil {
		return err
	}
	for i, path := range paths {
		if path == "" {
			return fault.New(fault.Invalid, "column %s cannot be imported", head[i]).WithFix("list it: wulf node list -o csv --columns %s", columns)
		}
	}
	rows := append(make([][]string, 0, 1+len(all)), head)
	for i := range all {
		row := make([]string, len(paths))
		for j, path := range paths {
			row[j] = csvCell(&all[i], path)
		}
		rows = append(rows, row)
	}
	return writeCSV(p.out, rows)
}

// csvCell is a setting as catalog.ParseSetting reads it.
func csvCell(n *catalog.Node, path string) string {
	s := &n.Settings
	switch path {
	case "name":
		return string(n.Name)
	case "profiles":
		return words(n.Profiles)
	case "kernel.args":
		return strings.Join(s.Kernel.Args, " ")
	case "ssh_keys":
		return strings.Join(s.SSHKeys, "\n")
	case "overlays.system":
		return strings.Join(s.Overlays.System, ",")
	case "overlays.runtime":
		return strings.Join(s.Overlays.Runtime, ",")
	case "roles":
		return strings.Join(s.Roles, ",")
	case "groups":
		return strings.Join(s.Groups, ",")
	case "bmc.password":
		return deref(s.BMC.Password) // sealed
	}
	if key, ok := strings.CutPrefix(path, "secrets."); ok {
		return string(s.Secrets[key])
	}
	if rest, ok := strings.CutPrefix(path, "filesystems."); ok {
		if dev, ok := strings.CutSuffix(rest, ".options"); ok {
			return strings.Join(s.Filesystems[dev].Options, ",")
		}
	}
	if text, _ := s.Value(path); text != `""` {
		return text
	}
	return ""
}
