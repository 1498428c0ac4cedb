package warewulf

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// decoder reads YAML into the structs of this package. Unlike the library's it knows where each value stands, goes on
// where a key is unknown, and has a say for old keys. The first error stops it.
type decoder struct {
	hazards
	values int // seen; aliases are followed, so this is what stops a bomb
	depth  int
	err    error
	at     map[string]Position // of the keys, if it is not nil
}

// fail keeps the first error, with its place.
func (d *decoder) fail(n *yaml.Node, path, what, fix string) {
	if d.err != nil {
		return
	}
	if path == "" {
		path = "the file"
	}
	e := fault.New(fault.Invalid, "%s, line %d, column %d: %s: %s", d.file, max(n.Line, 1), max(n.Column, 1), clipPath(path), what)
	if fix != "" {
		e = e.WithFix("%s", fix)
	}
	d.err = e
}

// wrong says that a value is of another kind than it must be.
func (d *decoder) wrong(n *yaml.Node, path, want string) {
	d.fail(n, path, fmt.Sprintf("here is %s where %s must be", kindOf(n), want), "write it as "+shape(want))
}

func kindOf(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a group of keys"
	}
	return fmt.Sprintf("the text %q", clip(n.Value))
}

func shape(want string) string {
	switch want {
	case "a list of texts":
		return "lines that begin with \"- \""
	case "keys with values":
		return "lines with KEY: VALUE, indented alike"
	}
	return "KEY: " + strings.TrimPrefix(strings.TrimPrefix(want, "a "), "one ")
}

// clipPath keeps a path within a line, whatever the keys are.
func clipPath(path string) string {
	if len(path) > 200 {
		return path[:200] + "…"
	}
	return path
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// count takes note of a value, and tells whether to go on.
func (d *decoder) count(n *yaml.Node, path string) bool {
	if d.values++; d.values > maxValues {
		d.fail(n, path, fmt.Sprintf("with what its aliases repeat the file has more than %d values", maxValues), "write fewer aliases")
	}
	return d.err == nil
}

// value reads n into v, which is settable.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	n = follow(n)
	if !d.count(n, path) {
		return
	}
	if d.depth++; d.depth > maxDepth {
		d.fail(n, path, fmt.Sprintf("it is nested deeper than %d levels, or an anchor contains itself", maxDepth), "")
	}
	defer func() { d.depth-- }()
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = d.text(n, path)
	case *int:
		*p = d.number(n, path)
	case *IP:
		*p = d.ip(n, path)
	case *Bool:
		*p = d.bool(n, path)
	case **bool:
		*p = d.boolPtr(n, path)
	case *[]string:
		*p = d.list(n, path)
	case *map[string]string:
		*p = d.texts(n, path)
	case *map[string]any:
		if m, ok := d.any(n, path).(map[string]any); ok {
			*p = m
		} else if !isNull(n) {
			d.wrong(n, path, "keys with values")
		}
	default:
		d.compound(n, v, path)
	}
}

// declarer is told where it is declared, after all of it was read.
type declarer interface{ declared(Position) }

// compound reads structs, pointers to them, and lists and maps of those pointers.
func (d *decoder) compound(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.structure(n, v.Elem(), path)
	case reflect.Map:
		pairs := d.pairs(n, path)
		v.Set(reflect.MakeMapWithSize(v.Type(), len(pairs)))
		for _, p := range pairs {
			elem := reflect.New(v.Type().Elem()).Elem()
			d.value(p.value, elem, join(path, p.name))
			if _, ok := elem.Interface().(declarer); ok {
				if elem.IsNil() { // "n1:" declares a node that says nothing
					elem.Set(reflect.New(elem.Type().Elem()))
				}
				elem.Interface().(declarer).declared(where(p.key))
			}
			v.SetMapIndex(reflect.ValueOf(p.name), elem)
		}
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.wrong(n, path, "a list of groups of keys")
			return
		}
		for i, item := range n.Content {
			elem := reflect.New(v.Type().Elem()).Elem()
			d.value(item, elem, fmt.Sprintf("%s[%d]", path, i))
			v.Set(reflect.Append(v, elem))
		}
	}
}

// structure reads the keys of a struct: first those of today, then the old ones in the order of their table, so that
// what wins does not depend on the order in the file.
func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	into := v.Addr().Interface()
	old := oldKeys(into)
	pairs := d.pairs(n, path)
	later := make(map[string]pair)
	for _, p := range pairs {
		if d.err != nil {
			return
		}
		if d.at != nil {
			d.at[join(path, p.name)] = where(p.key)
		}
		if slices.ContainsFunc(old, func(o oldKey) bool { return o.is(p) }) {
			later[p.name] = p
			continue
		}
		f := field(v, p.name)
		if !f.IsValid() {
			d.add(UnknownKey, Warning, join(path, p.name), where(p.key), "Warewulf knows no such key here and ignores it", suggestion(p.name, v.Type()))
			continue
		}
		d.value(p.value, f, join(path, p.name))
	}
	if len(later) == 0 {
		return
	}
	for _, o := range old {
		if p, ok := later[o.key]; ok && d.count(p.value, path) {
			o.read(d, into, oldValue{p, follow(p.value), join(path, o.key), pairs})
		}
	}
}

// field finds the field of a key, those of embedded structs too.
func field(v reflect.Value, key string) reflect.Value {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			if inner := field(v.Field(i), key); inner.IsValid() {
				return inner
			}
		} else if name := keyOf(f); name == key && name != "" {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// keyOf is the key of a field in YAML, "" for one that is not in the file.
func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// keysOf lists the keys of a struct.
func keysOf(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous {
			out = append(out, keysOf(f.Type)...)
		} else if name := keyOf(f); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// suggestion is the key that was probably meant.
func suggestion(key string, t reflect.Type) string {
	best, least := "", len(key)/3+1
	for _, k := range keysOf(t) {
		if n := distance(strings.ToLower(key), k); n <= least {
			best, least = k, n-1
		}
	}
	if best == "" {
		return "remove it, or correct it"
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance is how many letters must be added, taken away or exchanged to make b of a; long texts are far apart.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = min(before, row[j], row[j+1]) + 1
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
