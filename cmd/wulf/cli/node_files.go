package cli

import (
	"encoding/csv"
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
				doc.Settings = s
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
	m.change = change
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
	if f == formatCSV {
		return p.exportCSV(c, cl, q)
	}
	list, err := cl.views(q)
	if err != nil {
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
	d := nodesDeclared(all)
	if f == formatJSON {
		return writeJSON(p.out, d)
	}
	return writeYAML(p.out, d)
}

// csvUsual are the columns that an export has if nobody names others: what is a node's own.
const csvUsual = "name,profiles,nets.default.hardware,nets.default.address,rack,comment"

func (p *program) exportCSV(c *cli.Context, cl *client, q api.NodeQuery) error {
	columns := c.String("columns")
	if columns == "" {
		columns = csvUsual
	}
	t, err := cl.table(q, strings.Split(columns, ",")...)
	if err != nil {
		return err
	}
	w := csv.NewWriter(p.out)
	if err := w.Write(t.Columns); err != nil {
		return err
	}
	for _, row := range t.Rows {
		for i, cell := range row { // lists as they are read again
			row[i] = strings.TrimSuffix(strings.TrimPrefix(plain(cell), "["), "]")
		}
	}
	return w.WriteAll(t.Rows)
}
