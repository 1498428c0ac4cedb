package cli

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// declared is what a file declares, in the form that people write: things by their names, and settings beside the list
// of profiles.
type declared struct {
	Networks map[string]networkDoc `json:"networks,omitempty"`
	Profiles map[string]nodeDoc    `json:"profiles,omitempty"`
	Nodes    map[string]nodeDoc    `json:"nodes,omitempty"` // by name, or by a set of names
}

// nodeDoc is a node or profile.
type nodeDoc struct {
	Profiles *[]catalog.ProfileName `json:"profiles,omitempty"` // none: the default one, for nodes
	Compute  map[string]string      `json:"compute,omitempty"`  // of nodes: settings by formula, as {nets.default.address: "10.1.{n1}.{n2}"}
	catalog.Settings
}

// networkDoc is a network without its name, which is its key.
type networkDoc struct {
	catalog.Network
}

// sections are the keys of a document; a document without any is a map of nodes, as wwctl exports them.
var sections = []string{"networks", "profiles", "nodes"}

// parseDeclared reads files of declarations; several documents add up.
func parseDeclared(file string, b []byte) (*declared, error) {
	nodes, err := yamlNodes(file, b)
	if err != nil {
		return nil, err
	}
	all := &declared{Networks: map[string]networkDoc{}, Profiles: map[string]nodeDoc{}, Nodes: map[string]nodeDoc{}}
	r := reader{file}
	for _, n := range nodes {
		var d declared
		if bare(n) {
			if best := closest(n.Content[0].Value, sections); best != "" && len(n.Content) == 2 {
				return nil, r.wrong(n.Content[0], "there is no key %q", clipped(n.Content[0].Value)).WithFix("did you mean %s?", best)
			}
			n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: "nodes"}, n}}
		}
		if err := r.into(n, wholeDocument, &d); err != nil {
			return nil, err
		}
		if err := all.add(file, &d); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func bare(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if slices.Contains(sections, n.Content[i].Value) {
			return false
		}
	}
	return true
}

// add takes another file's declarations in. What is declared twice is an error: one of the two would be lost.
func (d *declared) add(file string, other *declared) error {
	for name, v := range other.Networks {
		if _, twice := d.Networks[name]; twice {
			return declaredTwice(file, "network", name)
		}
		if v.Name != "" && v.Name != catalog.NetworkName(name) {
			return fault.New(fault.Invalid, "%s: network %s says that its name is %s", file, name, v.Name).WithFix("leave the name out: the key is the name")
		}
		if !v.Prefix.IsValid() {
			return fault.New(fault.Invalid, "%s: network %s has no prefix", file, clipped(name)).WithFix("such as prefix: 10.1.0.0/16")
		}
		v.Name = catalog.NetworkName(name)
		d.Networks[name] = v
	}
	for name, v := range other.Profiles {
		if _, twice := d.Profiles[name]; twice {
			return declaredTwice(file, "profile", name)
		}
		d.Profiles[name] = v
	}
	for set, v := range other.Nodes {
		names, err := newNames([]string{set})
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "%s: nodes", file)
		}
		if n := len(d.Nodes) + len(names); n > catalog.MaxNodes { // before anything is worked out for each
			return fault.New(fault.Invalid, "%s: there would be %d nodes, more than %d", file, n, catalog.MaxNodes).WithFix("see whether the range is the one that is meant")
		}
		for _, name := range names {
			if _, twice := d.Nodes[name]; twice {
				return declaredTwice(file, "node", name)
			}
			own := v
			if len(v.Compute) > 0 {
				if own.Settings, err = computed(name, v); err != nil {
					return fault.Wrap(fault.Invalid, err, "%s: node %s", file, name)
				}
				own.Compute = nil
			}
			if own.UUID != nil {
				u, err := catalog.ParseUUID(*own.UUID)
				if err != nil {
					return fault.Wrap(fault.Invalid, err, "%s: node %s", file, name)
				}
				own.UUID = &u
			}
			d.Nodes[name] = own
		}
	}
	return nil
}

func declaredTwice(file, what, name string) error {
	return fault.New(fault.Invalid, "%s: %s %s is declared twice", file, what, name)
}

// computed are a node's settings with what its document computes.
func computed(name string, v nodeDoc) (catalog.Settings, error) {
	s := v.Settings
	for _, path := range sortedKeys(v.Compute) {
		f, err := nodeset.ParseFormula(v.Compute[path])
		if err != nil {
			return s, err
		}
		text, err := f.Eval(name)
		if err != nil {
			return s, err
		}
		one, err := catalog.ParseSetting(path, text)
		if err != nil {
			return s, err
		}
		if err := s.Patch(one, nil); err != nil {
			return s, err
		}
	}
	return s, nil
}

// nodesDeclared are nodes in the form in which files declare them.
func nodesDeclared(all []catalog.Node) declared {
	d := declared{Nodes: make(map[string]nodeDoc, len(all))}
	for _, n := range all {
		list := n.Profiles
		if list == nil {
			list = []catalog.ProfileName{}
		}
		d.Nodes[string(n.Name)] = nodeDoc{Profiles: &list, Settings: n.Settings}
	}
	return d
}

// parseCSV reads a table whose heading names columns: name, profiles, a flag of wulf node set, or the path of a setting.
// A cell without anything changes nothing.
func parseCSV(file string, b []byte) (map[string]nodeDoc, error) {
	rows := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(b), "\ufeff"))) // spreadsheets begin with a byte order mark
	rows.TrimLeadingSpace = true
	rows.Comment = '#'
	head, err := rows.Read()
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return nil, fault.New(fault.Invalid, "%s:%d: %v", file, e.Line, e.Err)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s has no heading", file).WithFix("begin with a line such as name,hwaddr,ipaddr")
	}
	paths, err := csvColumns(file+":1", head)
	if err != nil {
		return nil, err
	}
	out := map[string]nodeDoc{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if e, ok := errors.AsType[*csv.ParseError](err); ok {
			return nil, fault.New(fault.Invalid, "%s:%d: %v", file, e.Line, e.Err).WithFix("each line has as many cells as the first")
		}
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "%s", file)
		}
		line, _ := rows.FieldPos(0)
		doc, name := nodeDoc{}, ""
		for i, cell := range row {
			if cell = asText(strings.TrimSpace(cell)); cell == "" || paths[i] == "" {
				continue
			}
			switch paths[i] {
			case "name":
				name = cell
			case "profiles":
				var list []catalog.ProfileName
				for _, p := range strings.FieldsFunc(cell, func(r rune) bool { return r == ' ' || r == ';' || r == ',' }) {
					list = append(list, catalog.ProfileName(p))
				}
				doc.Profiles = &list
			default:
				s, err := catalog.ParseSetting(paths[i], cell)
				if err != nil {
					return nil, fault.Wrap(fault.Invalid, err, "%s:%d: column %s", file, line, head[i])
				}
				if err := doc.Patch(s, nil); err != nil {
					return nil, fault.Wrap(fault.Invalid, err, "%s:%d: column %s", file, line, head[i])
				}
			}
		}
		if _, err := catalog.ParseName[catalog.NodeName]("node", name); err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "%s:%d", file, line)
		}
		if _, twice := out[name]; twice {
			return nil, fault.New(fault.Invalid, "%s:%d: node %s stands there twice", file, line, name)
		}
		out[name] = doc
	}
}

// csvColumns are the paths that the columns set; "" for those that only tell, such as a node's state.
func csvColumns(where string, head []string) ([]string, error) {
	known := map[string]string{"name": "name", "node": "name", "profiles": "profiles", "profile": "profiles", "mac": "nets.default.hardware", "ip": "nets.default.address",
		"hardware": "nets.default.hardware", "address": "nets.default.address", "state": "", "since": "", "relay": "", "boot-revision": "", "created": ""}
	for _, s := range settings() {
		path := strings.Replace(s.path, "NET", defaultNet, 1)
		if !strings.Contains(path, "DISK") && !strings.Contains(path, "FS.") {
			known[s.flag] = path
		}
	}
	paths := make([]string, len(head))
	named := false
	for i, h := range head {
		h = strings.TrimSpace(h)
		path, ok := known[strings.ToLower(h)]
		if !ok {
			if !catalog.IsPath(h) {
				err := fault.New(fault.Invalid, "%s: there is no column %q", where, clipped(h))
				if strings.ContainsAny(h, ";\t") {
					return nil, err.WithFix("put commas between columns")
				}
				if best := closest(h, slices.Sorted(maps.Keys(known))); best != "" {
					return nil, err.WithFix("did you mean %s?", best)
				}
				return nil, err.WithFix("columns are name, profiles, flags of wulf node set, and paths of settings")
			}
			path = h
		}
		if path != "" && slices.Contains(paths[:i], path) {
			return nil, fault.New(fault.Invalid, "%s: two columns set %s", where, path)
		}
		paths[i], named = path, named || path == "name"
	}
	if !named {
		return nil, fault.New(fault.Invalid, "%s: there is no column name", where)
	}
	return paths, nil
}

// document is a value as the YAML that readers of documents take.
func (d declared) yaml() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("writing declarations: %w", err)
	}
	var out strings.Builder
	if err := writeYAML(&out, json.RawMessage(b)); err != nil {
		return nil, err
	}
	return []byte(out.String()), nil
}
