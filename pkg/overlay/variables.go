package overlay

import (
	"maps"
	"slices"
	"strings"
	"text/template/parse"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Described is what the text of a template says of itself.
type Described struct {
	About     []string   `json:"about,omitempty"`     // comments that begin with wwdoc:
	Variables []Variable `json:"variables,omitempty"` // in the order of their names
	Functions []string   `json:"functions,omitempty"` // that it calls, likewise
}

// Variable is something that a template reads by name. In the name, * stands for any key of a map or place in a list.
type Variable struct {
	Name string `json:"name"`
	Help string `json:"help,omitempty"` // the comment that begins with the name and a colon
}

// Describe lists what the text of a template reads, whether or not a node makes it do so, with what its comments say.
func Describe(f *File) (*Described, error) {
	if _, err := parseTemplate(f); err != nil {
		return nil, err
	}
	t := parse.New(f.Path)
	t.Mode = parse.ParseComments | parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := t.Parse(string(f.Content), "", "", trees); err != nil {
		return nil, fault.New(fault.Invalid, "overlay template %s: %s", f.Path+TemplateSuffix, oneLine(err))
	}
	d := describer{names: map[string]bool{}, calls: map[string]bool{}, help: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(trees)) {
		if root := trees[name].Root; root != nil {
			d.list(root, scope{vars: map[string]string{"$": ""}})
		}
	}
	out := &Described{About: d.about, Functions: slices.Sorted(maps.Keys(d.calls))}
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		out.Variables = append(out.Variables, Variable{name, d.help[name]})
	}
	return out, nil
}

// scope is what the dot and variables stand for at a place of a template: the names of what they were made of, or
// unknown.
type scope struct {
	dot  string
	vars map[string]string
}

const unknown = "?"

type describer struct {
	names, calls map[string]bool
	help         map[string]string
	about        []string
}

func (d *describer) list(l *parse.ListNode, in scope) {
	if l == nil {
		return
	}
	in.vars = maps.Clone(in.vars) // what is declared in a block ends with it
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			d.pipe(n.Pipe, in)
		case *parse.TemplateNode:
			d.pipe(n.Pipe, in)
		case *parse.IfNode:
			inner := in
			inner.vars = maps.Clone(in.vars)
			d.pipe(n.Pipe, inner)
			d.list(n.List, inner)
			d.list(n.ElseList, inner)
		case *parse.WithNode:
			inner := in
			inner.vars = maps.Clone(in.vars)
			inner.dot = d.pipe(n.Pipe, inner)
			d.list(n.List, inner)
			d.list(n.ElseList, in)
		case *parse.RangeNode:
			d.rangeOver(n, in)
		case *parse.CommentNode:
			d.comment(n.Text)
		}
	}
}

func (d *describer) rangeOver(n *parse.RangeNode, in scope) {
	inner := scope{vars: maps.Clone(in.vars)}
	inner.dot = each(d.pipe(n.Pipe, in))
	for i, v := range n.Pipe.Decl {
		inner.vars[v.Ident[0]] = inner.dot
		if i < len(n.Pipe.Decl)-1 { // the key or the place
			inner.vars[v.Ident[0]] = unknown
		}
	}
	d.list(n.List, inner)
	d.list(n.ElseList, in)
}

func each(of string) string {
	if of == unknown {
		return unknown
	}
	return of + ".*"
}

// pipe notes what a pipeline reads, and returns what it stands for.
func (d *describer) pipe(p *parse.PipeNode, in scope) string {
	if p == nil {
		return unknown
	}
	is := unknown
	for _, c := range p.Cmds {
		for _, a := range c.Args {
			is = d.operand(a, in)
		}
		if len(p.Cmds) > 1 || len(c.Args) > 1 {
			is = unknown
		}
	}
	for _, v := range p.Decl {
		in.vars[v.Ident[0]] = is
	}
	return is
}

func (d *describer) operand(n parse.Node, in scope) string {
	switch n := n.(type) {
	case *parse.DotNode:
		return in.dot
	case *parse.FieldNode:
		return d.read(in.dot, n.Ident)
	case *parse.VariableNode:
		base, ok := in.vars[n.Ident[0]]
		if !ok {
			base = unknown
		}
		if len(n.Ident) == 1 {
			return base
		}
		return d.read(base, n.Ident[1:])
	case *parse.ChainNode:
		return d.read(d.operand(n.Node, in), n.Field)
	case *parse.PipeNode:
		return d.pipe(n, in)
	case *parse.IdentifierNode:
		d.calls[n.Ident] = true
	}
	return unknown
}

func (d *describer) read(base string, fields []string) string {
	if base == unknown {
		return unknown
	}
	name := base + "." + strings.Join(fields, ".")
	d.names[name] = true
	return name
}

// comment reads {{/* wwdoc: text */}} and {{/* .Name: text */}}.
func (d *describer) comment(text string) {
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(text, "/*"), "*/"))
	name, help, ok := strings.Cut(text, ":")
	help = strings.Join(strings.Fields(help), " ")
	switch name = strings.TrimSpace(name); {
	case !ok || strings.ContainsAny(name, " \t\n"):
	case name == "wwdoc":
		d.about = append(d.about, help)
	case strings.HasPrefix(name, "."):
		d.help[name] = help
	}
}
