package overlay

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Edit is what somebody does to some files of an overlay. It says nothing of the others, so that two people who edit
// different files of one overlay lose nothing. Paths are as in File; in those that name a template, TemplateSuffix may
// follow.
type Edit struct {
	Put    []File              `json:"put,omitempty"`    // in the place of what is there
	Set    []Attributes        `json:"set,omitempty"`    // of files that are there
	Remove []string            `json:"remove,omitempty"` // from nodes, whether it came with wulfmesh or not
	Reset  []string            `json:"reset,omitempty"`  // to what comes with wulfmesh
	Below  bool                `json:"below,omitempty"`  // Remove and Reset are also about what lies below the paths
	Hook   []Hook              `json:"hook,omitempty"`   // in the place of all of the same paths
	Unhook []string            `json:"unhook,omitempty"` // paths of hooks that shall be none
	Was    map[string]chunk.ID `json:"was,omitempty"`    // contents of which somebody made those of Put; zero: there was no such file
}

// Attributes are what a file has besides its content; nil leaves one as it is.
type Attributes struct {
	Path string  `json:"path"`
	Mode *uint32 `json:"mode,omitempty"`
	UID  *int    `json:"uid,omitempty"`
	GID  *int    `json:"gid,omitempty"`
}

// MaxEdit bounds the paths of an Edit.
const MaxEdit = MaxFiles

// Apply makes the site's part of an overlay as the edit wants it. Base is what it lies over, and nil if it lies over
// nothing; shipped is what comes with wulfmesh, be it under the site's part or hidden by it. What is the same as in base
// is not kept. What there is not is fault.NotFound; what is another than somebody saw is fault.Conflict.
func (e *Edit) Apply(base, own, shipped *Bundle) (*Bundle, error) {
	if n := len(e.Put) + len(e.Set) + len(e.Remove) + len(e.Reset) + len(e.Hook) + len(e.Unhook); n > MaxEdit {
		return nil, fault.New(fault.Invalid, "an edit is about at most %d files, not %d", MaxEdit, n)
	}
	d := &draft{base: files(base), own: files(own), shipped: files(shipped), below: e.Below}
	if err := d.check(e.Was); err != nil {
		return nil, err
	}
	for _, f := range e.Put {
		if err := d.put(f); err != nil {
			return nil, err
		}
	}
	for _, a := range e.Set {
		if err := d.set(a); err != nil {
			return nil, err
		}
	}
	for _, p := range e.Remove {
		if err := d.each(p, d.remove); err != nil {
			return nil, err
		}
	}
	for _, p := range e.Reset {
		if err := d.each(p, d.reset); err != nil {
			return nil, err
		}
	}
	hooks, err := e.hooks(base, own)
	if err != nil {
		return nil, err
	}
	return NewBundle(slices.Collect(maps.Values(d.own)), hooks...)
}

// draft is the site's part while it is edited.
type draft struct {
	base, own, shipped map[string]File
	below              bool
}

func files(b *Bundle) map[string]File {
	all := map[string]File{}
	if b != nil {
		for _, f := range b.Files {
			all[f.Path] = f
		}
	}
	return all
}

// now is the file that nodes get at a path.
func (d *draft) now(p string) (File, bool) {
	f, ok := d.own[p]
	if !ok {
		f, ok = d.base[p]
	}
	return f, ok && f.Type != TypeGone
}

// path is what people mean by a path, who may write a template's suffix.
func (d *draft) path(p string) string {
	p = strings.Trim(p, "/")
	bare := strings.TrimSuffix(p, TemplateSuffix)
	for _, all := range []map[string]File{d.own, d.base, d.shipped} {
		if _, ok := all[p]; ok {
			return p
		}
		if f, ok := all[bare]; ok && (f.Template || f.Type == TypeGone) {
			return bare
		}
	}
	return p
}

func (d *draft) check(was map[string]chunk.ID) error {
	for _, p := range slices.Sorted(maps.Keys(was)) {
		f, ok := d.now(d.path(p))
		switch saw := was[p]; {
		case saw.IsZero() && ok:
			return fault.New(fault.Conflict, "there is a %s already", p).WithFix("replace it with --overwrite")
		case !saw.IsZero() && !ok:
			return fault.New(fault.Conflict, "%s was removed in the meantime", p)
		case !saw.IsZero() && chunk.Of(f.Content) != saw:
			return fault.New(fault.Conflict, "%s was changed in the meantime", p).WithFix("edit it again, as it is now")
		}
	}
	return nil
}

// keep makes a file the site's, unless it comes with wulfmesh just so.
func (d *draft) keep(f File) {
	if b, ok := d.base[f.Path]; ok && reflect.DeepEqual(normal(b), normal(f)) {
		delete(d.own, f.Path)
		return
	}
	d.own[f.Path] = f
}

// normal lets files be compared that came different ways.
func normal(f File) File {
	f.Content = append([]byte{}, f.Content...)
	if len(f.Xattrs) == 0 {
		f.Xattrs = nil
	}
	return f
}

func (d *draft) put(f File) error {
	if f.Type == TypeGone {
		return fault.New(fault.Invalid, "%s cannot be put and be gone", f.Path)
	}
	if dir, ok := d.now(f.Path); ok && (dir.Type == TypeDir) != (f.Type == TypeDir) {
		return fault.New(fault.Conflict, "%s is a %s in this overlay", f.Path, dir.Type).WithFix("delete it first")
	}
	d.keep(f)
	return nil
}

func (d *draft) set(a Attributes) error {
	f, ok := d.now(d.path(a.Path))
	if !ok {
		return d.missing(a.Path)
	}
	if f.Type == TypeLink && a.Mode != nil {
		return fault.New(fault.Invalid, "%s is a link, which has no mode of its own", a.Path)
	}
	f.Mode, f.UID, f.GID = deref(a.Mode, f.Mode), deref(a.UID, f.UID), deref(a.GID, f.GID)
	d.keep(f)
	return nil
}

func deref[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

// each does something to the file at a path and, if that is wanted, to those below it.
func (d *draft) each(p string, do func(string) bool) error {
	p = d.path(p)
	f, ok := d.now(p)
	done := do(p)
	if ok && f.Type != TypeDir {
		if !done {
			return d.missing(p)
		}
		return nil
	}
	var below []string
	for _, m := range []map[string]File{d.own, d.base, d.shipped} {
		for other := range m {
			if strings.HasPrefix(other, p+"/") {
				below = append(below, other)
			}
		}
	}
	slices.Sort(below)
	n := 0
	for _, other := range slices.Compact(below) {
		if d.below {
			done = do(other) || done
		} else if _, ok := d.now(other); ok {
			n++
		}
	}
	switch {
	case n > 0:
		return fault.New(fault.Conflict, "%s is a directory with %d below it", p, n).WithFix("with them: --force")
	case !done:
		return d.missing(p)
	}
	return nil
}

// remove takes a file from nodes, and tells whether they had it.
func (d *draft) remove(p string) bool {
	_, ok := d.now(p)
	delete(d.own, p)
	if _, under := d.base[p]; under {
		d.own[p] = File{Path: p, Type: TypeGone}
	}
	return ok
}

// reset makes a file what comes with wulfmesh, and tells whether it was another.
func (d *draft) reset(p string) bool {
	_, had := d.own[p]
	delete(d.own, p)
	f, is := d.shipped[p]
	if _, under := d.base[p]; is && !under { // the site's part hides all that comes with wulfmesh
		d.own[p] = f
		return true
	}
	return had
}

func (d *draft) missing(p string) error {
	return fault.New(fault.NotFound, "the overlay has no %q that could be changed so", strings.TrimPrefix(p, "/")).WithFix("see its files with: wulf overlay show OVERLAY")
}

// hooks are the site's after the edit.
func (e *Edit) hooks(base, own *Bundle) ([]Hook, error) {
	var all []Hook
	if own != nil {
		all = slices.Clone(own.Hooks)
	}
	is := func(p string) func(Hook) bool { return func(h Hook) bool { return h.Path == p } }
	for _, h := range e.Hook {
		all = slices.DeleteFunc(all, is(h.Path))
	}
	all = append(all, e.Hook...)
	for _, p := range e.Unhook {
		p = strings.TrimPrefix(p, "/")
		n := len(all)
		all = slices.DeleteFunc(all, is(p))
		under := base != nil && slices.ContainsFunc(base.Hooks, is(p))
		if under {
			all = append(all, Hook{Path: p})
		}
		if n == len(all) && !under {
			return nil, fault.New(fault.NotFound, "the overlay has no hook for %q", p).WithFix("see its hooks with: wulf overlay show OVERLAY")
		}
	}
	return all, nil
}
