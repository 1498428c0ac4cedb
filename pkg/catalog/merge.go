package catalog

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Blame says for each decided setting, by its path ("kernel.args", "nets.default.address"), who decided it.
type Blame map[string]string

// Merge lays src over dst: a scalar that src decides wins; a list is appended; maps merge key by key, resources at
// every depth. What src is without is taken from dst first. Source is who to blame in blame, which may be nil.
//
// An element "~x" of a list stays in it until clean, for it takes x away wherever in the list that stands: these are
// Warewulf's rules, in which the order of profiles does not matter to what is negated.
func Merge(dst *Settings, src Settings, source string, blame Blame) {
	for _, path := range src.Without {
		if undecide(reflect.ValueOf(dst).Elem(), strings.Split(path, ".")) && blame != nil {
			blame.without(path, source)
		}
	}
	src.Without = nil
	m := merger{source, blame}
	m.merge(reflect.ValueOf(dst).Elem(), reflect.ValueOf(&src).Elem(), "")
}

// without blames source for the absence of a setting, and forgets who decided it or parts of it before.
func (b Blame) without(path, source string) {
	maps.DeleteFunc(b, func(p, _ string) bool { return p == path || strings.HasPrefix(p, path+".") })
	b[path] = source + isWithout
}

const isWithout = ", which is without"

// merger walks the structure of Settings, so that a field added there is merged, blamed and unset with no line here.
type merger struct {
	source string
	blame  Blame // nil: paths are not even computed
}

func (m merger) note(path string) {
	if m.blame != nil {
		m.blame[path] = m.source
	}
}

func (m merger) path(path, name string) string {
	if m.blame == nil {
		return ""
	}
	return join(path, name)
}

func (m merger) merge(dst, src reflect.Value, path string) {
	if src.IsZero() {
		return
	}
	switch src.Kind() {
	case reflect.Struct:
		for i := range src.NumField() {
			if f := src.Field(i); !f.IsZero() {
				m.merge(dst.Field(i), f, m.path(path, m.name(src.Type(), i)))
			}
		}
	case reflect.Slice:
		list := slices.Concat(dst.Interface().([]string), src.Interface().([]string))
		dst.Set(reflect.ValueOf(list))
		m.noteToo(path)
	case reflect.Map:
		m.mergeMap(dst, src, path)
	default: // a pointer to a scalar
		dst.Set(src)
		m.note(path)
	}
}

// name is the JSON name of a field; it is worth computing only where somebody is blamed.
func (m merger) name(t reflect.Type, field int) string {
	if m.blame == nil {
		return ""
	}
	return jsonName(t.Field(field))
}

// noteToo blames the source for a part of a value, besides whoever decided the rest.
func (m merger) noteToo(path string) {
	if m.blame == nil {
		return
	}
	if before := m.blame[path]; before != "" && before != m.source && !strings.HasSuffix(before, isWithout) {
		m.blame[path] = before + ", " + m.source
		return
	}
	m.blame[path] = m.source
}

func (m merger) mergeMap(dst, src reflect.Value, path string) {
	if all, ok := dst.Addr().Interface().(*map[string]Resource); ok {
		m.mergeResources(all, src.Interface().(map[string]Resource), path)
		return
	}
	out := cloneMap(dst, src.Len())
	scalar := src.Type().Elem().Kind() == reflect.String // "" is a decision too: the tag is there, and empty
	for it := src.MapRange(); it.Next(); {
		key := m.path(path, it.Key().String())
		if scalar {
			out.SetMapIndex(it.Key(), it.Value())
			m.note(key)
			continue
		}
		v := reflect.New(src.Type().Elem()).Elem()
		if old := out.MapIndex(it.Key()); old.IsValid() {
			v.Set(old)
		}
		m.merge(v, it.Value(), key)
		out.SetMapIndex(it.Key(), v)
	}
	dst.Set(out)
}

func (m merger) mergeResources(dst *map[string]Resource, src map[string]Resource, path string) {
	out := maps.Clone(*dst)
	if out == nil {
		out = make(map[string]Resource, len(src))
	}
	for k, v := range src {
		out[k] = v.over(out[k])
		m.noteToo(m.path(path, k))
	}
	*dst = out
}

// cloneMap is a copy of a map with room for more; other revisions share the original.
func cloneMap(m reflect.Value, more int) reflect.Value {
	out := reflect.MakeMapWithSize(m.Type(), m.Len()+more)
	for it := m.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	return out
}

// clean takes from the lists every x of which there is a "~x", and the "~x" themselves.
func (s *Settings) clean() {
	for _, list := range []*[]string{
		&s.Kernel.Args, &s.Overlays.System, &s.Overlays.Runtime, &s.SSHKeys, &s.Roles, &s.Groups,
	} {
		*list = cleaned(*list)
	}
}

// cleaned is the list itself if nothing is negated in it.
func cleaned[S ~string](list []S) []S {
	negated := func(x S) bool { return strings.HasPrefix(string(x), "~") }
	if !slices.ContainsFunc(list, negated) {
		return list
	}
	var out []S
	for _, x := range list {
		if !negated(x) && !slices.Contains(list, "~"+x) {
			out = append(out, x)
		}
	}
	return out
}
