package warewulf

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of a file. Forty thousand nodes with two dozen keys each are within them.
const (
	MaxFile   = 16 << 20  // bytes
	maxDepth  = 64        // of what is nested; nodes.conf itself needs eight
	maxValues = 3_000_000 // values, those that aliases repeat counted each time
)

// depthLimit stops the parser before it recurses too far. Aliases are counted where they are followed.
type depthLimit struct{}

func (depthLimit) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	return nil
}

func (depthLimit) CheckAlias(int, int) error { return nil }

// load parses the first document of a file; nil is an empty one. More tells that another one follows, which Warewulf
// does not read.
func load(file string, b []byte) (root *yaml.Node, more bool, err error) {
	if len(b) > MaxFile {
		return nil, false, fault.New(fault.Invalid, "%s has %d bytes, more than %d", file, len(b), MaxFile).
			WithFix("is it the right file?")
	}
	if n := separators(b); n > maxValues {
		return nil, false, fault.New(fault.Invalid, "%s has more than %d values", file, maxValues).WithFix("is it the right file?")
	}
	l, err := yaml.NewLoader(bytes.NewReader(b), yaml.WithV3Defaults(), yaml.WithPlugin(depthLimit{}))
	if err != nil {
		return nil, false, fault.Wrap(fault.Internal, err, "reading YAML")
	}
	var doc yaml.Node
	switch err := l.Load(&doc); {
	case errors.Is(err, io.EOF):
		return nil, false, nil
	case err != nil:
		return nil, false, syntax(file, err)
	}
	if len(doc.Content) > 0 {
		root = doc.Content[0]
	}
	var next yaml.Node
	switch err := l.Load(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, false, syntax(file, err)
	default:
		more = true
	}
	return root, more, nil
}

// separators counts the bytes without which there is no further value, so that a file of nothing but brackets is
// refused before a tree is made of it.
func separators(b []byte) int {
	n := 0
	for i, c := range b {
		switch c {
		case '\n', ',', '[', '{':
			n++
		case ':', '-', '?':
			if i+1 < len(b) && (b[i+1] == ' ' || b[i+1] == '\n' || b[i+1] == '\t') {
				n++
			}
		}
	}
	return n
}

// syntax says where a file is no YAML.
func syntax(file string, err error) error {
	const fix = "it must be YAML: mind the indentation, use no tabs, put texts with ': ' or '#' in quotes"
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		return fault.New(fault.Invalid, "%s, line %d, column %d: %s", file, max(e.Mark.Line, 1), max(e.Mark.Column, 1), e.Message).WithFix(fix)
	}
	return fault.Wrap(fault.Invalid, err, "%s", file).WithFix(fix)
}

// where is the place of a value.
func where(n *yaml.Node) Position { return Position{n.Line, n.Column} }

// pair is a key of a mapping with its value.
type pair struct {
	name       string
	key, value *yaml.Node
}

// follow finds what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			return n
		}
		n = n.Alias
	}
	return n
}

// isNull tells whether nothing is said.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// pairs are the keys of a mapping in the order of the file, then those that "<<" brings from elsewhere. What is no
// mapping, and a key that is there twice, fail.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "keys with values")
		return nil
	}
	var own []pair
	var brought []*yaml.Node
	line := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := follow(n.Content[i]), n.Content[i+1]
		switch {
		case !d.count(v, path):
			return nil
		case k.Kind != yaml.ScalarNode:
			d.fail(k, path, "a key must be a text", "")
			return nil
		case k.ShortTag() == "!!merge":
			brought = append(brought, v)
			continue
		}
		if before, twice := line[k.Value]; twice {
			d.fail(k, join(path, k.Value), fmt.Sprintf("the key is here twice, before in line %d", before), "remove one of them")
			return nil
		}
		line[k.Value] = k.Line
		own = append(own, pair{k.Value, k, v})
	}
	for _, v := range brought {
		own = d.bring(own, line, v, path, 0)
	}
	return own
}

// bring adds the keys of a "<<" that are not there yet: a mapping, or a list of them of which the first wins.
func (d *decoder) bring(own []pair, line map[string]int, n *yaml.Node, path string, depth int) []pair {
	n = follow(n)
	if depth > maxDepth || !d.count(n, path) {
		d.fail(n, path, "an anchor contains itself", "")
		return own
	}
	if n.Kind == yaml.SequenceNode {
		for _, v := range n.Content {
			own = d.bring(own, line, v, path, depth+1)
		}
		return own
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "\"<<\" must bring keys with values", "")
		return own
	}
	var nested []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := follow(n.Content[i]), n.Content[i+1]
		if !d.count(v, path) {
			return own
		}
		if k.ShortTag() == "!!merge" {
			nested = append(nested, v)
		} else if _, there := line[k.Value]; !there && k.Kind == yaml.ScalarNode {
			line[k.Value] = k.Line
			own = append(own, pair{k.Value, k, v})
		}
	}
	for _, v := range nested {
		own = d.bring(own, line, v, path, depth+1)
	}
	return own
}

// join is the path of a key below another.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
