package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The words of the file of contexts.
const (
	keyCurrent      = "current"
	keyContexts     = "contexts"
	keyEndpoints    = "endpoints"
	keyCredentials  = "credentials"
	keyConfirmAbove = "confirm_above"
	keyOutput       = "output"
)

// document is a YAML file as somebody wrote it, so that a change to it leaves comments and order alone.
type document struct{ node *yaml.Node }

func newDocument() *document {
	return &document{node: &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}}
}

// top is the mapping that the document is.
func (d *document) top() *yaml.Node { return d.node.Content[0] }

func (d *document) bytes() ([]byte, error) {
	b, err := yaml.Dump(d.node, yaml.WithV4Defaults())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing YAML")
	}
	return b, nil
}

// parseContexts reads a file of contexts. What is not known there or is of the wrong kind is refused, with its place:
// a word that is mistyped would otherwise be a cluster that is not asked before it is changed.
func parseContexts(path, home string, raw []byte) (*contexts, error) {
	all := &contexts{path: path, home: home, exists: true, doc: newDocument()}
	node, err := parseYAML(path, raw)
	if err != nil || node == nil {
		return all, err
	}
	r := yamlReader{file: path}
	err = r.mapping(node.Content[0], "the file", func(k, v *yaml.Node) (err error) {
		switch key := k.Value; key {
		case keyCurrent:
			all.current, err = r.text(v, key)
		case keyContexts:
			err = r.mapping(v, key, func(name, v *yaml.Node) error {
				c, err := r.context(name, v)
				all.list = append(all.list, c)
				return err
			})
		default:
			err = r.unknown(k, keyCurrent, keyContexts)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if node.Content[0].Kind == yaml.MappingNode { // not a file with null in it
		all.doc.node = node
	}
	for i := range all.list {
		all.list[i].Current = all.list[i].Name == all.current
	}
	return all, nil
}

// parseYAML reads one document; nil if there is none.
func parseYAML(file string, raw []byte) (*yaml.Node, error) {
	l, err := yaml.NewLoader(bytes.NewReader(raw), yaml.WithV4Defaults())
	if err != nil {
		return nil, yamlFault(file, err)
	}
	var node, more yaml.Node
	switch err := l.Load(&node); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, yamlFault(file, err)
	}
	switch err := l.Load(&more); {
	case err == nil:
		return nil, fault.New(fault.Invalid, "%s:%d:%d: there is a second document", file, more.Line, more.Column)
	case !errors.Is(err, io.EOF):
		return nil, yamlFault(file, err)
	}
	if len(node.Content) != 1 {
		return nil, nil
	}
	return &node, nil
}

// yamlFault is what the library says about a text that is no YAML, with its place before it.
func yamlFault(file string, err error) error {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return fault.Wrap(fault.Invalid, err, "%s", file)
	}
	at := file
	if e.Mark.Line > 0 {
		at += fmt.Sprintf(":%d:%d", e.Mark.Line, e.Mark.Column)
	}
	return fault.New(fault.Invalid, "%s: %s", at, e.Message)
}

// yamlReader reads parts of a YAML file, and says where one is wrong.
type yamlReader struct{ file string }

func (r yamlReader) context(name, v *yaml.Node) (namedContext, error) {
	c := namedContext{Endpoints: []string{}}
	var err error
	if c.Name, err = parseContextName(name.Value); err != nil {
		return c, r.at(name, "%v", err).WithFix("%s", fault.Fix(err))
	}
	err = r.mapping(v, "context "+c.Name, func(k, v *yaml.Node) (err error) {
		switch key := k.Value; key {
		case keyEndpoints:
			c.Endpoints, err = r.endpoints(v)
		case keyCredentials:
			c.Credentials, err = r.text(v, key)
		case keyConfirmAbove:
			c.ConfirmAbove, err = r.number(v, key)
		case keyOutput:
			if c.Output, err = r.text(v, key); err == nil && !slices.Contains(listFormats(), c.Output) {
				err = r.at(v, "%s is %q, which is no format", key, c.Output).WithFix("choose %s", strings.Join(listFormats(), ", "))
			}
		default:
			err = r.unknown(k, keyEndpoints, keyCredentials, keyConfirmAbove, keyOutput)
		}
		return err
	})
	if err == nil && len(c.Endpoints) == 0 {
		err = r.at(name, "context %s has no endpoints", c.Name)
	}
	return c, err
}

func (r yamlReader) endpoints(v *yaml.Node) ([]string, error) {
	if v.Kind != yaml.SequenceNode {
		return nil, r.wrong(v, keyEndpoints, "a list")
	}
	var all []string
	for _, item := range v.Content {
		text, err := r.text(item, "an endpoint")
		if err != nil {
			return nil, err
		}
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, r.at(item, "%v", err).WithFix("%s", fault.Fix(err))
		}
		all = append(all, e)
	}
	return all, nil
}

// mapping calls each for every key and value. Nothing at all is an empty mapping: people leave a key behind whose
// values they took away.
func (r yamlReader) mapping(v *yaml.Node, what string, each func(key, value *yaml.Node) error) error {
	if v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null" {
		return nil
	}
	if v.Kind != yaml.MappingNode {
		return r.wrong(v, what, "a mapping")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(v.Content); i += 2 {
		k, value := v.Content[i], v.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return r.at(k, "a key of %s is no word", what)
		}
		if seen[k.Value] {
			return r.at(k, "%q is there twice", k.Value)
		}
		seen[k.Value] = true
		if err := each(k, value); err != nil {
			return err
		}
	}
	return nil
}

func (r yamlReader) text(v *yaml.Node, what string) (string, error) {
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!str" {
		return "", r.wrong(v, what, "a text")
	}
	return v.Value, nil
}

func (r yamlReader) number(v *yaml.Node, what string) (*int, error) {
	n, err := strconv.Atoi(v.Value)
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!int" || err != nil || n < 0 {
		return nil, r.wrong(v, what, "a whole number")
	}
	return &n, nil
}

func (r yamlReader) unknown(key *yaml.Node, known ...string) error {
	err := r.at(key, "unknown key %q", key.Value)
	if best := closest(key.Value, known); best != "" {
		return err.WithFix("did you mean %q?", best)
	}
	return err.WithFix("there are %s", strings.Join(known, ", "))
}

// kind is what a node is, in words.
func kind(v *yaml.Node) string {
	switch v.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias, which this file may not have"
	}
	switch v.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return "a text"
	}
	return fmt.Sprintf("%q", v.Value)
}

func (r yamlReader) wrong(v *yaml.Node, what, want string) error {
	return r.at(v, "%s is %s, and must be %s", what, kind(v), want)
}

func (r yamlReader) at(v *yaml.Node, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "%s:%d:%d: %s", r.file, v.Line, v.Column, fmt.Sprintf(format, args...))
}

// put writes a context into the document: what is said of it, and nothing else of what is there.
func (d *document) put(c namedContext) {
	all := child(d.top(), keyContexts)
	entry := child(all, c.Name)
	if len(c.Endpoints) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, e := range c.Endpoints {
			list.Content = append(list.Content, textNode(e))
		}
		setKey(entry, keyEndpoints, list)
	}
	if c.Credentials != "" {
		setKey(entry, keyCredentials, textNode(c.Credentials))
	}
	if c.ConfirmAbove != nil {
		setKey(entry, keyConfirmAbove, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(*c.ConfirmAbove)})
	}
	if c.Output != "" {
		setKey(entry, keyOutput, textNode(c.Output))
	}
}

// use writes which context is the current one; with "" there is none.
func (d *document) use(name string) {
	if name == "" {
		dropKey(d.top(), keyCurrent)
		return
	}
	setKey(d.top(), keyCurrent, textNode(name))
}

// drop takes a context out of the document.
func (d *document) drop(name string) { dropKey(child(d.top(), keyContexts), name) }

// textNode is a text, in quotation marks where YAML would take it for something else.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// child is the mapping below a key, which is made if it is not there.
func child(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key && m.Content[i+1].Kind == yaml.MappingNode {
			return m.Content[i+1]
		}
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	setKey(m, key, n)
	return n
}

func setKey(m *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content[i+1] = value
			return
		}
	}
	m.Content = append(m.Content, textNode(key), value)
}

func dropKey(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}
