package cli

import (
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func groupName(s string) (string, error) { return catalog.ParseName[string]("group", s) }

// regrouped puts nodes into a group, or takes them out of it; nil if all are where they should be.
func regrouped(nodes []api.NodeView, group string, in bool) (catalog.Change, error) {
	var sets groupedNodes
	for _, v := range nodes {
		own := slices.Clone(v.Settings.Groups)
		own = slices.DeleteFunc(own, func(g string) bool { return g == group || g == "~"+group })
		inherited := slices.Contains(effective(v).Groups, group) && !slices.Contains(v.Settings.Groups, group) ||
			slices.Contains(v.Settings.Groups, "~"+group)
		switch {
		case in && !inherited:
			own = append(own, group)
		case !in && inherited:
			own = append(own, "~"+group)
		}
		if slices.Equal(own, v.Settings.Groups) {
			continue
		}
		if len(own) == 0 {
			sets.add(v.Name, nil, catalog.Settings{}, []string{"groups"}, catalog.Settings{})
		} else {
			sets.add(v.Name, nil, catalog.Settings{Groups: own}, nil, catalog.Settings{})
		}
	}
	if len(sets.all) == 0 {
		return nil, nil
	}
	var b batch
	for _, g := range sets.all {
		b.add(catalog.SetNodes{Nodes: g.nodes, Set: g.set, Unset: g.unset})
	}
	return catalog.Batch{Changes: b.steps}, nil
}
