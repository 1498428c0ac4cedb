package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of a file of declarations.
const (
	maxDocument = 64 << 20
	maxNesting  = 64
)

// readDocument reads a file of declarations, or standard input for "-".
func (p *program) readDocument(file string) ([]byte, error) {
	in := p.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, err, "reading declarations")
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "reading %s", file)
	}
	if len(b) > maxDocument {
		return nil, fault.New(fault.Invalid, "%s has more than %d bytes", file, maxDocument).WithFix("split it")
	}
	return b, nil
}

// formatOf guesses the format of a file from its name.
func formatOf(file string) string {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".json":
		return formatJSON
	case ".csv":
		return formatCSV
	}
	return formatYAML // of which JSON is a part
}

// yamlNodes reads YAML documents strictly: errors say file, line and column.
func yamlNodes(file string, b []byte) ([]*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var all []*yaml.Node
	for {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, yamlTrouble(file, err)
		}
		all = append(all, n.Content...)
	}
}

// yamlTrouble is the library's word, with the place in our form.
func yamlTrouble(file string, err error) error {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return fault.New(fault.Invalid, "%s: %s", file, strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", "; "), "yaml: "))
	}
	text := e.Message
	if e.ContextMsg != "" {
		text = e.ContextMsg + ": " + text
	}
	if e.Mark.Line > 0 {
		file = fmt.Sprintf("%s:%d:%d", file, e.Mark.Line, max(e.Mark.Column, 1))
	}
	return fault.New(fault.Invalid, "%s: %s", file, text)
}

// reader turns YAML into the types of the catalog by way of JSON, so that the one form of declared state is read by the
// one decoder that knows it, and says where in the file something is wrong.
type reader struct{ file string }

func (r reader) wrong(n *yaml.Node, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "%s:%d:%d: %s", r.file, n.Line, n.Column, fmt.Sprintf(format, args...))
}

// into reads a node into a value. Unknown keys, wrong types and keys that come twice are fault.Invalid.
func (r reader) into(n *yaml.Node, path string, v any) error {
	t := reflect.TypeOf(v).Elem()
	if err := r.check(n, path, t, 0); err != nil {
		return err
	}
	tree, err := r.tree(n, 0)
	if err != nil {
		return err
	}
	b, err := json.Marshal(tree)
	if err != nil {
		return r.wrong(n, "%v", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return r.wrong(n, "%s: %s", path, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// check finds what does not fit a type before it is decoded, for only here the places are known.
func (r reader) check(n *yaml.Node, path string, t reflect.Type, depth int) error {
	if depth > maxNesting {
		return r.wrong(n, "%s is nested deeper than %d levels", path, maxNesting)
	}
	if n.Kind == yaml.AliasNode { // a few lines of them can stand for more than there is memory
		return r.noAlias(n, n.Value)
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[catalog.Resource]() {
		return r.checkResource(n, path)
	}
	if isText(t) {
		if n.Kind != yaml.ScalarNode {
			return r.wrong(n, "%s is a text, not %s", path, kindOf(n))
		}
		return r.checkText(n, path, t)
	}
	switch t.Kind() {
	case reflect.Struct:
		return r.checkFields(n, path, t, depth)
	case reflect.Map:
		return r.pairs(n, path, func(k, v *yaml.Node) error {
			return r.check(v, under(path, k.Value), t.Elem(), depth+1)
		})
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode && n.Tag != "!!null" {
			err := r.wrong(n, "%s is a list, not %s", path, kindOf(n))
			if n.Kind == yaml.ScalarNode {
				return err.WithFix("write it as [%s]", clipped(n.Value))
			}
			return err
		}
		for i, v := range n.Content {
			if err := r.check(v, fmt.Sprintf("%s[%d]", path, i), t.Elem(), depth+1); err != nil {
				return err
			}
		}
	case reflect.Bool:
		if n.Tag == "!!str" { // YAML 1.1's yes and no, which people still write
			if b, err := catalog.ParseBool(n.Value); err == nil {
				n.Tag, n.Value = "!!bool", strconv.FormatBool(b)
			}
		}
		if n.Tag != "!!bool" && n.Tag != "!!null" {
			return r.wrong(n, "%s is true or false, not %s", path, kindOf(n))
		}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		if n.Tag == "!!null" {
			return nil
		}
		v, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil {
			return r.wrong(n, "%s is a whole number, not %s", path, kindOf(n))
		}
		n.Tag, n.Value = "!!int", strconv.FormatInt(v, 10) // also in quotation marks, and with zeros before it
	}
	return nil
}

// checkText checks what is written as one text, and gives it the form that it is kept in.
func (r reader) checkText(n *yaml.Node, path string, t reflect.Type) error {
	if n.Tag == "!!null" {
		return nil
	}
	switch t {
	case reflect.TypeFor[catalog.HardwareAddr]():
		hw, err := catalog.ParseHardwareAddr(n.Value)
		if err != nil {
			return r.wrong(n, "%s: %v", path, err).WithFix("%s", fault.Fix(err))
		}
		n.Value = string(hw)
	case reflect.TypeFor[netip.Addr]():
		if _, err := netip.ParseAddr(n.Value); err != nil {
			return r.wrong(n, "%s: %q is not an IP address", path, clipped(n.Value)).WithFix("write it as 10.1.0.1")
		}
	case reflect.TypeFor[netip.Prefix]():
		if _, err := netip.ParsePrefix(n.Value); err != nil {
			return r.wrong(n, "%s: %q is not a prefix of addresses", path, clipped(n.Value)).WithFix("write it as 10.1.0.0/16")
		}
	default:
		v := reflect.New(t)
		if u, ok := v.Interface().(interface{ UnmarshalText([]byte) error }); ok {
			if err := u.UnmarshalText([]byte(n.Value)); err != nil {
				return r.wrong(n, "%s: %q cannot be read: %v", path, clipped(n.Value), err)
			}
		}
	}
	n.Tag = "!!str" // rack: 7 is a name, though YAML takes it for a number
	return nil
}

// checkResource checks a value of any shape against its own bounds, here where its place is known.
func (r reader) checkResource(n *yaml.Node, path string) error {
	v, err := r.tree(n, 0)
	if err != nil {
		return err
	}
	if _, err := catalog.NewResource(v); err != nil {
		return r.wrong(n, "%s: %v", path, err).WithFix("%s", fault.Fix(err))
	}
	return nil
}

func (r reader) noAlias(n *yaml.Node, name string) error {
	return r.wrong(n, "aliases are not read").WithFix("write *%s out", name)
}

func (r reader) checkFields(n *yaml.Node, path string, t reflect.Type, depth int) error {
	fields := map[string]reflect.Type{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && name == "":
				walk(f.Type)
			case name != "" && name != "-":
				fields[name] = f.Type
			}
		}
	}
	walk(t)
	return r.pairs(n, path, func(k, v *yaml.Node) error {
		ft, ok := fields[k.Value]
		if !ok {
			if k.Value == "<<" {
				return r.noAlias(k, strings.TrimPrefix(v.Value, "*"))
			}
			err := r.wrong(k, "%s has no key %q", path, clipped(k.Value))
			if best := closest(k.Value, sortedKeys(fields)); best != "" {
				return err.WithFix("did you mean %s?", best)
			}
			return err.WithFix("it has %s", strings.Join(sortedKeys(fields), ", "))
		}
		return r.check(v, under(path, k.Value), ft, depth+1)
	})
}

// pairs visits the keys of a map, each of which may be there once.
func (r reader) pairs(n *yaml.Node, path string, visit func(k, v *yaml.Node) error) error {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return r.wrong(n, "%s is a group of keys, not %s", path, shapeOf(n)) // its text may be a secret
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return r.wrong(k, "%s has a key that is no text", path)
		}
		if seen[k.Value] {
			return r.wrong(k, "%s has the key %q twice", path, clipped(k.Value))
		}
		seen[k.Value] = true
		if err := visit(k, v); err != nil {
			return err
		}
	}
	return nil
}

// tree is the node as JSON takes it. Where a text is due, check has seen to it that it is one.
func (r reader) tree(n *yaml.Node, depth int) (any, error) {
	if depth > maxNesting {
		return nil, r.wrong(n, "nested deeper than %d levels", maxNesting)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return nil, r.noAlias(n, n.Value)
	case yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := r.tree(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			out[n.Content[i].Value] = v
		}
		return out, nil
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, c := range n.Content {
			v, err := r.tree(c, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	}
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE", nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
	}
	return n.Value, nil
}

// isText tells whether values of a type are written as one text.
func isText(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[catalog.NodeSet]():
		return true
	}
	return t.Kind() == reflect.String || reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]())
}

func kindOf(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return fmt.Sprintf("%q", clipped(n.Value))
	}
	return shapeOf(n)
}

func shapeOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a group of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return "a text"
}

// wholeDocument is the path of what a file holds.
const wholeDocument = "the document"

func under(path, key string) string {
	if path == wholeDocument {
		return key
	}
	return path + "." + key
}

func clipped(s string) string { return cut(s, 60) }
