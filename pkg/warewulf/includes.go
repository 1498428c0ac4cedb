package warewulf

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	tparse "text/template/parse"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The hazards of what templates include.
const (
	PrivateSiteFile HazardID = "private-site-file" // not everybody may read it on the server
	SiteFileLeftOut HazardID = "site-file-left-out"
	DynamicInclude  HazardID = "dynamic-include"
	BrokenTemplate  HazardID = "broken-template"
)

// Inclusion is a place in a template that reads a file of the server.
type Inclusion struct {
	Function string // Include, IncludeBlock, ImportLink or readlink
	Name     string // of the file, as it is written there; "": it is only known when the template is rendered
	Line     int
}

// Content tells whether the file's content is read, and not only where it leads to as a link.
func (i Inclusion) Content() bool { return i.Function == "Include" || i.Function == "IncludeBlock" }

// Includes finds the places in a template that read a file of the server, in their order. Functions that nobody knows do
// not matter. Text that is no template is fault.Invalid.
func Includes(text []byte) ([]Inclusion, error) {
	t := tparse.New("template")
	t.Mode = tparse.SkipFuncCheck
	trees := map[string]*tparse.Tree{}
	if _, err := t.Parse(string(text), "", "", trees); err != nil {
		return nil, fault.New(fault.Invalid, "line %s", strings.TrimPrefix(err.Error(), "template: template:"))
	}
	x := inclusions{text: text}
	x.list(t.Root)
	for _, named := range trees {
		if named != t {
			x.list(named.Root)
		}
	}
	slices.SortFunc(x.found, func(a, b Inclusion) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name)) })
	return x.found, nil
}

// inclusions gathers what a template includes.
type inclusions struct {
	text  []byte
	found []Inclusion
}

func (x *inclusions) list(l *tparse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		x.node(n)
	}
}

func (x *inclusions) node(n tparse.Node) {
	switch n := n.(type) {
	case *tparse.ActionNode:
		x.pipe(n.Pipe)
	case *tparse.TemplateNode:
		x.pipe(n.Pipe)
	case *tparse.IfNode:
		x.branch(&n.BranchNode)
	case *tparse.WithNode:
		x.branch(&n.BranchNode)
	case *tparse.RangeNode:
		x.branch(&n.BranchNode)
	case *tparse.PipeNode:
		x.pipe(n)
	case *tparse.ChainNode:
		x.node(n.Node)
	}
}

func (x *inclusions) branch(b *tparse.BranchNode) {
	x.pipe(b.Pipe)
	x.list(b.List)
	x.list(b.ElseList)
}

func (x *inclusions) pipe(p *tparse.PipeNode) {
	if p == nil {
		return
	}
	var before *tparse.CommandNode // whose value is the last argument
	for _, c := range p.Cmds {
		for _, arg := range c.Args {
			x.node(arg)
		}
		if f, ok := c.Args[0].(*tparse.IdentifierNode); ok {
			x.call(f, c, before)
		}
		before = c
	}
}

func (x *inclusions) call(f *tparse.IdentifierNode, c, before *tparse.CommandNode) {
	switch f.Ident {
	case "Include", "IncludeBlock", "ImportLink", "readlink":
	default:
		return
	}
	var arg tparse.Node
	switch {
	case len(c.Args) > 1:
		arg = c.Args[1]
	case before != nil && len(before.Args) == 1:
		arg = before.Args[0]
	}
	found := Inclusion{Function: f.Ident, Line: 1 + bytes.Count(x.text[:f.Position()], []byte("\n"))}
	if s, ok := arg.(*tparse.StringNode); ok {
		found.Name = s.Text
	}
	x.found = append(x.found, found)
}
