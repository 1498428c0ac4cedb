package catalog

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Blame says for each decided setting, by its path ("kernel.args", "nets.default.address"), who decided it.
type Blame map[string]string

// Merge lays src over dst: a scalar that src decides wins; a list is appended, and an element "~x" takes away
// an x decided before it; maps merge key by key. Source is who to blame in blame, which may be nil.
func Merge(dst *Settings, src Settings, source string, blame Blame) {
	merge(reflect.ValueOf(dst).Elem(), reflect.ValueOf(src), "", source, blame)
}

// merge walks the structure of Settings, so that a field added there is merged, blamed and unset with no line here.
func merge(dst, src reflect.Value, path, source string, blame Blame) {
	if src.IsZero() {
		return
	}
	note := func(path, source string) {
		if blame != nil {
			blame[path] = source
		}
	}
	switch src.Kind() {
	case reflect.Struct:
		for i := range src.NumField() {
			merge(dst.Field(i), src.Field(i), join(path, jsonName(src.Type().Field(i))), source, blame)
		}
	case reflect.Slice:
		list := slices.Clone(dst.Interface().([]string))
		for _, v := range src.Interface().([]string) {
			if gone, is := strings.CutPrefix(v, "~"); is {
				list = slices.DeleteFunc(list, func(s string) bool { return s == gone })
			} else {
				list = append(list, v)
			}
		}
		if before := blame[path]; before != "" && before != source {
			source = before + ", " + source
		}
		dst.Set(reflect.ValueOf(list))
		note(path, source)
	case reflect.Map:
		m := reflect.MakeMap(src.Type())
		for it := dst.MapRange(); it.Next(); {
			m.SetMapIndex(it.Key(), it.Value())
		}
		for it := src.MapRange(); it.Next(); {
			v := reflect.New(src.Type().Elem()).Elem()
			if old := m.MapIndex(it.Key()); old.IsValid() {
				v.Set(old)
			}
			key := join(path, it.Key().String())
			if it.Value().Kind() == reflect.String { // "" is a decision too: the tag is there, and empty
				v.Set(it.Value())
				note(key, source)
			} else {
				merge(v, it.Value(), key, source, blame)
			}
			m.SetMapIndex(it.Key(), v)
		}
		dst.Set(m)
	default: // a pointer to a scalar
		dst.Set(src)
		note(path, source)
	}
}

// Patch changes s as a command asks: what set decides replaces what s decided (a list as a whole, a map key by
// key), then each path in unset is decided no longer. An unset path that names no setting is fault.Invalid.
func (s *Settings) Patch(set Settings, unset []string) error {
	replace(reflect.ValueOf(s).Elem(), reflect.ValueOf(set))
	for _, path := range unset {
		if !undecide(reflect.ValueOf(s).Elem(), strings.Split(path, ".")) {
			return fault.New(fault.Invalid, "no setting is called %q", clip(path)).WithFix("settings are %s", strings.Join(Paths(), ", "))
		}
	}
	return nil
}

func replace(dst, src reflect.Value) {
	switch {
	case src.IsZero():
	case src.Kind() == reflect.Struct:
		for i := range src.NumField() {
			replace(dst.Field(i), src.Field(i))
		}
	case src.Kind() == reflect.Map:
		m := reflect.MakeMap(src.Type())
		for it := dst.MapRange(); it.Next(); {
			m.SetMapIndex(it.Key(), it.Value())
		}
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

// undecide undecides the setting at path and reports whether there is a setting of that name.
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
		return false
	case reflect.Map:
		key := reflect.ValueOf(path[0])
		elem := reflect.New(v.Type().Elem()).Elem()
		old := v.MapIndex(key)
		if old.IsValid() {
			elem.Set(old)
		}
		if len(path) > 1 && (elem.Kind() != reflect.Struct || !undecide(elem, path[1:])) {
			return false
		}
		if !old.IsValid() {
			return true
		}
		m := reflect.MakeMap(v.Type())
		for it := v.MapRange(); it.Next(); {
			m.SetMapIndex(it.Key(), it.Value())
		}
		if len(path) == 1 || elem.IsZero() {
			m.SetMapIndex(key, reflect.Value{})
		} else {
			m.SetMapIndex(key, elem)
		}
		v.Set(m)
		return true
	}
	return false
}

// Paths lists the paths of all settings in order; "nets.NAME.device" stands for those of every device.
func Paths() []string { return paths(reflect.TypeFor[Settings](), "") }

func paths(t reflect.Type, path string) []string {
	switch {
	case t.Kind() == reflect.Struct:
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

// Decided lists the paths that s decides, in order of their names.
func (s Settings) Decided() []string {
	blame := Blame{}
	var all Settings
	Merge(&all, s, "x", blame)
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
