package cli

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// checkMemory bounds the bytes of renderings that a check keeps, so that what nodes share is rendered once.
const checkMemory = 128 << 20

// maxFindings is how many findings a check prints; the rest is counted.
const maxFindings = 100

// checkResult is what a check found.
type checkResult struct {
	Revision catalog.Revision `json:"revision"`
	Nodes    int              `json:"nodes"`    // that were rendered
	Rendered int              `json:"rendered"` // templates that were executed
	Reused   int              `json:"reused"`   // that were not, for others had made the same
	Failed   int              `json:"failed"`   // nodes that do not get what they should
	Findings []finding        `json:"findings"`
	More     int              `json:"more,omitempty"` // findings that are left out
}

// finding is something that a person should look at.
type finding struct {
	Severity string `json:"severity"` // error or warning
	Text     string `json:"text"`
	Fix      string `json:"fix,omitempty"`
	Nodes    string `json:"nodes,omitempty"` // folded; "" if it is about no node in particular
	Count    int    `json:"count,omitempty"`
}

const (
	severityError   = "error"
	severityWarning = "warning"
)

func overlayCheck(run func(*cli.Context) error) verb {
	return verb{
		name: "check", usage: "render overlays for all nodes, and tell what fails and what looks wrong", args: "[OVERLAY…]", most: unlimited,
		about: "It fails if a template fails for a node. It warns of site files that are missing, of files in whose place another overlay of the node puts its own, " +
			"of templates that cost much, of links that lead nowhere, and of secrets that lie open.",
		examples: []string{"wulf overlay check", "wulf overlay check site --node @rack:r07"},
		flags:    showFlags(text("node", "only for the nodes of `NODESET`")), run: run,
	}
}

func (p *program) overlayCheck(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	now, err := cl.catalog()
	if err != nil {
		return err
	}
	nodes, err := p.checked(c, cl, now)
	if err != nil {
		return err
	}
	k := newChecker(now, render.New(clientChunks{cl}, checkMemory))
	for _, name := range c.Args().Slice() {
		if _, ok := now.Overlay(catalog.OverlayName(name)); !ok {
			return fault.New(fault.NotFound, "there is no overlay %q", name).WithFix("see which there are: wulf overlay list")
		}
		k.only[name] = true
	}
	bar := &progress{out: p.err, tty: p.tty.err}
	err = k.all(c.Context, nodes, func(done int) {
		if p.tty.err {
			bar.report("rendering", int64(done), int64(len(nodes)), false)
		}
	})
	bar.end()
	if err != nil {
		return err
	}
	if err := k.look(c.Context); err != nil {
		return err
	}
	result := k.result()
	if err := p.show(c, result, func(r *report) { r.check(result) }); err != nil {
		return err
	}
	p.say("%s, %s rendered, %s as for another node; %s", plural(result.Nodes, "node"), plural(result.Rendered, "template"), thousands(result.Reused),
		plural(len(result.Findings)+result.More, "finding"))
	if result.Failed > 0 {
		return fmt.Errorf("%s cannot be given what overlays declare", plural(result.Failed, "node"))
	}
	return nil
}

// checked are the nodes that a check is about.
func (p *program) checked(c *cli.Context, cl *client, now *catalog.Catalog) ([]catalog.NodeName, error) {
	var all []catalog.NodeName
	set := c.String("node")
	if !c.IsSet("node") {
		for n := range now.Nodes() {
			all = append(all, n.Name)
		}
		return all, nil
	}
	q := api.NodeQuery{Nodes: set}
	if err := notEmpty(c, set); err != nil {
		return nil, err
	}
	if err := p.readFiles(set, &q); err != nil {
		return nil, err
	}
	names, err := cl.names(c, q)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		all = append(all, catalog.NodeName(n))
	}
	return all, nil
}

// all renders for nodes, as many at once as there are processors. What templates fail of is a finding; an error is that it
// could not be found out.
func (k *checker) all(ctx context.Context, nodes []catalog.NodeName, progress func(done int)) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	var next, done atomic.Int64
	for range workers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(nodes) {
					return nil
				}
				if err := k.node(ctx, nodes[i]); err != nil {
					return err
				}
				progress(int(done.Add(1)))
			}
		})
	}
	k.nodes = len(nodes)
	return g.Wait()
}

// node renders for one node.
func (k *checker) node(ctx context.Context, name catalog.NodeName) error {
	r, err := k.catalog.Resolve(name)
	if err != nil {
		return err
	}
	made, failed, err := k.render(ctx, r)
	if err != nil {
		return err
	}
	k.mu.Lock()
	for _, o := range k.chosen(r.Settings.Overlays) {
		k.used[o] = true
	}
	k.mu.Unlock()
	for _, err := range failed {
		k.fail(name, err)
	}
	k.rendered(name, made)
	return nil
}

// render makes what a node gets: of all its overlays at once, and file by file if that fails, so that one template does not
// hide what is wrong with another. It returns what fails apart from what is made without.
func (k *checker) render(ctx context.Context, r *catalog.Resolved) (made *overlay.Result, failed []error, err error) {
	subject := render.Subject{Node: r, Secrets: overlay.HiddenSecrets()}
	names := k.chosen(r.Settings.Overlays)
	if made, err = k.renderer.Node(ctx, k.catalog, subject, names); err == nil {
		return made, nil, nil
	}
	var good []overlay.Layer
	for _, o := range names {
		parts, err := k.parts(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		for _, l := range parts {
			_, err := k.renderer.Layers(ctx, k.catalog, subject, l)
			switch kind := fault.KindOf(err); {
			case err == nil:
				good = append(good, l)
			case ctx.Err() != nil:
				return nil, nil, ctx.Err()
			case kind == fault.Unavailable || kind == fault.Timeout:
				return nil, nil, err
			default:
				failed = append(failed, err)
			}
		}
	}
	made, err = k.renderer.Layers(ctx, k.catalog, subject, good...)
	return made, failed, err
}

// parts are the files of an overlay, each as an overlay of its own.
func (k *checker) parts(ctx context.Context, name string) ([]overlay.Layer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if parts, ok := k.apart[name]; ok {
		return parts, nil
	}
	l, err := k.renderer.Layer(ctx, k.catalog, catalog.OverlayName(name))
	if err != nil {
		return nil, err
	}
	var parts []overlay.Layer
	for _, f := range l.Bundle.Files {
		part := l
		if part.Bundle, err = overlay.NewBundle([]overlay.File{f}); err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	k.apart[name] = parts
	return parts, nil
}

// chosen are the overlays of a node that are to be checked, each once, where it counts: the runtime ones come last.
func (k *checker) chosen(o catalog.OverlaySettings) []string {
	all := slices.Concat(o.System, o.Runtime)
	var out []string
	for i, name := range all {
		if !slices.Contains(all[i+1:], name) && (len(k.only) == 0 || k.only[name]) {
			out = append(out, name)
		}
	}
	return out
}

// fail notes that a template fails for a node.
func (k *checker) fail(node catalog.NodeName, err error) {
	text := strings.Replace(err.Error(), " fails for node "+string(node)+":", " fails:", 1)
	k.note(severityError, text, fault.Fix(err), node)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed[node] = true
}

func (r *report) check(v *checkResult) {
	for _, f := range v.Findings {
		line := f.Severity + ": " + f.Text
		if f.Fix != "" {
			line += " (" + f.Fix + ")"
		}
		r.line("%s", line)
		if f.Nodes != "" {
			r.line("  %s: %s", plural(f.Count, "node"), f.Nodes)
		}
	}
	if v.More > 0 {
		r.line("and %s more", plural(v.More, "finding"))
	}
}

// rendered looks at what a node gets.
func (k *checker) rendered(node catalog.NodeName, made *overlay.Result) {
	for i := range made.Hidden {
		k.hidden(node, made, &made.Hidden[i])
	}
	for i := range made.Files {
		f := &made.Files[i]
		switch {
		case f.Type == overlay.TypeLink:
			k.link(node, made, f)
		case f.Template != "":
			k.inputs(node, f)
		}
	}
}
