package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

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
	settings, heading := effective(v), []string{"SETTING", "VALUE", "DECIDED BY"}
	if c.Bool("own") {
		settings, v.Effective, v.Blame = v.Settings, nil, nil
	}
	rows := [][]string{{"profiles", or(words(v.Profiles)), "node " + string(v.Name)}}
	values := settings.Flat()
	if len(settings.Without) > 0 {
		values["without"] = strings.Join(settings.Without, " ")
	}
	for path := range v.Blame {
		if strings.HasSuffix(v.Blame[path], ", which is without") && values[path] == "" {
			values[path] = "-"
		}
	}
	for _, path := range sortedKeys(values) {
		row := []string{path, values[path]}
		if v.Blame != nil {
			row = append(row, v.Blame[path])
		}
		rows = append(rows, row)
	}
	if c.Bool("own") {
		rows[0], heading = rows[0][:2], heading[:2]
	} else if v.HostKey != "" {
		rows = append(rows, []string{"host key", v.HostKey, "cluster"})
	}
	if c.IsSet("columns") {
		if rows, heading, err = cutRows(rows, []string{"setting", "value", "source"}[:len(heading)], c.String("columns")); err != nil {
			return err
		}
	}
	return p.show(c, v, func(r *report) {
		if !c.IsSet("columns") {
			r.line("node %s: %s", v.Name, api.StateOf(v.Boot, time.Now()))
			if v.Runtime != "" {
				r.line("runtime overlays: %s (revision %d, told %s)", v.Runtime, v.Boot.Runtime.Revision, ago(v.Boot.Runtime.Seen))
			}
		}
		if !c.Bool("no-headers") {
			rows = slices.Insert(rows, 0, heading)
		}
		r.rows(rows)
	})
}

// cutRows keeps the columns that are named.
func cutRows(rows [][]string, columns []string, wanted string) (cut [][]string, heading []string, err error) {
	var at []int
	for name := range strings.SplitSeq(wanted, ",") {
		i := slices.Index(columns, strings.ToLower(strings.TrimSpace(name)))
		if i < 0 {
			return nil, nil, fault.New(fault.Invalid, "there is no column %q", name).WithFix("there are %s", strings.Join(columns, ", "))
		}
		at, heading = append(at, i), append(heading, strings.ToUpper(columns[i]))
	}
	for _, row := range rows {
		var kept []string
		for _, i := range at {
			kept = append(kept, row[i])
		}
		cut = append(cut, kept)
	}
	return cut, heading, nil
}

func effective(v api.NodeView) catalog.Settings {
	if v.Effective == nil {
		return v.Settings
	}
	return *v.Effective
}
