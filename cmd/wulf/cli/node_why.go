package cli

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func whyFlags() []cli.Flag {
	return showFlags(append(selectFlags(), text("render", "print what the machine would be given now, in the `FORM` ipxe, and nothing else"))...)
}

func (p *program) nodeWhy(c *cli.Context) error {
	form := c.String("render")
	if form != "" && form != "ipxe" {
		return fault.New(fault.Invalid, "what machines are given is rendered as ipxe, not %q", form)
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	nodes, err := p.namedNodes(c, cl)
	if err != nil {
		return err
	}
	if form != "" {
		return p.render(cl, nodes, form)
	}
	var all []api.Why
	for names := range slices.Chunk(nodes, api.MaxWhys) {
		var list api.List[api.Why]
		q := api.NodeQuery{Nodes: nodeSet(names).String()}
		if err := cl.ask(func() error { return cl.Query(cl.ctx, api.PathWhys+cl.stale, q, &list) }); err != nil {
			return err
		}
		all = append(all, list.Items...)
	}
	if len(all) == 1 {
		return p.show(c, all[0], func(r *report) { r.why(all[0]) })
	}
	return p.show(c, api.List[api.Why]{Items: all}, func(r *report) { r.whys(all) })
}

// render prints what machines would be given now.
func (p *program) render(cl *client, nodes []string, form string) error {
	for _, name := range nodes {
		var w api.Why
		if err := cl.get(pathOf(api.PathWhy, name)+"?render="+form, &w); err != nil {
			return err
		}
		if _, err := io.WriteString(p.out, w.Script); err != nil {
			return err
		}
	}
	return nil
}

// why explains one node.
func (r *report) why(w api.Why) {
	r.line("%s  %s", w.Node, w.State)
	if w.Boot != nil {
		r.timeline(w)
	}
	if w.Verdict != "" {
		r.line("verdict: %s", w.Verdict)
	}
	for _, n := range w.Notes {
		r.line("         %s", n)
	}
	if w.Fix != "" {
		r.line("fix:     %s", w.Fix)
	}
}

// whys explains many nodes: those of which the same is to be said are told together, the most first.
func (r *report) whys(all []api.Why) {
	type group struct {
		nodes        []string
		verdict, fix string
	}
	var groups []*group
	by := map[string]*group{}
	for _, w := range all {
		verdict, fix := common(w, w.Verdict), common(w, w.Fix)
		key := verdict + "\x00" + fix
		if by[key] == nil {
			by[key] = &group{verdict: verdict, fix: fix}
			groups = append(groups, by[key])
		}
		by[key].nodes = append(by[key].nodes, string(w.Node))
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(len(b.nodes), len(a.nodes)) })
	for _, g := range groups {
		r.line("%s (%d)", nodeset.Fold(g.nodes), len(g.nodes))
		r.line("  verdict: %s", g.verdict)
		if g.fix != "" {
			r.line("  fix:     %s", strings.ReplaceAll(g.fix, nodeWord, nodeset.Fold(g.nodes)))
		}
	}
}

// nodeWord stands for a node's name in what is said of many.
const nodeWord = "NODE"

// howLong and howOften are what differs between nodes of which the same is to be said.
var (
	howLong  = regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?s\b`)
	howOften = regexp.MustCompile(`\bstarted \d+ times`)
)

// common is a text without what is of one node alone: its name and addresses, how long and how often.
func common(w api.Why, text string) string {
	words := []string{}
	if w.Boot != nil && w.Boot.Address != "" {
		words = append(words, w.Boot.Address, "ADDRESS")
	}
	if w.Hardware != "" {
		words = append(words, string(w.Hardware), "HARDWARE")
	}
	text = strings.NewReplacer(words...).Replace(text)
	text = regexp.MustCompile(`\b`+regexp.QuoteMeta(string(w.Node))+`\b`).ReplaceAllLiteralString(text, nodeWord)
	return howOften.ReplaceAllString(howLong.ReplaceAllString(text, "a while"), "started again and again")
}

// timeline tells a boot step by step. A heart-beat is no step.
func (r *report) timeline(w api.Why) {
	b := *w.Boot
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
		rows = append(rows, []string{"  " + mark + " " + string(e.Stage), e.Time.UTC().Format("15:04:05"), eventDetail(e, w.Typical[e.Stage])})
		if e.Console != "" {
			console = e.Console
		}
	}
	if b.Stage != boot.StageFailed && w.Stage != "" && w.Verdict != "" && w.Fix != "" {
		rows = append(rows, []string{"  ✗ " + string(w.Stage), "", "did not come about"})
	}
	r.rows(rows)
	for line := range strings.SplitSeq(strings.TrimSpace(console), "\n") {
		if line != "" {
			r.WriteString("  | " + plain(line) + "\n")
		}
	}
}

// unusual is how many times as long as its neighbours a node must take for a stage before that is told.
const unusual = 2

// eventDetail is what an event tells besides its stage, as far as people want to know. usual is how long the stage takes
// other nodes of its rack, 0 if that is not known.
func eventDetail(e boot.Event, usual time.Duration) string {
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
		took := fmt.Sprintf("%.1f s", e.Took.Seconds())
		if usual > 0 && e.Took > unusual*usual {
			took += fmt.Sprintf(" (others %.1f s)", usual.Seconds())
		}
		parts = append(parts, took)
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
