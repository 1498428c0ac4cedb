package catalog

import (
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
	return err.WithFix("settings are %s", strings.Join(Paths(), ", "))
}

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
		m := cloneMap(dst, src.Len())
		for it := src.MapRange(); it.Next(); {
			v := reflect.New(src.Type().Elem()).Elem()
			if old := m.MapIndex(it.Key()); old.IsValid() && v.Kind() == reflect.Struct {
				v.Set(old)
				replace(v, it.Value())
			} else {
				v.Set(it.Value())
			}
			m.SetMapIndex(it.Key(), v)
		}
		dst.Set(m)
	default:
		dst.Set(src)
	}
}

// undecide undecides the setting at path and reports whether there is a setting of that name. Keys of maps may have
// dots in them (an interface eth0.12, a path below /dev): the longest key that is there counts.
func undecide(v reflect.Value, path []string) bool {
	if len(path) == 0 || path[0] == "" {
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
		return undecideKey(v, path)
	}
	return false
}

func undecideKey(m reflect.Value, path []string) bool {
	elem := reflect.New(m.Type().Elem()).Elem()
	n := keyLength(m, path)
	if n == 0 { // there is no such key: the path is right if its rest is
		return elem.Kind() != reflect.Struct || len(path) == 1 || slices.ContainsFunc(suffixes(path), func(rest []string) bool { return undecide(elem, rest) })
	}
	key := reflect.ValueOf(strings.Join(path[:n], "."))
	elem.Set(m.MapIndex(key))
	if n < len(path) && (elem.Kind() != reflect.Struct || !undecide(elem, path[n:])) {
		return false
	}
	out := cloneMap(m, 0)
	if n == len(path) || elem.IsZero() {
		out.SetMapIndex(key, reflect.Value{})
	} else {
		out.SetMapIndex(key, elem)
	}
	if out.Len() == 0 {
		m.SetZero()
		return true
	}
	m.Set(out)
	return true
}

// keyLength is how many words of the path make a key of the map, 0 if none do.
func keyLength(m reflect.Value, path []string) int {
	for n := len(path); n > 0; n-- {
		if m.MapIndex(reflect.ValueOf(strings.Join(path[:n], "."))).IsValid() {
			return n
		}
	}
	return 0
}

func suffixes(path []string) [][]string {
	var all [][]string
	for i := 1; i <= len(path); i++ {
		all = append(all, path[i:])
	}
	return all
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
