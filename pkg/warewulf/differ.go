package warewulf

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Difference is a value that two nodes do not have in common. "" is none.
type Difference struct {
	Path          string // of the key: "kernel.args", "network devices.default.ipaddr"
	Before, After string
}

// Differ tells in which values a merged node differs from another, in the order of their paths. What Warewulf takes for the
// same is the same: true and yes, a hardware address in large letters and in small ones.
func Differ(before, after Merged) ([]Difference, error) {
	a, err := values(before)
	if err != nil {
		return nil, err
	}
	b, err := values(after)
	if err != nil {
		return nil, err
	}
	var all []Difference
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if a[path] != b[path] {
			all = append(all, Difference{path, a[path], b[path]})
		}
		delete(b, path)
	}
	for path, v := range b {
		if v != "" {
			all = append(all, Difference{Path: path, After: v})
		}
	}
	slices.SortFunc(all, func(x, y Difference) int { return strings.Compare(x.Path, y.Path) })
	return all, nil
}

// values are those of a node, by their paths. Lists are one value.
func values(m Merged) (map[string]string, error) {
	raw, err := json.Marshal(m.Node)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing a node as JSON")
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading a node's JSON")
	}
	out := map[string]string{}
	flatten(out, "", tree)
	for path, v := range out {
		switch key := path[strings.LastIndexByte(path, '.')+1:]; key {
		case "hwaddr":
			if mac, ok := parseMAC(v); ok {
				out[path] = mac
			}
		case "discoverable", "onboot", "write":
			if yes, known := parseBool(v); known {
				out[path] = fmt.Sprint(yes)
			}
		}
	}
	return out, nil
}

func flatten(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flatten(out, join(path, k), e)
		}
	case []any:
		raw, _ := json.Marshal(v) // it was JSON
		out[path] = string(raw)
	case nil:
		out[path] = ""
	default:
		out[path] = fmt.Sprint(v)
	}
}
