package catalog

import (
	"encoding/json"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// NodeSet is a list of nodes, each once, which travels folded: r[01-40]n[1-48] instead of 1 920 names.
type NodeSet []NodeName

// NodeSetOf is the set of the names, in the order of nodeset.Compare, each once.
func NodeSetOf(names ...NodeName) NodeSet {
	out := slices.Clone(NodeSet(names))
	compare := func(a, b NodeName) int { return nodeset.Compare(string(a), string(b)) }
	if !slices.IsSortedFunc(out, compare) { // sets mostly come in order
		slices.SortFunc(out, compare)
	}
	return slices.Compact(out)
}

// String is the set, folded.
func (s NodeSet) String() string { return nodeset.Fold(s.texts()) }

func (s NodeSet) texts() []string {
	all := make([]string, len(s))
	for i, n := range s {
		all[i] = string(n)
	}
	return all
}

func fold(names []string) string { return nodeset.Fold(names) }

// MarshalJSON writes the set, folded. Where something in it is no name, it writes the list as it is: folded it might read
// as other names, or not at all, and an entry that cannot be read stops every controller.
func (s NodeSet) MarshalJSON() ([]byte, error) {
	for _, n := range s {
		if !nodeset.IsName(string(n)) {
			return json.Marshal([]NodeName(s))
		}
	}
	return json.Marshal(s.String())
}

// UnmarshalJSON reads a folded set, or a list of names as entries of format 1 have it. Groups and files say nothing
// here: whoever asks for a change says whom it is about.
func (s *NodeSet) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var names []NodeName
		if err := json.Unmarshal(b, &names); err != nil {
			return err
		}
		*s = NodeSetOf(names...)
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fault.Wrap(fault.Invalid, err, "a set of nodes is text, such as n[1-48]")
	}
	*s = nil
	if text == "" {
		return nil
	}
	set, err := nodeset.Parse(text)
	if err != nil {
		return err
	}
	*s = make(NodeSet, 0, set.Len())
	for name := range set.All() {
		*s = append(*s, NodeName(name))
	}
	return nil
}
