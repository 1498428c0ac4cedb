package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// The columns of a list of nodes where nobody says which.
var (
	nodeColumns     = []string{"name", "image", "address", "state", "since", "relay"}
	nodeColumnsWide = []string{"name", "profiles", "image", "address", "hardware", "rack", "zone", "state", "since", "relay", "boot-revision", "runtime", "comment"}
)

func (p *program) nodeList(c *cli.Context) error {
	f, err := p.format(c, listFormats()...)
	if err != nil {
		return err
	}
	q, err := p.query(c, true)
	if err != nil {
		return err
	}
	q.Sort, q.Limit = c.String("sort"), c.Int("limit")
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if c.Bool("watch") {
		return p.watchNodes(c, cl, q)
	}
	if !slices.Contains([]string{formatTable, formatWide, formatCSV, formatName, formatNodeset}, f) {
		list, err := cl.views(q)
		if err != nil {
			return err
		}
		if list.Items, err = chosen(c, q, list.Items); err != nil {
			return err
		}
		return printItems(p, f, list)
	}
	columns := nodeColumns
	switch {
	case f == formatName || f == formatNodeset:
		columns = []string{"name"}
	case c.IsSet("columns"):
		columns = nil
		for name := range strings.SplitSeq(c.String("columns"), ",") {
			columns = append(columns, strings.TrimSpace(name))
		}
	case f != formatTable:
		columns = nodeColumnsWide
	}
	// A terminal gets one screen, and is told of the rest.
	screen := 0
	if p.tty.out && f == formatTable && !c.Bool("all") && q.Limit == 0 && !c.IsSet("pick") {
		if screen = height(p.out) - 3; screen > 0 {
			q.Limit = screen
		}
	}
	t, err := cl.table(q, columns...)
	if err != nil {
		return err
	}
	if t.Rows, err = chosen(c, q, t.Rows); err != nil {
		return err
	}
	if err := p.printNodes(c, f, t); err != nil {
		return err
	}
	if more := t.Total - len(t.Rows); more > 0 && screen > 0 {
		fmt.Fprintf(p.err, "%s more; all of them with --all, their names with -o nodeset\n", thousands(more))
	}
	return nil
}

func (p *program) printNodes(c *cli.Context, f string, t api.NodeTable) error {
	switch f {
	case formatNodeset, formatName:
		names := make([]string, len(t.Rows))
		for i, row := range t.Rows {
			names[i] = row[0]
		}
		if f == formatNodeset {
			_, err := fmt.Fprintln(p.out, nodeset.Fold(names))
			return err
		}
		return p.printNames(names)
	}
	head := make([]string, len(t.Columns))
	for i, name := range t.Columns {
		head[i] = strings.ToUpper(name)
	}
	rows := make([][]string, 0, len(t.Rows)+1)
	if !c.Bool("no-headers") {
		rows = append(rows, head)
	}
	for _, row := range t.Rows {
		for i, cell := range row {
			row[i] = plain(cell)
		}
		rows = append(rows, row)
	}
	if f == formatCSV { // for programs: nothing is missing, and times are times
		return writeCSV(p.out, rows)
	}
	for _, row := range rows[len(rows)-len(t.Rows):] {
		for i, cell := range row {
			row[i] = nodeCell(t.Columns[i], cell)
		}
	}
	out := table{rows: rows, colour: p.colour()}
	if p.tty.out {
		out.width = width(p.out)
	}
	return out.write(p.out)
}

// nodeCell is a cell for people: how long ago something was, and - for nothing.
func nodeCell(column, cell string) string {
	if column == "since" || column == "created" {
		at, err := time.Parse(time.RFC3339, cell)
		if err != nil {
			return "-"
		}
		return ago(at)
	}
	if column == "comment" {
		return cell
	}
	return or(cell)
}
