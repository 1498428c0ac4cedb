package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

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
		if e.Stage == boot.StageFailed || e.Error+e.Without != "" {
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
	if e.Memory > 0 {
		parts = append(parts, size(e.Memory)+" of memory in use")
	}
	for _, s := range []string{e.Message, e.Error} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if e.Without != "" {
		parts = append(parts, "without "+e.Without)
	}
	return strings.Join(parts, ", ")
}
