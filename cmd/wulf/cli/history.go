package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) history() *cli.Command {
	return verb{
		name: "history", usage: "list what was changed, when and by whom, the newest first",
		examples: []string{"wulf history", "wulf history --node n1", "wulf history --limit 500 -o csv"},
		flags:    listFlags(text("node", "only what changed `NODE`"), text("overlay", "only what changed the overlay `NAME`"), number("limit", "the last `N` changes (default 50)")), run: p.runHistory,
	}.command()
}

func (p *program) runHistory(c *cli.Context) error {
	q := url.Values{}
	if c.IsSet("limit") {
		q.Set("limit", strconv.Itoa(c.Int("limit")))
	}
	for _, name := range []string{"node", "overlay"} {
		if c.IsSet(name) {
			q.Set(name, c.String(name))
		}
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if cl.stale != "" {
		q.Set("consistency", "stale")
		cl.stale = ""
	}
	path := api.PathHistory
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	list, err := fetch[api.Record](cl, path)
	if err != nil {
		return err
	}
	return printList(p, c, listing[api.Record]{
		list: list,
		name: func(r api.Record) string { return fmt.Sprint(r.Revision) },
		columns: []column[api.Record]{
			{name: "REVISION", cell: func(r api.Record) string { return fmt.Sprint(r.Revision) }},
			{name: "WHEN", cell: func(r api.Record) string { return ago(r.At) }},
			{name: "TIME", wide: true, cell: func(r api.Record) string { return r.At.UTC().Format(time.RFC3339) }},
			{name: "BY", cell: func(r api.Record) string { return or(r.By) }},
			{name: "CHANGE", cell: func(r api.Record) string { return r.Kind }},
			{name: "ABOUT", cell: func(r api.Record) string { return or(r.About) }},
			{name: "UNDO", wide: true, cell: func(r api.Record) string {
				if r.Undoable {
					return fmt.Sprintf("wulf revert %d", r.Revision-1)
				}
				return "-"
			}},
			{name: "MESSAGE", cell: func(r api.Record) string { return r.Message }},
		},
	})
}

func (p *program) revert() *cli.Command {
	return verb{
		name: "revert", usage: "take back all that was changed after a revision", args: "REVISION", least: 1, most: 1,
		about: "Nodes, profiles, networks, tags of images, files of overlays and what is decided about unknown machines become as they were at that revision. Joins of relays and controllers, tokens and the bytes of " +
			"images stay as they are. It is a change like any other: what it takes back can be brought back by another revert.",
		examples: []string{"wulf revert 4711 -m 'gpu profile broke r07'"},
		flags:    changeFlags(), run: p.runRevert,
	}.command()
}

func (p *program) runRevert(c *cli.Context) error {
	rev, err := strconv.ParseUint(c.Args().First(), 10, 64)
	if err != nil {
		return fault.New(fault.Invalid, "%q is not a revision", c.Args().First()).WithFix("see wulf history")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.perform(c, cl, mutation{change: catalog.Revert{To: catalog.Revision(rev)}})
}
