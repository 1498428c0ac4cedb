package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) boot() *cli.Command {
	return noun("boot", "what machines do when they boot",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list boot sessions: machines that booted together",
			about: "A session begins with the first machine that boots after five minutes without one, and holds all that follow\n" +
				"until there is as much quiet again. Its number is made of the time, so that every controller gives the same.",
			examples: []string{"wulf boot list", "wulf boot list --machines", "wulf boot list --node n1 -o json"},
			flags: listFlags(
				toggle("machines", "list the last boot of every machine instead"),
				text("node", "list all boots of `NODE`, or of a hardware address, instead"),
			), run: p.bootList,
		},
		verb{
			name: "show", usage: "show a boot session: phases, errors, relays", args: "[SESSION]", most: 1,
			examples: []string{"wulf boot show", "wulf boot show 95118", "wulf boot show last -o json"},
			flags:    showFlags(), run: p.bootShow,
		},
		verb{
			name: "compare", usage: "show what differs between two boot sessions", args: "SESSION [SESSION]", least: 1, most: 2,
			about:    "Where one is named, the last is compared to it.",
			examples: []string{"wulf boot compare 95118", "wulf boot compare 95118 95406 --slower 1m"},
			flags:    showFlags(duration("slower", 30*time.Second, "name the nodes that took longer by more than `DURATION`")), run: p.bootCompare,
		},
		verb{
			name: "watch", usage: "tell how machines boot while they do, until CTRL-C", args: "[NODESET…]", most: unlimited,
			about: "The last session, and the next when it begins; of a node set, what becomes of its nodes alone. A session that is\n" +
				"named is watched until it is over. On a terminal a few lines are written over, elsewhere there is a line for each\n" +
				"new state and one every ten seconds.",
			examples: []string{"wulf boot watch", "wulf boot watch @rack:r07", "wulf boot watch 95118 -o json", "wulf boot watch --events n1"},
			flags:    []cli.Flag{toggle("events", "tell every event of all machines, or of one, instead"), formatFlag("table, or json or ndjson, one a line")}, run: p.bootWatch,
		},
	)
}

func bootName(b api.Boot) string {
	if b.Node == "" {
		return string(b.Hardware)
	}
	return string(b.Node)
}

func (p *program) bootList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	node := c.String("node")
	if node == "" && !c.Bool("machines") {
		return p.sessionList(c, cl)
	}
	path := api.PathBoots
	if node != "" {
		path += "?" + url.Values{"node": {node}}.Encode()
		cl.stale = "" // boots are what this controller has heard, in any case
	}
	list, err := fetch[api.Boot](cl, path)
	if err != nil {
		return err
	}
	return printList(p, c, listing[api.Boot]{
		list: list,
		name: bootName,
		columns: []column[api.Boot]{
			{name: "NODE", cell: bootName},
			{name: "STATE", cell: func(b api.Boot) string { return string(b.Stage) }},
			{name: "STARTED", cell: func(b api.Boot) string { return ago(b.Started) }},
			{name: "TOOK", cell: func(b api.Boot) string { return brief(b.Last.Sub(b.Started)) }},
			{name: "RELAY", cell: func(b api.Boot) string { return or(string(b.Relay)) }},
			{name: "IMAGE", cell: func(b api.Boot) string { return or(b.Image) }},
			{name: "VERSION", wide: true, cell: func(b api.Boot) string {
				if b.Manifest.IsZero() {
					return "-"
				}
				return b.Manifest.Short()
			}},
			{name: "REVISION", cell: func(b api.Boot) string { return or(revision(b.Revision)) }},
			{name: "ADDRESS", wide: true, cell: func(b api.Boot) string { return or(b.Address) }},
			{name: "FIRMWARE", wide: true, cell: func(b api.Boot) string { return or(string(b.Firmware)) }},
			{name: "HARDWARE", wide: true, cell: func(b api.Boot) string { return or(string(b.Hardware)) }},
			{name: "ERROR", cell: func(b api.Boot) string {
				if b.Stage != boot.StageFailed {
					return ""
				}
				return fmt.Sprintf("after %s: %s", or(string(b.FailedAt)), b.Error)
			}},
		},
	})
}

func (p *program) bootWatch(c *cli.Context) error {
	format, err := p.format(c, formatTable, formatJSON, formatLines)
	if err != nil {
		return err
	}
	if !c.Bool("events") {
		return p.sessionWatch(c, format)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	if c.NArg() > 1 {
		return fault.New(fault.Invalid, "%s --events takes one NODE", commandOf(c)).WithFix("see wulf boot watch --help")
	}
	query := url.Values{"watch": {"true"}}
	if node := c.Args().First(); node != "" {
		query.Set("node", node)
	}
	for {
		err := p.watch(c, cl, query, format)
		switch {
		case c.Context.Err() != nil:
			return nil // somebody has seen enough
		case err != nil:
			return err
		}
		fmt.Fprintln(p.err, "the controller ended the watch; asking again")
		select {
		case <-time.After(time.Second):
		case <-c.Context.Done():
		}
	}
}

// watch prints events until the controller ends the answer, as it does when it stops.
func (p *program) watch(c *cli.Context, cl *client, query url.Values, format string) error {
	a, err := cl.Do(c.Context, api.Request{Method: http.MethodGet, Path: api.PathBoots + "?" + query.Encode()})
	if err != nil {
		return unreached(err)
	}
	defer a.Body.Close()
	in := json.NewDecoder(a.Body)
	for {
		var e boot.Event
		err := in.Decode(&e)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fault.Wrap(fault.Unavailable, err, "the controller's answer broke off")
		}
		if err := p.event(e, format); err != nil {
			return err
		}
	}
}

// event prints one event on a line of its own.
func (p *program) event(e boot.Event, format string) error {
	if format != formatTable {
		return json.NewEncoder(p.out).Encode(e)
	}
	if e.Stage == "" { // where events were too many to be told
		_, err := fmt.Fprintln(p.out, plain(e.Message))
		return err
	}
	who := string(e.Node)
	if who == "" {
		who = string(e.Hardware)
	}
	mark := "✓"
	switch {
	case e.Stage == boot.StageAlive:
		mark = "·"
	case e.Stage == boot.StageFailed || e.Error != "":
		mark = "✗"
	}
	t := table{colour: p.colour()}
	_, err := fmt.Fprintf(p.out, "%s  %-12s %s %s\n", e.Time.UTC().Format("15:04:05"), plain(who),
		t.paint(fmt.Sprintf("%s %-9s", mark, plain(string(e.Stage))), false), plain(eventDetail(e, 0)))
	return err
}

// revision is a revision as text, "" for none.
func revision(r catalog.Revision) string {
	if r == 0 {
		return ""
	}
	return fmt.Sprint(r)
}
