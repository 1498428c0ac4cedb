package warewulf

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Marshal writes nodes as `wwctl node export` and `wwctl node list -y` do: a map of names to nodes with Warewulf's keys
// in Warewulf's order.
func Marshal(nodes ...Merged) ([]byte, error) { return encode(byName(nodes)) }

// MarshalJSON writes nodes as `wwctl node list -j` does.
func MarshalJSON(nodes ...Merged) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(byName(nodes)); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing nodes as JSON")
	}
	return b.Bytes(), nil
}

func byName(nodes []Merged) map[string]*Node {
	out := make(map[string]*Node, len(nodes))
	for i := range nodes {
		out[nodes[i].Name] = &nodes[i].Node
	}
	return out
}

// Encode writes a nodes.conf that Warewulf 4.7 reads. As Warewulf does when it writes, it leaves out the words UNDEF
// and UNSET, lists that contain one, and groups that are empty then; n itself stays as it is.
func Encode(n *Nodes) ([]byte, error) {
	out := &Nodes{make(map[string]*Profile, len(n.Profiles)), make(map[string]*Node, len(n.Nodes)), nil}
	for name, p := range n.Profiles {
		out.Profiles[name] = new(Profile)
		written(reflect.ValueOf(out.Profiles[name]).Elem(), reflect.ValueOf(p).Elem())
	}
	for name, p := range n.Nodes {
		out.Nodes[name] = new(Node)
		written(reflect.ValueOf(out.Nodes[name]).Elem(), reflect.ValueOf(p).Elem())
	}
	return encode(out)
}

// EncodeConfig writes a warewulf.conf that Warewulf 4.7 reads.
func EncodeConfig(c *Config) ([]byte, error) { return encode(c) }

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing YAML")
	}
	if err := e.Close(); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing YAML")
	}
	return b.Bytes(), nil
}

// written copies src to dst without what says nothing.
func written(dst, src reflect.Value) {
	switch src.Kind() {
	case reflect.String:
		if !isUndef(src.String()) {
			dst.Set(src)
		}
	case reflect.Struct:
		for i := range src.NumField() {
			if src.Type().Field(i).IsExported() {
				written(dst.Field(i), src.Field(i))
			}
		}
	case reflect.Slice:
		if list, ok := src.Interface().([]string); ok && !slices.ContainsFunc(list, isUndef) {
			dst.Set(src)
		}
	case reflect.Pointer:
		if src.IsNil() || src.Elem().Kind() == reflect.Bool {
			dst.Set(src)
			return
		}
		fresh := reflect.New(src.Type().Elem())
		written(fresh.Elem(), src.Elem())
		if !fresh.Elem().IsZero() {
			dst.Set(fresh)
		}
	case reflect.Map:
		if tags, ok := src.Interface().(map[string]string); ok {
			tags = maps.Clone(tags)
			maps.DeleteFunc(tags, func(_, v string) bool { return isUndef(v) })
			dst.Set(reflect.ValueOf(tags))
			return
		}
		if _, ok := src.Interface().(map[string]any); ok {
			dst.Set(src)
			return
		}
		out := reflect.MakeMapWithSize(src.Type(), src.Len())
		for it := src.MapRange(); it.Next(); {
			elem := reflect.New(src.Type().Elem()).Elem()
			if written(elem, it.Value()); !elem.IsNil() {
				out.SetMapIndex(it.Key(), elem)
			}
		}
		dst.Set(out)
	}
}
