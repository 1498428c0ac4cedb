package overlay

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of the text of a template. The parser recurses as deep as actions and parentheses nest, on a stack that ends the
// program when it is full.
const (
	MaxTemplate = 1 << 20
	maxActions  = 20_000
)

// prepared is a parsed template of a bundle. Its executions are kept for the next ones: a function that a template calls
// belongs to one execution, and to bind them anew costs more than most templates do.
type prepared struct {
	file *File
	id   chunk.ID
	text *texttemplate.Template // parsed, never executed

	tags, resources []string // the keys that the text asks for by name; nil if it may ask for any
	includes        []string // the site files that it includes by name, absolute
	calls           []string // the functions that it calls

	idle sync.Pool // of *execution
}

// functions that every execution binds, for the text of the template does not name them.
const (
	stepName  = "wulf_step"
	enterName = "wulf_enter"
	leaveName = "wulf_leave"
)

// parseTemplate parses a template and puts calls into it that count: of step into every loop, of enter and leave around
// every named template.
func parseTemplate(f *File) (*prepared, error) {
	if len(f.Content) > MaxTemplate {
		return nil, fault.New(fault.Invalid, "overlay template %s has %d bytes, more than %d", f.Path, len(f.Content), MaxTemplate)
	}
	if n := max(bytes.Count(f.Content, []byte("{{")), bytes.Count(f.Content, []byte("("))); n > maxActions {
		return nil, fault.New(fault.Invalid, "overlay template %s has %d actions or parentheses, more than %d", f.Path, n, maxActions)
	}
	t := &prepared{file: f, id: digestOf(f)}
	name := f.Path[strings.LastIndexByte(f.Path, '/')+1:] + TemplateSuffix
	known := (&execution{}).funcs()
	// Warewulf's option: what a map does not hold prints as "<no value>".
	t.text = texttemplate.New(name).Option("missingkey=default").Funcs(known)
	if _, err := t.text.Parse(string(f.Content)); err != nil {
		return nil, fault.New(fault.Invalid, "overlay template %s: %s", f.Path+TemplateSuffix, oneLine(err))
	}
	var u usage
	for _, named := range t.text.Templates() {
		if named.Tree != nil && named.Root != nil {
			u.list(named.Root)
			at := named.Root.Pos
			named.Root.Nodes = append(append([]parse.Node{call(enterName, at)}, named.Root.Nodes...), call(leaveName, at))
		}
	}
	t.tags, t.resources, t.includes = u.tags.list(), u.resources.list(), slices.Compact(slices.Sorted(slices.Values(u.includes)))
	for name := range u.calls {
		if known[name] != nil {
			t.calls = append(t.calls, name)
		}
	}
	slices.Sort(t.calls)
	return t, nil
}

// call is a call of a function, as if it stood in the text at that place: errors tell it.
func call(name string, at parse.Pos) parse.Node {
	return &parse.ActionNode{NodeType: parse.NodeAction, Pos: at, Pipe: &parse.PipeNode{
		NodeType: parse.NodePipe, Pos: at, Cmds: []*parse.CommandNode{{NodeType: parse.NodeCommand, Pos: at, Args: []parse.Node{parse.NewIdentifier(name).SetPos(at)}}},
	}}
}

// take returns an execution that is ready to run the template for a node.
func (t *prepared) take(ctx context.Context, v *View, l *Layer) *execution {
	x, _ := t.idle.Get().(*execution)
	if x == nil {
		x = &execution{of: t}
		x.text, _ = t.text.Clone() // fails only for HTML templates, after they were executed
		all, used := x.funcs(), texttemplate.FuncMap{}
		for _, name := range slices.Concat(t.calls, []string{stepName, enterName, leaveName}) {
			used[name] = x.guard(all[name])
		}
		x.text.Funcs(used)
	}
	f := t.file
	first := &Rendered{Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Xattrs: f.Xattrs}
	*x = execution{of: t, text: x.text, ctx: ctx, view: v, layer: l, current: first, files: []*Rendered{first}, names: []string{""}, seen: map[Input]struct{}{}}
	x.dot = &Dot{run: x, node: v.Node}
	return x
}

// give takes an execution back. It holds nothing of its run any more.
func (t *prepared) give(x *execution) {
	*x = execution{of: t, text: x.text}
	t.idle.Put(x)
}

// usage is what the text of a template says about what it will read.
type usage struct {
	tags, resources keys
	includes        []string
	calls           map[string]bool
}

// keys are those of a map that are asked for by name.
type keys struct {
	named map[string]bool
	any   bool
}

func (k *keys) add(name string) {
	if k.named == nil {
		k.named = map[string]bool{}
	}
	k.named[name] = true
}

// list is nil if any key may be asked for. Where none is, nobody asks.
func (k *keys) list() []string {
	if k.any {
		return nil
	}
	return append([]string{}, slices.Sorted(maps.Keys(k.named))...)
}

// list looks at what is in a list of nodes, and puts a call of step at the head of every loop.
func (u *usage) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			u.node(n.Pipe)
		case *parse.TemplateNode:
			u.node(n.Pipe)
		case *parse.IfNode:
			u.branch(&n.BranchNode)
		case *parse.WithNode:
			u.branch(&n.BranchNode)
		case *parse.RangeNode:
			u.branch(&n.BranchNode)
			n.List.Nodes = append([]parse.Node{call(stepName, n.Pos)}, n.List.Nodes...)
		}
	}
}

func (u *usage) branch(b *parse.BranchNode) {
	u.node(b.Pipe)
	u.list(b.List)
	u.list(b.ElseList)
}

func (u *usage) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			u.command(c)
		}
	case *parse.ChainNode:
		u.node(n.Node)
		u.names(n.Field)
	case *parse.FieldNode:
		u.names(n.Ident)
	case *parse.VariableNode:
		u.names(n.Ident[1:])
	case *parse.IdentifierNode:
		if u.calls == nil {
			u.calls = map[string]bool{}
		}
		u.calls[n.Ident] = true
	}
}

func (u *usage) command(c *parse.CommandNode) {
	for _, a := range c.Args {
		u.node(a)
	}
	name, ok := c.Args[0].(*parse.IdentifierNode)
	if !ok || len(c.Args) < 2 {
		return
	}
	text, ok := c.Args[1].(*parse.StringNode)
	if ok && (name.Ident == "Include" || name.Ident == "IncludeBlock" || name.Ident == "ImportLink" || name.Ident == "readlink") {
		u.includes = append(u.includes, catalog.SitePath(text.Text))
	}
}

// names notes what a chain of fields, such as .Tags.role, says of the maps of nodes. A map that is taken whole, to be
// looked into by other means, may be asked for anything.
func (u *usage) names(chain []string) {
	for i, name := range chain {
		of := map[string]*keys{"Tags": &u.tags, "Resources": &u.resources}[name]
		switch {
		case of == nil:
		case i+1 < len(chain):
			of.add(chain[i+1])
		default:
			of.any = true
		}
	}
}

// Includes lists the site files that the bundle's templates include by name: absolute paths, each once, in order.
func (b *Bundle) Includes() []string {
	var all []string
	for _, t := range b.templates {
		if t != nil {
			all = append(all, t.includes...)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}
