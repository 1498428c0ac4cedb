package overlay

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// View is what the templates of one node may see.
type View struct {
	World   *World
	Node    *Node
	Secrets Secrets
	Server  *Server // what this node is told of the server, if not what the world says

	digests map[Input]chunk.ID
}

// Layer is one of a node's overlays.
type Layer struct {
	Name    string
	Bundle  *Bundle
	Changed time.Time // when it changed last
	Dir     string    // the directory that templates are told to come from, if not overlays/NAME
	Host    string    // and the host, if not the cluster
}

func (l *Layer) host(w *World) string { return cmp.Or(l.Host, w.Mesh) }

func (l *Layer) source(f *File) string {
	return path.Join(cmp.Or(l.Dir, path.Join("overlays", l.Name)), f.Path+TemplateSuffix)
}

// Rendered is a file as a node gets it.
type Rendered struct {
	Path     string
	Type     Type
	Mode     uint32
	UID      int
	GID      int
	Content  []byte
	Target   string
	Xattrs   map[string][]byte
	Overlay  string  // the name of the overlay that it is of
	Template string  // the path of the template that made it; "" if none did
	Inputs   []Input // what the template read, in one order

	id chunk.ID // of Content; zero if it is not known yet
}

// ContentID is the digest of a file's content.
func (r *Rendered) ContentID() chunk.ID {
	if r.id.IsZero() {
		return chunk.Of(r.Content)
	}
	return r.id
}

// Result is what a node gets of its overlays. What is in it may be shared by many nodes, and must not be changed.
type Result struct {
	Files    []Rendered // in the order of their paths, each once
	Hidden   []Rendered // those in whose place later ones came, in the order of the overlays
	Hooks    []Hook
	Withheld bool // secrets were asked for that are not held here
}

// Render makes a node's files from its overlays, in order: where two write the same path, the later one wins, with its
// mode. A template that fails is fault.Invalid with its file and line. Memo may be nil.
func Render(ctx context.Context, memo *Memo, view View, layers ...Layer) (*Result, error) {
	view.digests = map[Input]chunk.ID{}
	out := &Result{}
	at := map[string]int{}
	for i := range layers {
		l := &layers[i]
		out.Hooks = append(out.Hooks, l.Bundle.Hooks...)
		for j := range l.Bundle.Files {
			files, withheld, err := renderFile(ctx, memo, &view, l, j)
			if err != nil {
				return nil, err
			}
			out.Withheld = out.Withheld || withheld
			for _, f := range files {
				f.Overlay = l.Name
				k, ok := at[f.Path]
				if !ok {
					at[f.Path] = len(out.Files)
					out.Files = append(out.Files, f)
					continue
				}
				if f.Type != TypeDir || out.Files[k].Type != TypeDir {
					out.Hidden = append(out.Hidden, out.Files[k])
				}
				out.Files[k] = f
			}
		}
	}
	slices.SortFunc(out.Files, func(a, b Rendered) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func renderFile(ctx context.Context, memo *Memo, v *View, l *Layer, i int) (files []Rendered, withheld bool, err error) {
	f := &l.Bundle.Files[i]
	switch {
	case f.Type == TypeGone:
		return nil, false, nil
	case !f.Template:
		return []Rendered{{
			Path: f.Path, Type: f.Type, Mode: f.Mode, UID: f.UID, GID: f.GID, Content: f.Content, Target: f.Target, Xattrs: f.Xattrs, id: l.Bundle.contents[i],
		}}, false, nil
	}
	t := l.Bundle.templates[i]
	if memo == nil {
		p, withheld, err := t.execute(ctx, v, l)
		if err != nil {
			return nil, false, err
		}
		return p.files, withheld, nil
	}
	if p := memo.find(v, l, t); p != nil {
		return p.files, false, nil
	}
	turn := memo.turn(t)
	turn.Lock()
	defer turn.Unlock()
	if p := memo.find(v, l, t); p != nil {
		return p.files, false, nil
	}
	memo.count()
	p, withheld, err := t.execute(ctx, v, l)
	if err != nil {
		return nil, false, err
	}
	if !p.secret() {
		memo.keep(v, l, t, p)
	}
	return p.files, withheld, nil
}

func (p *product) secret() bool {
	return slices.ContainsFunc(p.inputs, func(in Input) bool { return in.Scope == ScopeSecret })
}

// execute runs a template for a node.
func (t *prepared) execute(ctx context.Context, v *View, l *Layer) (*product, bool, error) {
	x := t.take(ctx, v, l)
	defer t.give(x)
	err := x.text.Execute(x, x.dot)
	p := &product{inputs: x.inputs()}
	switch {
	case errors.Is(err, errWithheld):
		return p, true, nil
	case errors.Is(err, errAbort):
		return p, x.withheld, nil
	case err != nil:
		return nil, false, x.failed(err)
	}
	for i, r := range x.files {
		// What a template writes before it names its first file is dropped, unless it made a link of its own name.
		if i == 0 && len(x.files) > 1 && r.Type != TypeLink {
			continue
		}
		if r.Type == TypeLink {
			r.Content = nil
		}
		r.Template, r.Inputs, r.id = t.file.Path+TemplateSuffix, p.inputs, chunk.Of(r.Content)
		p.files = append(p.files, *r)
	}
	return p, x.withheld, nil
}

// failed is the error of a template that ended with err.
func (x *execution) failed(err error) error {
	failed := fault.New(fault.Invalid, "overlay %s: template %s fails for node %s: %s", x.layer.Name, x.of.file.Path+TemplateSuffix, x.view.Node.Name, cause(err, x.used))
	if fix := fault.Fix(err); fix != "" {
		failed = failed.WithFix("%s", fix)
	}
	return failed
}

// cause says why a template failed. Once it has seen a secret, what a function says of its failure may hold the secret:
// then it is only said where that was, in the words of the template.
func cause(err error, secret bool) string {
	text := oneLine(err)
	if b, ok := errors.AsType[bound](err); ok {
		if place, _, told := strings.Cut(text, ": executing "); told && !strings.Contains(place, " ") {
			return place + ": " + string(b)
		}
		return string(b)
	}
	if !secret {
		return text
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
