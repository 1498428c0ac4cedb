package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func watchFlag() cli.Flag {
	return toggle("watch", "then tell what becomes of them, a line for each new state, until CTRL-C", "w")
}

// watchNodes lists the states of nodes, and then each change of one, as a stream: a line an event, never the whole again.
func (p *program) watchNodes(c *cli.Context, cl *client, q api.NodeQuery) error {
	f, err := p.format(c, formatTable, formatLines)
	if err != nil {
		return err
	}
	cl.cancel() // it has no end
	watching := &client{Client: cl.Client, ctx: c.Context, cancel: func() {}}
	events, err := watching.Do(c.Context, api.Request{Method: http.MethodGet, Path: api.PathBoots + "?watch=true"})
	if err != nil {
		return unreached(err)
	}
	defer events.Body.Close()
	t, err := watching.table(q, "name", "state")
	if err != nil {
		return err
	}
	if t.Rows, err = chosen(c, q, t.Rows); err != nil {
		return err
	}
	states := make(map[string]string, len(t.Rows))
	count := map[string]int{}
	for _, row := range t.Rows {
		states[row[0]] = row[1]
		count[row[1]]++
	}
	var now []string
	for _, state := range sortedKeys(count) {
		now = append(now, fmt.Sprintf("%s %s", thousands(count[state]), state))
	}
	p.say("%s: %s", plural(len(t.Rows), "node"), or(strings.Join(now, ", ")))
	lines := json.NewDecoder(events.Body)
	for {
		var e boot.Event
		if err := lines.Decode(&e); err != nil {
			if c.Context.Err() != nil {
				return nil
			}
			if err == io.EOF {
				return fault.New(fault.Unavailable, "the controller ended the stream").WithFix("start it again")
			}
			return fault.Wrap(fault.Unavailable, err, "the stream broke off")
		}
		before, chosen := states[string(e.Node)]
		state := string(e.Stage)
		if e.Stage == boot.StageAlive {
			state = string(boot.StageUp)
		}
		if !chosen || state == "" || before == state {
			continue
		}
		states[string(e.Node)] = state
		if f == formatLines {
			if err := json.NewEncoder(p.out).Encode(e); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(p.out, "%s  %s: %s → %s%s\n", e.Time.Local().Format("15:04:05"), e.Node, before, state, plain(detailed(e))); err != nil {
			return err
		}
	}
}

func detailed(e boot.Event) string {
	if d := eventDetail(e, 0); d != "" {
		return "  " + d
	}
	return ""
}
