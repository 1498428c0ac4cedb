package warewulf

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Marshal writes nodes as `wwctl node export` and `wwctl node list -y` do: a map of names to nodes with Warewulf's keys
// in Warewulf's order.
func Marshal(nodes ...Merged) ([]byte, error) {
	var b bytes.Buffer
	if err := each(&b, "", byName(nodes)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

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
	n = n.said(true)
	var b bytes.Buffer
	if err := each(&b, "nodeprofiles", n.Profiles); err != nil {
		return nil, err
	}
	if err := each(&b, "nodes", n.Nodes); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// each writes a map entry by entry, below a key if there is one: the library makes of all it is given a tree that is
// fifty times as large.
func each[T any](b *bytes.Buffer, key string, entries map[string]*T) error {
	if len(entries) == 0 {
		if key != "" {
			key += ": "
		}
		b.WriteString(key + "{}\n")
		return nil
	}
	if key != "" {
		b.WriteString(key + ":\n")
	}
	for _, name := range slices.SortedFunc(maps.Keys(entries), nodeset.Compare) {
		entry := map[string]*T{name: entries[name]}
		var text []byte
		var err error
		if key == "" {
			text, err = encode(entry)
		} else if text, err = encode(map[string]map[string]*T{key: entry}); err == nil {
			text = text[len(key)+len(":\n"):]
		}
		if err != nil {
			return err
		}
		b.Write(text)
	}
	return nil
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

// said is a copy without the words that Warewulf forgets when it next writes; tight leaves out groups that say nothing,
// too.
func (n *Nodes) said(tight bool) *Nodes {
	out := &Nodes{Profiles: make(map[string]*Profile, len(n.Profiles)), Nodes: make(map[string]*Node, len(n.Nodes))}
	w := writer{tight}
	for name, p := range n.Profiles {
		out.Profiles[name] = &Profile{at: p.at}
		w.copy(reflect.ValueOf(out.Profiles[name]).Elem(), reflect.ValueOf(p).Elem())
	}
	for name, p := range n.Nodes {
		out.Nodes[name] = &Node{Profile: Profile{at: p.at}}
		w.copy(reflect.ValueOf(out.Nodes[name]).Elem(), reflect.ValueOf(p).Elem())
	}
	return out
}

type writer struct{ tight bool }

// copy copies src to dst.
func (w writer) copy(dst, src reflect.Value) {
	switch src.Kind() {
	case reflect.String:
		if !isUndef(src.String()) {
			dst.Set(src)
		}
	case reflect.Struct:
		for i := range src.NumField() {
			if src.Type().Field(i).IsExported() {
				w.copy(dst.Field(i), src.Field(i))
			}
		}
	case reflect.Slice:
		if list, ok := src.Interface().([]string); ok && len(list) > 0 && !slices.ContainsFunc(list, isUndef) {
			dst.Set(src)
		}
	case reflect.Pointer:
		if src.IsNil() || src.Elem().Kind() == reflect.Bool {
			dst.Set(src)
			return
		}
		fresh := reflect.New(src.Type().Elem())
		w.copy(fresh.Elem(), src.Elem())
		if !w.tight || !fresh.Elem().IsZero() {
			dst.Set(fresh)
		}
	case reflect.Map:
		if src.Len() == 0 {
			return
		}
		if tags, ok := src.Interface().(map[string]string); ok {
			tags = maps.Clone(tags)
			maps.DeleteFunc(tags, func(_, v string) bool { return isUndef(v) })
			if len(tags) > 0 {
				dst.Set(reflect.ValueOf(tags))
			}
			return
		}
		if _, ok := src.Interface().(map[string]any); ok {
			dst.Set(src)
			return
		}
		out := reflect.MakeMapWithSize(src.Type(), src.Len())
		for it := src.MapRange(); it.Next(); {
			elem := reflect.New(src.Type().Elem()).Elem()
			if w.copy(elem, it.Value()); !w.tight || !elem.IsNil() {
				out.SetMapIndex(it.Key(), elem)
			}
		}
		if out.Len() > 0 {
			dst.Set(out)
		}
	}
}
