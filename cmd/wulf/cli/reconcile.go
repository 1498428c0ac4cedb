package cli

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// present is what is declared in the cluster now, as far as a reconciliation is about it.
type present struct {
	revision catalog.Revision
	networks map[string]catalog.Network
	profiles map[string]catalog.Profile
	nodes    map[string]catalog.Node
}

// reconcile makes the changes that lead from what is there to what files declare: each thing that is declared becomes
// as it is declared; with prune the rest of what is there goes. It returns nil if there is nothing to do.
//
// The changes hold what differs, and say it once for all nodes that it is the same for.
func reconcile(now present, want *declared, prune bool) (catalog.Change, error) {
	var b batch
	if err := b.networks(now, want); err != nil {
		return nil, err
	}
	if err := b.profiles(now, want); err != nil {
		return nil, err
	}
	if prune { // addresses are free before others take them
		b.deleteNodes(now, want)
	}
	b.nodes(now, want)
	if prune {
		b.deleteRest(now, want)
	}
	if len(b.steps) == 0 {
		return nil, nil
	}
	return catalog.Batch{Changes: b.steps}, nil
}

// batch gathers changes.
type batch struct{ steps []catalog.Step }

func (b *batch) add(change catalog.Change) { b.steps = append(b.steps, catalog.Step{Change: change}) }

func (b *batch) networks(now present, want *declared) error {
	for _, name := range sortedKeys(want.Networks) {
		n := want.Networks[name].Network
		old, ok := now.networks[name]
		switch {
		case !ok:
			b.add(catalog.AddNetwork{Network: n})
		case !equalJSON(withDefaults(old), withDefaults(n)):
			b.add(catalog.SetNetwork{Network: n})
		}
	}
	return nil
}

func withDefaults(n catalog.Network) catalog.Network {
	if n.DHCP == "" {
		n.DHCP = catalog.DHCPAuthoritative
	}
	if n.Secrets == "" {
		n.Secrets = catalog.SecretsRelay
	}
	n.SSHAuthority = "" // a controller puts it
	return n
}

func equalJSON(a, b any) bool {
	x, err := json.Marshal(a)
	if err != nil {
		return false
	}
	y, err := json.Marshal(b)
	return err == nil && string(x) == string(y)
}

// profiles come in an order in which each stands after those that it builds on.
func (b *batch) profiles(now present, want *declared) error {
	order, err := inOrder(want.Profiles)
	if err != nil {
		return err
	}
	for _, name := range order {
		doc := want.Profiles[name]
		if len(doc.Compute) > 0 {
			return fault.New(fault.Invalid, "profile %s computes settings, which only nodes can", name)
		}
		list := profilesOf(doc)
		old, ok := now.profiles[name]
		if !ok {
			b.add(catalog.AddProfile{Profile: catalog.Profile{Name: catalog.ProfileName(name), Profiles: list, Settings: doc.Settings}})
			continue
		}
		change := catalog.SetProfiles{Names: []catalog.ProfileName{old.Name}}
		change.Set, change.Unset = catalog.Difference(old.Settings, doc.Settings)
		if !slices.Equal(old.Profiles, list) {
			change.Profiles = &list
		}
		if change.Profiles != nil || len(change.Unset)+len(change.Set.Decided()) > 0 {
			b.add(change)
		}
	}
	return nil
}

// profilesOf are the profiles that a profile builds on. None is a list with nothing in it: that also travels.
func profilesOf(doc nodeDoc) []catalog.ProfileName {
	if doc.Profiles == nil {
		return []catalog.ProfileName{}
	}
	return *doc.Profiles
}

// nodeProfiles are the profiles of a node: of one that names none, the default one, whether the node is new or not.
func nodeProfiles(doc nodeDoc) []catalog.ProfileName {
	if doc.Profiles == nil {
		return []catalog.ProfileName{catalog.DefaultProfile}
	}
	return *doc.Profiles
}

// inOrder sorts profiles so that each comes after those that it builds on.
func inOrder(all map[string]nodeDoc) ([]string, error) {
	var order []string
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(name string) error
	visit = func(name string) error {
		doc, ok := all[name]
		if !ok || state[name] == 2 {
			return nil
		}
		if state[name] == 1 {
			return fault.New(fault.Invalid, "profile %s would be built on itself", name).WithFix("take the profile out of the circle")
		}
		state[name] = 1
		for _, base := range profilesOf(doc) {
			if err := visit(string(base)); err != nil {
				return err
			}
		}
		state[name] = 2
		order = append(order, name)
		return nil
	}
	for _, name := range sortedKeys(all) {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// nodes that are alike are made and changed together; what each has for itself, such as addresses, is beside it.
func (b *batch) nodes(now present, want *declared) {
	var adds, sets groupedNodes
	moved := catalog.SetNodes{Each: map[catalog.NodeName]catalog.Settings{}} // addresses last and at once, so that nodes may exchange them
	for _, name := range sortedKeys(want.Nodes) {
		doc, node := want.Nodes[name], catalog.NodeName(name)
		old, ok := now.nodes[name]
		if !ok {
			common, own := apart(doc.Settings)
			adds.add(node, doc.Profiles, common, nil, own)
			continue
		}
		set, unset := catalog.Difference(old.Settings, doc.Settings)
		common, own := apart(set)
		var list *[]catalog.ProfileName
		if declared := nodeProfiles(doc); !slices.Equal(old.Profiles, declared) {
			list = &declared
		}
		if list != nil || len(unset)+len(common.Decided()) > 0 {
			sets.add(node, list, common, unset, catalog.Settings{})
		}
		if len(own.Decided()) > 0 {
			moved.Nodes, moved.Each[node] = append(moved.Nodes, node), own
		}
	}
	for _, g := range sets.all {
		b.add(catalog.SetNodes{Nodes: g.nodes, Profiles: g.profiles, Set: g.set, Unset: g.unset})
	}
	if len(moved.Nodes) > 0 {
		b.add(moved)
	}
	for _, g := range adds.all {
		b.add(catalog.AddNodes{Names: g.nodes, Profiles: g.profiles, Set: g.set, Each: g.each})
	}
}

func (b *batch) deleteNodes(now present, want *declared) {
	var gone catalog.NodeSet
	for _, name := range sortedKeys(now.nodes) {
		if _, ok := want.Nodes[name]; !ok {
			gone = append(gone, catalog.NodeName(name))
		}
	}
	if len(gone) > 0 {
		b.add(catalog.DeleteNodes{Nodes: gone})
	}
}

// deleteRest deletes profiles and networks that are not declared, those first that build on others. The default profile
// stays: nodes are given it.
func (b *batch) deleteRest(now present, want *declared) {
	left := map[string]nodeDoc{}
	for name, v := range now.profiles {
		if _, ok := want.Profiles[name]; !ok && v.Name != catalog.DefaultProfile {
			left[name] = nodeDoc{Profiles: &v.Profiles}
		}
	}
	order, _ := inOrder(left) // what is there has no circle
	for _, name := range slices.Backward(order) {
		b.add(catalog.DeleteProfile{Name: catalog.ProfileName(name)})
	}
	for _, name := range sortedKeys(now.networks) {
		if _, ok := want.Networks[name]; !ok {
			b.add(catalog.DeleteNetwork{Name: catalog.NetworkName(name)})
		}
	}
}

// groupedNodes gathers nodes that the same is done to.
type groupedNodes struct {
	all []*nodeGroup
	at  map[string]*nodeGroup
}

type nodeGroup struct {
	nodes    catalog.NodeSet
	profiles *[]catalog.ProfileName
	set      catalog.Settings
	unset    []string
	each     map[catalog.NodeName]catalog.Settings
}

func (g *groupedNodes) add(name catalog.NodeName, profiles *[]catalog.ProfileName, set catalog.Settings, unset []string, own catalog.Settings) {
	b, _ := json.Marshal(set) // it came from JSON
	key := fmt.Sprint(profiles != nil, profilesOf(nodeDoc{Profiles: profiles}), unset, string(b))
	v, ok := g.at[key]
	if !ok {
		if g.at == nil {
			g.at = map[string]*nodeGroup{}
		}
		v = &nodeGroup{profiles: profiles, set: set, unset: unset, each: map[catalog.NodeName]catalog.Settings{}}
		g.at[key] = v
		g.all = append(g.all, v)
	}
	v.nodes = append(v.nodes, name)
	if len(own.Decided()) > 0 {
		v.each[name] = own
	}
}

// apart takes what only one node can have out of settings.
func apart(s catalog.Settings) (common, own catalog.Settings) {
	common = s
	common.Nets = nil
	for name, d := range s.Nets {
		mine := catalog.NetDev{Hardware: d.Hardware, Address: d.Address, Address6: d.Address6}
		d.Hardware, d.Address, d.Address6 = nil, nil, nil
		if common.Nets == nil {
			common.Nets = map[string]catalog.NetDev{}
		}
		common.Nets[name] = d
		if mine.Hardware != nil || mine.Address != nil || mine.Address6 != nil {
			if own.Nets == nil {
				own.Nets = map[string]catalog.NetDev{}
			}
			own.Nets[name] = mine
		}
	}
	own.UUID, own.Asset, own.BMC.Address = s.UUID, s.Asset, s.BMC.Address
	common.UUID, common.Asset, common.BMC.Address = nil, nil, nil
	return common, own
}
