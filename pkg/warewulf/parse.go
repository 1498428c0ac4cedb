package warewulf

import (
	"cmp"
	"reflect"
	"slices"
)

// ParseNodes reads a nodes.conf of any version. What is no YAML, and values of a wrong kind, are fault.Invalid with
// line, column and the path of the key; all else that is strange is in the Hazards.
func ParseNodes(b []byte) (*Nodes, error) {
	n := &Nodes{}
	var err error
	if n.Hazards, err = parse(NodesFile, b, n, nil); err != nil {
		return nil, err
	}
	if n.Profiles == nil {
		n.Profiles = make(map[string]*Profile)
	}
	if n.Nodes == nil {
		n.Nodes = make(map[string]*Node)
	}
	return n, nil
}

// ParseConfig reads a warewulf.conf of any version, with the errors of ParseNodes.
func ParseConfig(b []byte) (*Config, error) {
	c := &Config{at: make(map[string]Position)}
	var err error
	if c.Hazards, err = parse(ConfigFile, b, c, c.at); err != nil {
		return nil, err
	}
	c.mounted()
	return c, nil
}

func parse(file string, b []byte, into any, at map[string]Position) ([]Hazard, error) {
	root, more, err := load(file, b)
	if err != nil {
		return nil, err
	}
	d := &decoder{hazards: hazards{file: file}, at: at}
	if root != nil {
		d.value(root, reflect.ValueOf(into).Elem(), "")
	}
	if more {
		d.add(SecondDocument, Warning, "---", Position{}, "the file has a second YAML document, which Warewulf does not read", "remove the line \"---\" between them, or what follows it")
	}
	if d.err != nil {
		return nil, d.err
	}
	slices.SortStableFunc(d.all, func(a, b Hazard) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.found(), nil
}

// read reads an old key's value into a variable of the types of this package.
func read[T any](d *decoder, v oldValue, into *T) {
	d.value(v.value, reflect.ValueOf(into).Elem(), v.path)
}
