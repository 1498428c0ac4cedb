package catalog

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Patch changes s as a command asks: what set decides replaces what s decided (a list as a whole, a map key by
// key), then each path in unset is decided no longer. An unset path that names no setting is fault.Invalid.
func (s *Settings) Patch(set Settings, unset []string) error {
	replace(reflect.ValueOf(s).Elem(), reflect.ValueOf(&set).Elem())
	for _, path := range unset {
		if !undecide(reflect.ValueOf(s).Elem(), strings.Split(path, ".")) {
			return noSetting(path)
		}
	}
	return nil
}

func noSetting(path string) error {
	err := fault.New(fault.Invalid, "no setting is called %q", clip(path))
	if best := Nearest(path, slices.Values(Paths()), 2); best != "" {
		return err.WithFix("did you mean %s?", best)
	}
	return err.WithFix("they are listed by: wulf help settings")
}

// replace lays src over dst. What is stored has one form for equal meanings: no list, map or element of a map that is
// there and empty, for a snapshot would not bring it back.
func replace(dst, src reflect.Value) {
	switch {
	case src.IsZero():
	case src.Kind() == reflect.Struct:
		for i := range src.NumField() {
			if f := src.Field(i); !f.IsZero() {
				replace(dst.Field(i), f)
			}
		}
	case src.Kind() == reflect.Map:
		replaceKeys(dst, src)
	case src.Kind() == reflect.Slice && src.Len() == 0:
		dst.SetZero()
	default:
		dst.Set(src)
	}
}

func replaceKeys(dst, src reflect.Value) {
	m := cloneMap(dst, src.Len())
	for it := src.MapRange(); it.Next(); {
		if it.Value().Kind() != reflect.Struct {
			m.SetMapIndex(it.Key(), it.Value())
			continue
		}
		v := reflect.New(src.Type().Elem()).Elem()
		if old := m.MapIndex(it.Key()); old.IsValid() {
			v.Set(old)
		}
		if replace(v, it.Value()); !v.IsZero() {
			m.SetMapIndex(it.Key(), v)
		}
	}
	if m.Len() > 0 {
		dst.Set(m)
	}
}

// undecide undecides the setting at path and reports whether there is a setting of that name. Keys of maps may have
// dots in them (an interface eth0.12, a path below /dev): the longest key that is there counts.
func undecide(v reflect.Value, path []string) bool {
	if len(path) == 0 {
		v.SetZero()
		return true
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if jsonName(v.Type().Field(i)) == path[0] {
				return undecide(v.Field(i), path[1:])
			}
		}
	case reflect.Map:
		return !slices.Contains(path, "") && undecideKey(v, path)
	}
	return false
}

func undecideKey(m reflect.Value, path []string) bool {
	if m.Type().Elem().Kind() != reflect.Struct { // all of the path is the key
		dropKey(m, strings.Join(path, "."), reflect.Value{})
		return true
	}
	for n := len(path); n > 0; n-- {
		key := strings.Join(path[:n], ".")
		old := m.MapIndex(reflect.ValueOf(key))
		if !old.IsValid() {
			continue
		}
		elem := reflect.New(m.Type().Elem()).Elem()
		elem.Set(old)
		if undecide(elem, path[n:]) {
			dropKey(m, key, elem)
			return true
		}
	}
	// There is no such key: the path is right if it ends like that of a setting, or if all of it is a key. That has dots
	// in it if the path goes on; then it must not look like the name of a setting with a slip in it.
	for n := 1; n < len(path); n++ {
		if undecide(reflect.New(m.Type().Elem()).Elem(), path[n:]) {
			return true
		}
	}
	return len(path) == 1 || Nearest(path[len(path)-1], fields(m.Type().Elem()), 2) == ""
}

// fields yields the names of the settings that a struct is made of.
func fields(t reflect.Type) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range t.NumField() {
			if !yield(jsonName(t.Field(i))) {
				return
			}
		}
	}
}

// dropKey leaves only elem at the key of a map, or nothing. Other revisions share the map, so it is a copy that changes.
func dropKey(m reflect.Value, key string, elem reflect.Value) {
	k := reflect.ValueOf(key)
	if !m.MapIndex(k).IsValid() {
		return
	}
	out := cloneMap(m, 0)
	if elem.IsValid() && elem.IsZero() {
		elem = reflect.Value{}
	}
	out.SetMapIndex(k, elem)
	if out.Len() == 0 {
		m.SetZero()
		return
	}
	m.Set(out)
}

// Paths lists the paths of all settings in order; "nets.NAME.device" stands for those of every device.
func Paths() []string { return paths(reflect.TypeFor[Settings](), "") }

func paths(t reflect.Type, path string) []string {
	switch {
	case t.Kind() == reflect.Struct && t != addrType:
		var all []string
		for i := range t.NumField() {
			all = append(all, paths(t.Field(i).Type, join(path, jsonName(t.Field(i))))...)
		}
		return all
	case t.Kind() == reflect.Map:
		return paths(t.Elem(), join(path, "NAME"))
	}
	return []string{path}
}

// IsPath tells whether a path names a setting or a group of settings.
func IsPath(path string) bool {
	var s Settings
	return path != "" && s.Patch(Settings{}, []string{path}) == nil
}

// Decided lists the paths that s decides, in order of their names.
func (s Settings) Decided() []string {
	blame := Blame{}
	var all Settings
	Merge(&all, s, "x", blame)
	if len(s.Without) > 0 {
		blame["without"] = "x"
	}
	return slices.Sorted(maps.Keys(blame))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
