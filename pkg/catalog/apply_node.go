package catalog

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// MaxProfiles bounds the profiles of one node or profile.
const MaxProfiles = 64

// MaxNodes bounds the nodes of a cluster: six times the largest that it is made for. More come of a slip in a range,
// and would fill the memory of every controller and relay.
const MaxNodes = 1 << 18

func (x AddNodes) apply(c *Catalog, e *Entry) error {
	if len(x.Nodes)+len(x.Names) == 0 {
		return fault.New(fault.Invalid, "no node is named")
	}
	if n := c.NodeCount() + len(x.Nodes) + len(x.Names); n > MaxNodes {
		return fault.New(fault.Invalid, "there would be %d nodes, more than %d", n, MaxNodes).WithFix("see whether the range is the one that is meant")
	}
	if err := checkEach(x.Names, x.Each); err != nil {
		return err
	}
	edit := c.editNodes()
	compute, err := edit.computing(x.Compute)
	if err != nil {
		return err
	}
	fresh := make([]*Node, 0, len(x.Nodes)+len(x.Names))
	for i := range x.Nodes {
		n := Node{Name: x.Nodes[i].Name, Profiles: x.Nodes[i].Profiles}
		if err := n.Settings.Patch(x.Nodes[i].Settings, nil); err != nil { // in the one form that settings are stored in
			return err
		}
		fresh = append(fresh, &n)
	}
	var alike Node
	if err := alike.Settings.Patch(x.Set, nil); err != nil {
		return err
	}
	if x.Profiles != nil {
		alike.Profiles = *x.Profiles
	}
	for _, name := range x.Names {
		n := alike
		n.Name = name
		if err := compute.apply(&n); err != nil {
			return err
		}
		if err := n.Settings.Patch(x.Each[name], nil); err != nil {
			return err
		}
		fresh = append(fresh, &n)
	}
	usual := []ProfileName{}
	if _, ok := c.Profile(DefaultProfile); ok {
		usual = []ProfileName{DefaultProfile}
	}
	for _, n := range fresh {
		if _, err := ParseName[NodeName]("node", string(n.Name)); err != nil {
			return err
		}
		if _, ok := edit.nodes.get(string(n.Name)); ok {
			return fault.New(fault.Conflict, "node %q exists already", n.Name).WithFix("change it with: wulf node set %s …", n.Name)
		}
		if n.Profiles == nil {
			n.Profiles = usual
		}
		n.Created = e.At
		edit.nodes.put(string(n.Name), n) // so that a name that comes twice is seen
	}
	if err := edit.finish(fresh, compute, everything); err != nil {
		return err
	}
	edit.commit()
	c.touch(fresh)
	return nil
}

func (x SetNodes) apply(c *Catalog, _ *Entry) error {
	if len(x.Nodes) == 0 {
		return fault.New(fault.Invalid, "no node is named")
	}
	if err := checkEach(x.Nodes, x.Each); err != nil {
		return err
	}
	scope, grows := x.scope(), holdsMany(reflect.ValueOf(&x.Set).Elem())
	if scope == common {
		what := "node " + string(x.Nodes[0])
		if len(x.Nodes) > 1 {
			what = fmt.Sprintf("%d nodes", len(x.Nodes))
		}
		if err := c.checkSettings(what, x.Set); err != nil {
			return err
		}
	}
	edit := c.editNodes()
	compute, err := edit.computing(x.Compute)
	if err != nil {
		return err
	}
	// All are taken out of the index first, so that two nodes may exchange their addresses in one change.
	fresh := make([]*Node, 0, len(x.Nodes))
	for _, name := range x.Nodes {
		old, ok := edit.nodes.get(string(name))
		if !ok {
			return c.noNode(name)
		}
		n := *old
		if x.Profiles != nil {
			n.Profiles = *x.Profiles
		}
		if err := n.Settings.Patch(x.Set, x.Unset); err != nil {
			return err
		}
		if err := compute.apply(&n); err != nil {
			return err
		}
		if each, ok := x.Each[name]; ok {
			if err := n.Settings.Patch(each, nil); err != nil {
				return err
			}
		}
		if scope == everything {
			edit.unindex(old)
		} else if grows {
			if err := n.Settings.checkSizes(); err != nil {
				return within("node "+string(name), err)
			}
		}
		fresh = append(fresh, &n)
	}
	if err := edit.finish(fresh, compute, scope); err != nil {
		return err
	}
	edit.commit()
	c.touch(fresh)
	return nil
}

// holdsMany tells whether settings have lists or maps, of which a node may get more and more. Single texts replace others.
func holdsMany(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() > 0
	}
	for i := range v.NumField() {
		if holdsMany(v.Field(i)) {
			return true
		}
	}
	return false
}

// scope says what of nodes a change may have made wrong: what it cannot have is not checked again, 40 000 times.
type scope int

const (
	common     scope = iota // only what is set for all alike, checked once
	everything              // addresses, networks, profiles: each node by itself
)

func (x SetNodes) scope() scope {
	s := x.Set
	local := x.Profiles != nil || len(x.Each) > 0 || len(x.Compute) > 0 || len(s.Nets) > 0 || len(s.Disks) > 0 || s.BMC.Address != nil || s.UUID != nil || len(s.Without) > 0
	if local || slices.ContainsFunc(x.Unset, func(path string) bool {
		top, _, _ := strings.Cut(path, ".")
		return slices.Contains([]string{"nets", "bmc", "uuid", "without"}, top)
	}) {
		return everything
	}
	return common
}

// finish finds what is still to be found for nodes, checks and stores them. They must not be in the index.
func (x *nodeEdit) finish(fresh []*Node, compute *computing, s scope) error {
	if s == everything {
		for _, n := range fresh {
			if err := x.claim(n); err != nil {
				return err
			}
		}
		if len(compute.paths) > len(compute.value) {
			for _, n := range fresh {
				x.unindex(n)
				if err := compute.allocate(n); err != nil {
					return err
				}
				if err := x.claim(n); err != nil {
					return err
				}
			}
		}
		for _, n := range fresh {
			if err := x.c.checkNode(n); err != nil {
				return err
			}
		}
	}
	for _, n := range fresh {
		x.nodes.put(string(n.Name), n)
	}
	return nil
}

func (c *Catalog) checkNode(n *Node) error {
	what := "node " + string(n.Name)
	if err := c.checkProfiles(what, n.Profiles); err != nil {
		return err
	}
	if err := c.checkSettings(what, n.Settings); err != nil {
		return err
	}
	return c.checkNets(n)
}

// checkEach refuses settings for nodes that the change does not name: somebody meant something else.
func checkEach(nodes NodeSet, each map[NodeName]Settings) error {
	if len(each) == 0 {
		return nil
	}
	named := make(map[NodeName]bool, len(nodes))
	for _, name := range nodes {
		named[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(each)) {
		if !named[name] {
			return fault.New(fault.Invalid, "there are settings for node %q, which is not among those to change", clip(string(name)))
		}
	}
	return nil
}

func (x DeleteNodes) apply(c *Catalog, _ *Entry) error {
	if len(x.Nodes) == 0 {
		return fault.New(fault.Invalid, "no node is named")
	}
	edit := c.editNodes()
	gone := make([]*Node, 0, len(x.Nodes))
	for _, name := range x.Nodes {
		old, ok := edit.nodes.get(string(name))
		if !ok {
			return c.noNode(name)
		}
		edit.unindex(old)
		edit.nodes.delete(string(name))
		gone = append(gone, old)
	}
	edit.commit()
	c.touch(gone)
	return nil
}

func (x SyncNodes) apply(c *Catalog, e *Entry) error {
	if len(x.Nodes) == 0 {
		return fault.New(fault.Invalid, "no node is named")
	}
	edit := c.editNodes()
	for _, name := range x.Nodes {
		old, ok := edit.nodes.get(string(name))
		if !ok {
			return c.noNode(name)
		}
		n := *old
		n.Synced = e.At
		edit.nodes.put(string(name), &n)
		c.touched.asked = append(c.touched.asked, name)
	}
	edit.commit()
	return nil
}

func (c *Catalog) noNode(name NodeName) error {
	return notFound("node", string(name), func(yield func(string) bool) {
		for n := range c.Nodes() {
			if !yield(string(n.Name)) {
				return
			}
		}
	})
}
