package overlay

import (
	"context"
	"errors"
	"fmt"
	"path"
	texttemplate "text/template"
)

// Bounds of rendering one template.
const (
	MaxOutput = 16 << 20  // bytes that it writes, and that any value takes which it makes
	MaxSteps  = 2_000_000 // turns of loops and calls of templates; large values count, too
	maxDepth  = 100       // of templates that call one another
)

// An execution is one run of a template: its output, file by file, what it has read, and how much it has used of its
// bounds.
type execution struct {
	of   *prepared
	text *texttemplate.Template // a clone whose functions are this execution's

	ctx   context.Context
	view  *View
	layer *Layer
	dot   *Dot
	seen  map[Input]struct{}
	nodes []*Dot // what AllNodes gave

	last   *Node // of all nodes the one that was read last
	lastAt int

	current  *Rendered
	files    []*Rendered
	names    []string // that the template gave to them; "" is its own
	written  int
	steps    int
	depth    int
	nobackup bool
	used     bool // it has seen something that only the node may know
	withheld bool // or asked for something that is not held here
}

// errAbort ends a template that says so. Nothing is written then.
var errAbort = errors.New("the template aborts")

// bound is the error of a template that has reached one of its bounds.
type bound string

// Error says which.
func (b bound) Error() string { return string(b) }

// Write takes output for the file that is written now.
func (x *execution) Write(p []byte) (int, error) {
	if x.written += len(p); x.written > MaxOutput {
		return 0, bound(fmt.Sprintf("it writes more than %d bytes", MaxOutput))
	}
	x.current.Content = append(x.current.Content, p...)
	return len(p), nil
}

// spend counts work that was done, or is about to be.
func (x *execution) spend(steps int) error {
	before := x.steps / 1024
	if x.steps += steps; x.steps > MaxSteps {
		return bound(fmt.Sprintf("it takes more than %d steps", MaxSteps))
	}
	if x.steps/1024 != before && x.ctx.Err() != nil {
		return x.ctx.Err()
	}
	return nil
}

func (x *execution) step() (string, error) { return "", x.spend(1) }

func (x *execution) enter() (string, error) {
	if x.depth++; x.depth > maxDepth {
		return "", bound(fmt.Sprintf("its templates call one another more than %d deep", maxDepth))
	}
	return "", x.spend(1)
}

func (x *execution) leave() string {
	x.depth--
	return ""
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
		return "", bound(fmt.Sprintf("it makes more than %d files", MaxFiles))
	}
	r := *x.files[0]
	r.Path, r.Type, r.Mode, r.Target, r.Content = p, TypeFile, x.of.file.Mode, "", nil
	x.current = &r
	x.files, x.names = append(x.files, &r), append(x.names, name)
	return "", nil
}

// softlink makes the file that is written now a symbolic link.
func (x *execution) softlink(target string) string {
	x.current.Type, x.current.Target, x.current.Mode = TypeLink, target, 0o777
	return ""
}

// allNodes makes the dots of all nodes. That there are these nodes is read by whoever asks for them.
func (x *execution) allNodes() []*Dot {
	x.reads(Input{ScopeAll, "Name", ""})
	fleet := x.view.World.Fleet
	if x.nodes == nil && fleet != nil {
		dots := make([]Dot, fleet.Len())
		x.nodes = make([]*Dot, len(dots))
		for i := range dots {
			dots[i] = Dot{run: x, at: i, other: true}
			x.nodes[i] = &dots[i]
		}
	}
	return x.nodes
}

// funcs are all functions that templates may call, bound to this execution.
func (x *execution) funcs() texttemplate.FuncMap {
	all := textFuncs()
	for name, f := range map[string]any{
		stepName: x.step, enterName: x.enter, leaveName: x.leave,
		"file": x.file, "softlink": x.softlink,
		"abort":    func() (string, error) { return "", errAbort },
		"nobackup": func() string { x.nobackup = true; return "" }, // nothing is ever backed up on a node
		"Include":  x.include, "IncludeFrom": x.includeFrom, "IncludeBlock": x.includeBlock,
		"ImportLink": x.importLink, "readlink": x.readLink,
		"IgnitionJson": x.ignition, "now": x.now,
	} {
		all[name] = f
	}
	return all
}
