package overlay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"
	tparse "text/template/parse"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of rendering one file.
const (
	MaxOutput = 16 << 20
	MaxSteps  = 2_000_000 // turns of loops and calls of templates
)

// Rendered is a file as a node gets it.
type Rendered struct {
	Path    string
	Type    Type
	Mode    uint32
	UID     int
	GID     int
	Content []byte
	Target  string
	Xattrs  map[string][]byte
	Overlay string // the name of the overlay that it is of
}

// ContentID is the digest of a file's content.
func (r *Rendered) ContentID() chunk.ID { return chunk.Of(r.Content) }

// Render makes a node's files from its overlays, in order: where two write the same path, the later one wins.
// The result is in the order of paths. A template that fails is fault.Invalid with its file and line.
func Render(ctx context.Context, bundles []*Bundle, data Data) ([]Rendered, error) {
	byPath := map[string]Rendered{}
	for _, b := range bundles {
		for _, f := range b.Files {
			files, err := renderFile(ctx, f, data)
			if err != nil {
				return nil, err
			}
			for _, r := range files {
				byPath[r.Path] = r
			}
		}
	}
	all := make([]Rendered, 0, len(byPath))
	for _, r := range byPath {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Rendered) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func renderFile(ctx context.Context, f File, data Data) ([]Rendered, error) {
	r := Rendered{Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Content: f.Content, Target: f.Target, Xattrs: f.Xattrs}
	if !f.Template {
		return []Rendered{r}, nil
	}
	t, err := parse(f)
	if err != nil {
		return nil, err
	}
	x := &execution{ctx: ctx, current: &r, files: []*Rendered{&r}}
	r.Content = nil
	t.Funcs(x.funcs())
	data.secrets.used = false
	err = t.Execute(x, data)
	switch {
	case errors.Is(err, errWithheld):
		return nil, nil
	case err != nil:
		failed := fault.New(fault.Invalid, "overlay template %s fails for node %s: %s", f.Path, data.Id, cause(err, data.secrets.used))
		if fix := fault.Fix(err); fix != "" {
			failed = failed.WithFix("%s", fix)
		}
		return nil, failed
	case x.abort:
		return nil, nil
	}
	var out []Rendered
	for i, r := range x.files {
		// A template that names its files writes none under its own name, unless it wrote something there.
		if i == 0 && len(x.files) > 1 && len(bytes.TrimSpace(r.Content)) == 0 {
			continue
		}
		if r.Type == TypeLink {
			r.Content = nil
		}
		out = append(out, *r)
	}
	return out, nil
}

// An execution is one run of a template: its output, file by file, and how much it has used of its bounds.
type execution struct {
	ctx     context.Context
	current *Rendered
	files   []*Rendered
	written int
	steps   int
	abort   bool
}

// Write takes output for the file that is written now.
func (x *execution) Write(p []byte) (int, error) {
	if x.written += len(p); x.written > MaxOutput {
		return 0, bound(fmt.Sprintf("it writes more than %d bytes", MaxOutput))
	}
	x.current.Content = append(x.current.Content, p...)
	return len(p), nil
}

// step is called at each turn of a loop and each call of a template: text/template cannot be interrupted from
// outside, so it is made to look at its bounds from inside.
func (x *execution) step() (string, error) {
	if x.steps++; x.steps > MaxSteps {
		return "", bound(fmt.Sprintf("it takes more than %d steps", MaxSteps))
	}
	if x.steps%1024 == 0 && x.ctx.Err() != nil {
		return "", x.ctx.Err()
	}
	return "", nil
}

// file begins another file, beside the template unless the name is absolute.
func (x *execution) file(name string) (string, error) {
	p := path.Join(path.Dir(x.files[0].Path), name)
	if path.IsAbs(name) {
		p = path.Clean(name)[1:]
	}
	if err := CheckPath(p); err != nil {
		return "", err
	}
	if len(x.files) > MaxFiles {
		return "", fmt.Errorf("it makes more than %d files", MaxFiles)
	}
	r := *x.files[0]
	r.Path, r.Content = p, nil
	x.current = &r
	x.files = append(x.files, &r)
	return "", nil
}

// softlink makes the file that is written now a symbolic link.
func (x *execution) softlink(target string) string {
	x.current.Type, x.current.Target, x.current.Mode = TypeLink, target, 0o777
	return ""
}

func (x *execution) funcs() template.FuncMap {
	return template.FuncMap{
		stepName: x.step, "file": x.file, "softlink": x.softlink,
		"abort":    func() string { x.abort = true; return "" },
		"nobackup": func() string { return "" }, // nothing is ever backed up on a node
	}
}

const stepName = "wulf_step"

// parse reads a template and puts a call of step into every loop and every named template.
func parse(f File) (*template.Template, error) {
	t := template.New(f.Path).Option("missingkey=zero").Funcs(textFuncs()).Funcs((&execution{}).funcs())
	if _, err := t.Parse(string(f.Content)); err != nil {
		return nil, fault.New(fault.Invalid, "overlay template %s: %s", f.Path, oneLine(err))
	}
	call, err := template.New("").Funcs(template.FuncMap{stepName: (&execution{}).step}).Parse("{{" + stepName + "}}")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "preparing overlay templates")
	}
	step := call.Root.Nodes[0]
	for _, named := range t.Templates() {
		if named.Tree != nil && named.Root != nil {
			count(named.Root, step)
			named.Root.Nodes = append([]tparse.Node{step}, named.Root.Nodes...)
		}
	}
	return t, nil
}

// count puts step at the head of every loop below n.
func count(n tparse.Node, step tparse.Node) {
	switch n := n.(type) {
	case *tparse.ListNode:
		if n != nil {
			for _, child := range n.Nodes {
				count(child, step)
			}
		}
	case *tparse.RangeNode:
		count(n.List, step)
		count(n.ElseList, step)
		n.List.Nodes = append([]tparse.Node{step}, n.List.Nodes...)
	case *tparse.IfNode:
		count(n.List, step)
		count(n.ElseList, step)
	case *tparse.WithNode:
		count(n.List, step)
		count(n.ElseList, step)
	}
}

// bound is the error of a template that has reached one of its bounds.
type bound string

// Error says which.
func (b bound) Error() string { return string(b) }

// cause says why a template failed. Once it has seen a secret, what a function says of its failure may hold the secret:
// then it is only said where that was, in the words of the template.
func cause(err error, secret bool) string {
	text := oneLine(err)
	if b, ok := errors.AsType[bound](err); ok || !secret {
		return cmp.Or(string(b), text)
	}
	where, _, found := strings.Cut(text, ">: ")
	if !found {
		return "it has used a secret, so nothing is told of why"
	}
	return where + ">; it has used a secret, so nothing is told of why"
}

func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), "template: "), "\n", " ")
}
