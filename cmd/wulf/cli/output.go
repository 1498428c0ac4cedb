package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// The formats of -o. Those with = behind them take an argument.
const (
	formatTable   = "table"
	formatWide    = "wide"
	formatJSON    = "json"
	formatYAML    = "yaml"
	formatCSV     = "csv"
	formatName    = "name"
	formatNodeset = "nodeset"
	formatLines   = "ndjson"
	formatPath    = "jsonpath="
	formatGo      = "go-template="
)

// listFormats are the formats of lists.
func listFormats() []string {
	return []string{formatTable, formatWide, formatJSON, formatYAML, formatCSV, formatName, formatNodeset, formatLines, formatPath, formatGo}
}

// showFormats are the formats of single things.
func showFormats() []string {
	return []string{formatTable, formatJSON, formatYAML, formatPath, formatGo}
}

func formatFlag(formats string) cli.Flag {
	return text("output", "print as `FORMAT`: "+formats, "o")
}

// listFlags are the flags of every command that lists something.
func listFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		formatFlag("table, wide, json, yaml, csv, name, nodeset, ndjson, jsonpath=EXPRESSION or go-template=TEMPLATE (WULF_OUTPUT)"),
		text("columns", "show the columns `A,B,…` and no others"),
		toggle("no-headers", "leave out the first line of a table"),
		staleFlag(),
	)
}

func staleFlag() cli.Flag {
	return toggle("stale", "take what the controller asked knows, even if it may be behind")
}

// showFlags are the flags of every command that shows one thing.
func showFlags(more ...cli.Flag) []cli.Flag {
	return append(more, formatFlag("table, json, yaml, jsonpath=EXPRESSION or go-template=TEMPLATE"), staleFlag())
}

// format is the format asked for, one of allowed.
func (p *program) format(c *cli.Context, allowed ...string) (string, error) {
	f := c.String("output")
	if f == "" {
		// The environment or the context sets a preference, which not every command can follow.
		if f = p.preferredFormat(c); !slices.Contains(allowed, f) {
			return formatTable, nil
		}
	}
	for _, a := range allowed {
		if f == a && !strings.HasSuffix(a, "=") || strings.HasSuffix(a, "=") && strings.HasPrefix(f, a) && f != a {
			return f, nil
		}
	}
	return "", fault.New(fault.Invalid, "-o %s is not a format of this command", f).WithFix("choose %s", strings.ReplaceAll(strings.Join(allowed, ", "), "=", "=…"))
}

// column is a column of a table of T.
type column[T any] struct {
	name string
	wide bool // shown with -o wide, csv and --columns only
	cell func(T) string
}

// listing is a list that can be printed in every format.
type listing[T any] struct {
	list    api.List[T]
	columns []column[T]
	name    func(T) string
}

// printList prints a list in the format asked for. JSON and YAML are an api.List as it travels: one schema for all.
func printList[T any](p *program, c *cli.Context, l listing[T]) error {
	f, err := p.format(c, listFormats()...)
	if err != nil {
		return err
	}
	switch f {
	case formatTable, formatWide, formatCSV:
	case formatName, formatNodeset:
		names := make([]string, len(l.list.Items))
		for i, item := range l.list.Items {
			names[i] = l.name(item)
		}
		if f == formatNodeset {
			_, err := fmt.Fprintln(p.out, nodeset.Fold(names))
			return err
		}
		return p.printNames(names)
	default:
		return printItems(p, f, l.list)
	}
	columns, err := l.chosen(c.String("columns"), f != formatTable)
	if err != nil {
		return err
	}
	rows := make([][]string, 0, len(l.list.Items)+1)
	head := make([]string, len(columns))
	for i, col := range columns {
		head[i] = col.name
	}
	if !c.Bool("no-headers") {
		rows = append(rows, head)
	}
	for _, item := range l.list.Items {
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = plain(col.cell(item))
		}
		rows = append(rows, row)
	}
	if f == formatCSV {
		return writeCSV(p.out, rows)
	}
	t := table{rows: rows, colour: p.colour()}
	if p.tty.out {
		t.width = width(p.out)
	}
	return t.write(p.out)
}

// printNames prints one name a line.
func (p *program) printNames(names []string) error {
	out := bufio.NewWriter(p.out)
	for _, n := range names {
		out.WriteString(plain(n))
		out.WriteByte('\n')
	}
	return out.Flush()
}

// printItems prints a list in a format for programs.
func printItems[T any](p *program, f string, list api.List[T]) error {
	if f == formatLines {
		out := bufio.NewWriter(p.out)
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		for _, item := range list.Items {
			if err := e.Encode(item); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	return p.printValue(f, list)
}

// printValue prints anything in a format for programs.
func (p *program) printValue(f string, v any) error {
	switch {
	case f == formatYAML:
		return writeYAML(p.out, v)
	case strings.HasPrefix(f, formatPath):
		return writePath(p.out, strings.TrimPrefix(f, formatPath), v)
	case strings.HasPrefix(f, formatGo):
		return writeTemplate(p.out, strings.TrimPrefix(f, formatGo), v)
	}
	return writeJSON(p.out, v)
}

// chosen are the columns to show: those named, or all, or all that are not wide.
func (l *listing[T]) chosen(names string, wide bool) ([]column[T], error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(l.columns), func(c column[T]) bool { return c.wide && !wide }), nil
	}
	var out []column[T]
	for n := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(l.columns, func(c column[T]) bool { return strings.EqualFold(c.name, strings.TrimSpace(n)) })
		if i < 0 {
			var all []string
			for _, c := range l.columns {
				all = append(all, strings.ToLower(c.name))
			}
			return nil, fault.New(fault.Invalid, "there is no column %q", n).WithFix("there are %s", strings.Join(all, ", "))
		}
		out = append(out, l.columns[i])
	}
	return out, nil
}

// show prints one thing: as JSON or YAML, or for people by the function.
func (p *program) show(c *cli.Context, v any, human func(*report)) error {
	f, err := p.format(c, showFormats()...)
	if err != nil {
		return err
	}
	if f != formatTable {
		return p.printValue(f, v)
	}
	r := report{colour: p.colour()}
	human(&r)
	_, err = r.WriteTo(p.out)
	return err
}

// report is text for people.
type report struct {
	bytes.Buffer
	colour bool
}

// line adds a line.
func (r *report) line(format string, args ...any) {
	r.WriteString(plain(fmt.Sprintf(format, args...)) + "\n")
}

// rows adds lines whose parts stand below one another.
func (r *report) rows(rows [][]string) {
	for _, row := range rows {
		for i := range row {
			row[i] = plain(row[i])
		}
	}
	t := table{rows: rows, colour: r.colour, plainHead: true}
	_ = t.write(r) // a buffer takes everything
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeYAML prints the same as writeJSON, in YAML, of which JSON is a part.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return fault.Wrap(fault.Internal, err, "turning JSON into YAML")
	}
	unstyle(&n)
	out, err := yaml.Marshal(&n)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing YAML")
	}
	_, err = w.Write(out)
	return err
}

// unstyle takes from a document what it has of JSON: braces, and quotation marks where nobody needs them. A text that
// begins with a digit keeps them: readers of YAML 1.1 take 52:54:00:00:00:01 for a number to the base of 60.
func unstyle(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode {
		n.Style &^= yaml.FlowStyle
	} else if n.Tag == "!!str" && n.Value != "" && strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/", rune(n.Value[0])) {
		n.Style &^= yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		unstyle(c)
	}
}
