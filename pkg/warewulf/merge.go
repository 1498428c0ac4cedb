package warewulf

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Merged is a node with what its profiles say, as Warewulf sees it.
type Merged struct {
	Name string
	Node
	From []string // the profiles that were folded into it, in order, those that do not exist too
}

// Blame says who decided each value, by its path ("kernel.args", "network devices.default.ipaddr"): the names of
// profiles, and of the node if it was the node itself, in the order in which they were folded. The last one of a
// scalar won over those before; of a list all of them have a part.
type Blame map[string][]string

// Expand gives the profiles of a list in the order in which Warewulf folds them: each one after those that it nests,
// once, without those that a "~" anywhere takes away. Profiles that do not exist are among them.
func (n *Nodes) Expand(profiles []string) []string {
	visited := make(map[string]bool)
	return cleaned(n.expand(profiles, visited, 0))
}

// expand recurses as deep as there are profiles, for each is visited once.
func (n *Nodes) expand(profiles []string, visited map[string]bool, depth int) []string {
	var out []string
	for _, name := range profiles {
		switch {
		case strings.HasPrefix(name, "~"):
			out = append(out, name)
		case visited[name] || depth > maxNesting:
		default:
			visited[name] = true
			if p := n.Profiles[name]; p != nil {
				out = append(out, n.expand(p.Profiles, visited, depth+1)...)
			}
			out = append(out, name)
		}
	}
	return out
}

// maxNesting bounds how deep profiles nest; what is deeper is not folded. Nobody was seen with more than four.
const maxNesting = 1000

// cleaned is a list without every x of which there is a "~x", and without the "~x".
func cleaned(list []string) []string {
	taken := make(map[string]bool)
	for _, x := range list {
		if name, ok := strings.CutPrefix(x, "~"); ok {
			taken[name] = true
		}
	}
	if len(taken) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return taken[x] || strings.HasPrefix(x, "~") })
}

// Merged folds the profiles of a node, then the node itself, by Warewulf's rules:
//
//   - Profiles come in the order of Expand. One that does not exist is passed over with a hazard.
//   - A scalar that says something replaces the one before. Lists are appended, and nothing is taken out of them but
//     what a "~" takes. Maps merge by key at every depth; a tag that is empty is a value too.
//   - The comment and the list of profiles are the node's own, never inherited.
//   - The primary network is the first by name where none is named, or one that the node has not.
//
// A node that does not exist is fault.NotFound. Resources that do not fit together are fault.Invalid: Warewulf fails
// on them too.
func (n *Nodes) Merged(name string) (Merged, Blame, []Hazard, error) {
	own := n.Nodes[name]
	if own == nil {
		return Merged{}, nil, nil, fault.New(fault.NotFound, "there is no node %q in %s", clip(name), NodesFile).WithFix("`wulf migrate scan` lists the nodes")
	}
	h := &hazards{file: NodesFile}
	blame := make(Blame)
	m, err := n.merge(name, own, blame, h)
	if err != nil {
		return Merged{}, nil, nil, err
	}
	n.checkMerged(m, h)
	return m, blame, h.found(), nil
}

// merge does it; blame may be nil.
func (n *Nodes) merge(name string, own *Node, blame Blame, h *hazards) (Merged, error) {
	m := Merged{Name: name, From: n.Expand(own.Profiles)}
	for _, profile := range m.From {
		p := n.Profiles[profile]
		if p == nil {
			h.add(UnknownProfile, Warning, "nodes."+name+".profiles", own.at,
				fmt.Sprintf("there is no profile %q; Warewulf passes over it", clip(profile)), "add the profile, or take it from the list")
			continue
		}
		f := folder{profile, blame, nil}
		f.fold(reflect.ValueOf(&m.Profile).Elem(), reflect.ValueOf(p).Elem(), "")
		if f.err != nil {
			return m, f.err
		}
	}
	f := folder{name, blame, nil}
	f.fold(reflect.ValueOf(&m.Node).Elem(), reflect.ValueOf(own).Elem(), "")
	if f.err != nil {
		return m, f.err
	}
	m.Comment, m.Profiles, m.at = own.Comment, cleaned(own.Profiles), own.at
	blame.only("comment", name, own.Comment != "")
	blame.only("profiles", name, len(own.Profiles) > 0)
	m.clean()
	if _, ok := m.NetDevs[m.PrimaryNetDev]; !ok && len(m.NetDevs) > 0 {
		m.PrimaryNetDev = slices.Min(slices.Collect(maps.Keys(m.NetDevs)))
	}
	return m, nil
}

// clean takes from the lists what "~" takes away.
func (p *Profile) clean() {
	p.SystemOverlay = cleaned(p.SystemOverlay)
	p.RuntimeOverlay = cleaned(p.RuntimeOverlay)
	p.Groups = cleaned(p.Groups)
	if p.Kernel != nil {
		p.Kernel.Args = cleaned(p.Kernel.Args)
	}
}

// only makes source the one to blame, or nobody.
func (b Blame) only(path, source string, decided bool) {
	if b == nil {
		return
	}
	delete(b, path)
	if decided {
		b[path] = []string{source}
	}
}

// folder lays what one source says over what others said before it. It never changes what it reads.
type folder struct {
	source string
	blame  Blame // may be nil
	err    error
}

func (f *folder) note(path string) {
	if f.blame != nil {
		f.blame[path] = append(f.blame[path], f.source)
	}
}

func (f *folder) fold(dst, src reflect.Value, path string) {
	switch src.Kind() {
	case reflect.String:
		if src.Len() > 0 {
			dst.Set(src)
			f.note(path)
		}
	case reflect.Struct:
		t := src.Type()
		for i := range t.NumField() {
			switch field := t.Field(i); {
			case field.Anonymous:
				f.fold(dst.Field(i), src.Field(i), path)
			case field.IsExported():
				f.fold(dst.Field(i), src.Field(i), join(path, keyOf(field)))
			}
		}
	case reflect.Slice:
		if src.Len() > 0 {
			dst.Set(reflect.ValueOf(slices.Concat(dst.Interface().([]string), src.Interface().([]string))))
			f.note(path)
		}
	case reflect.Pointer:
		f.foldPointer(dst, src, path)
	case reflect.Map:
		f.foldMap(dst, src, path)
	}
}

// foldPointer folds what is behind a pointer. A truth that is decided wins, false over true as well.
func (f *folder) foldPointer(dst, src reflect.Value, path string) {
	if src.IsNil() {
		return
	}
	fresh := reflect.New(src.Type().Elem())
	if src.Elem().Kind() == reflect.Bool {
		fresh.Elem().Set(src.Elem())
		dst.Set(fresh)
		f.note(path)
		return
	}
	if !dst.IsNil() {
		fresh.Elem().Set(dst.Elem())
	}
	f.fold(fresh.Elem(), src.Elem(), path)
	dst.Set(fresh)
}

func (f *folder) foldMap(dst, src reflect.Value, path string) {
	if src.IsNil() {
		return
	}
	out := reflect.MakeMapWithSize(src.Type(), dst.Len()+src.Len())
	for it := dst.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	for it := src.MapRange(); it.Next(); {
		key := join(path, it.Key().String())
		switch v := it.Value(); v.Kind() {
		case reflect.String:
			out.SetMapIndex(it.Key(), v)
			f.note(key)
		case reflect.Interface:
			var before any
			if old := out.MapIndex(it.Key()); old.IsValid() {
				before = old.Interface()
			}
			elem := reflect.New(src.Type().Elem()).Elem()
			if after := f.resource(before, v.Interface(), key); after != nil {
				elem.Set(reflect.ValueOf(after))
			}
			out.SetMapIndex(it.Key(), elem)
			f.note(key)
		default:
			elem := reflect.New(src.Type().Elem()).Elem()
			if old := out.MapIndex(it.Key()); old.IsValid() {
				elem.Set(old)
			}
			f.foldPointer(elem, v, key)
			out.SetMapIndex(it.Key(), elem)
		}
	}
	dst.Set(out)
}

// resource folds values of any shape: maps by key, lists appended, all else replaced, by nothing too. A list over
// something else does not fit.
func (f *folder) resource(before, after any, path string) any {
	switch after := after.(type) {
	case map[string]any:
		old, ok := before.(map[string]any)
		if !ok {
			return after
		}
		out := maps.Clone(old)
		for k, v := range after {
			out[k] = f.resource(old[k], v, join(path, k))
		}
		return out
	case []any:
		switch old := before.(type) {
		case nil:
			return after
		case []any:
			return append(slices.Clip(old), after...) // an empty list stays one
		}
		if f.err == nil {
			f.err = fault.New(fault.Invalid, "%s of %q is a list, but in a profile before it is none; Warewulf fails on this too", path, f.source).
				WithFix("make both a list")
		}
	}
	return after
}
