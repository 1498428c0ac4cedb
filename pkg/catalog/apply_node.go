package catalog

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// MaxProfiles bounds the profiles of one node or profile.
const MaxProfiles = 64

func (x AddNodes) apply(c *Catalog, e *Entry) error {
	if len(x.Nodes) == 0 {
		return fault.New(fault.Invalid, "no node is named")
	}
	edit := c.editNodes()
	for _, n := range x.Nodes {
		if _, err := ParseName[NodeName]("node", string(n.Name)); err != nil {
			return err
		}
		if _, ok := edit.nodes.get(string(n.Name)); ok {
			return fault.New(fault.Conflict, "node %q exists already", n.Name).WithFix("change it with: wulf node set %s …", n.Name)
		}
		n.Created = e.At
		if n.Profiles == nil {
			if _, ok := c.Profile(DefaultProfile); ok {
				n.Profiles = []ProfileName{DefaultProfile}
			}
		}
		if err := edit.put(&n); err != nil {
			return err
		}
	}
	edit.commit()
	return nil
}

func (x SetNodes) apply(c *Catalog, _ *Entry) error {
	if len(x.Nodes) == 0 {
		return fault.New(fault.Invalid, "no node is named")
	}
	if err := x.checkEach(); err != nil {
		return err
	}
	edit := c.editNodes()
	// All are taken out of the indexes first, so that two nodes may exchange their addresses in one change.
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
		if err := n.Settings.Patch(x.Each[name], nil); err != nil {
			return err
		}
		edit.unindex(old)
		fresh = append(fresh, &n)
	}
	for _, n := range fresh {
		if err := edit.put(n); err != nil {
			return err
		}
	}
	edit.commit()
	return nil
}

// checkEach refuses settings for nodes that the change does not name: somebody meant something else.
func (x SetNodes) checkEach() error {
	if len(x.Each) == 0 {
		return nil
	}
	named := make(map[NodeName]bool, len(x.Nodes))
	for _, name := range x.Nodes {
		named[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(x.Each)) {
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
	for _, name := range x.Nodes {
		old, ok := edit.nodes.get(string(name))
		if !ok {
			return c.noNode(name)
		}
		edit.unindex(old)
		edit.nodes.delete(string(name))
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

// nodeEdit changes many nodes and their indexes in one go.
type nodeEdit struct {
	c          *Catalog
	nodes      *tableTxn[*Node]
	byHardware *tableTxn[NodeName]
	byAddress  *tableTxn[NodeName]
}

func (c *Catalog) editNodes() *nodeEdit {
	return &nodeEdit{c: c, nodes: c.nodes.begin(), byHardware: c.byHardware.begin(), byAddress: c.byAddress.begin()}
}

func (x *nodeEdit) commit() {
	x.nodes.commit()
	x.byHardware.commit()
	x.byAddress.commit()
}

func (x *nodeEdit) unindex(n *Node) {
	for _, d := range n.Settings.Nets {
		if d.Hardware != nil {
			x.byHardware.delete(string(*d.Hardware))
		}
		if d.Address != nil {
			x.byAddress.delete(d.Address.String())
		}
	}
}

// put checks the node, stores it and indexes it; a node that it replaces must be unindexed before.
func (x *nodeEdit) put(n *Node) error {
	what := "node " + string(n.Name)
	if err := x.c.checkProfiles(what, n.Profiles); err != nil {
		return err
	}
	if err := x.c.checkSettings(what, n.Settings); err != nil {
		return err
	}
	if err := x.c.checkNets(n); err != nil {
		return err
	}
	for _, name := range sortedKeys(n.Settings.Nets) {
		d := n.Settings.Nets[name]
		if d.Hardware != nil {
			if other, ok := x.byHardware.get(string(*d.Hardware)); ok {
				return fault.New(fault.Conflict, "%s: hardware address %s belongs to node %s already", what, *d.Hardware, other).
					WithFix("free it with: wulf node set %s --unset nets.%s.hardware", other, name)
			}
			x.byHardware.put(string(*d.Hardware), n.Name)
		}
		if d.Address != nil {
			if other, ok := x.byAddress.get(d.Address.String()); ok {
				return fault.New(fault.Conflict, "%s: address %s belongs to node %s already", what, d.Address, other).
					WithFix("choose another address, or free it with: wulf node set %s --unset nets.%s.address", other, name)
			}
			if r, ok := x.c.relayAt(*d.Address); ok {
				return fault.New(fault.Conflict, "%s: address %s belongs to relay %s", what, d.Address, r).WithFix("choose another address")
			}
			x.byAddress.put(d.Address.String(), n.Name)
		}
	}
	x.nodes.put(string(n.Name), n)
	return nil
}

func (c *Catalog) relayAt(a netip.Addr) (RelayName, bool) {
	for r := range c.Relays() {
		if slices.Contains(r.Addresses, a) {
			return r.Name, true
		}
	}
	return "", false
}

func (x AddProfile) apply(c *Catalog, _ *Entry) error {
	p := x.Profile
	if _, err := ParseName[ProfileName]("profile", string(p.Name)); err != nil {
		return err
	}
	if _, ok := c.Profile(p.Name); ok {
		return fault.New(fault.Conflict, "profile %q exists already", p.Name).WithFix("change it with: wulf profile set %s …", p.Name)
	}
	return c.putProfile(&p)
}

func (x SetProfiles) apply(c *Catalog, _ *Entry) error {
	if len(x.Names) == 0 {
		return fault.New(fault.Invalid, "no profile is named")
	}
	for _, name := range x.Names {
		old, ok := c.Profile(name)
		if !ok {
			return c.noProfile(name)
		}
		p := *old
		if x.Profiles != nil {
			p.Profiles = *x.Profiles
		}
		if err := p.Settings.Patch(x.Set, x.Unset); err != nil {
			return err
		}
		if err := c.putProfile(&p); err != nil {
			return err
		}
	}
	// A profile may decide the network of a device whose address the node decides.
	for n := range c.Nodes() {
		if err := c.checkNets(n); err != nil {
			return err
		}
	}
	return nil
}

func (x DeleteProfile) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Profile(x.Name); !ok {
		return c.noProfile(x.Name)
	}
	users := usersOf(c, func(p []ProfileName, _ Settings) bool { return slices.Contains(p, x.Name) })
	if users != "" {
		return inUse("profile", string(x.Name), users)
	}
	c.profiles.delete(string(x.Name))
	return nil
}

func (c *Catalog) putProfile(p *Profile) error {
	what := "profile " + string(p.Name)
	if err := c.checkProfiles(what, p.Profiles); err != nil {
		return err
	}
	if err := c.checkSettings(what, p.Settings); err != nil {
		return err
	}
	for name, d := range p.Settings.Nets {
		if d.Hardware != nil || d.Address != nil {
			return fault.New(fault.Invalid, "%s: a profile cannot hold the address of device %s, which only one node can have", what, name).
				WithFix("set it on the node: wulf node set NODE --hwaddr … --ipaddr …")
		}
	}
	c.profiles.put(string(p.Name), p)
	if c.builtOn(p, p.Name, 0) {
		return fault.New(fault.Invalid, "%s would be built on itself", what).WithFix("take the profile out of the circle")
	}
	return nil
}

func (c *Catalog) builtOn(p *Profile, name ProfileName, depth int) bool {
	for _, base := range p.Profiles {
		if base == name || depth > MaxProfiles {
			return true
		}
		if b, ok := c.Profile(base); ok && c.builtOn(b, name, depth+1) {
			return true
		}
	}
	return false
}

func (c *Catalog) noProfile(name ProfileName) error {
	return notFound("profile", string(name), func(yield func(string) bool) {
		for p := range c.Profiles() {
			if !yield(string(p.Name)) {
				return
			}
		}
	})
}

func (x InitCluster) apply(c *Catalog, e *Entry) error {
	if c.Cluster.Name != "" {
		return fault.New(fault.Conflict, "the cluster %s exists already", c.Cluster.Name)
	}
	if _, err := ParseName[string]("cluster", x.Cluster.Name); err != nil {
		return err
	}
	c.Cluster = x.Cluster
	c.Cluster.Created = e.At.Truncate(time.Second)
	ctl := x.Controller
	ctl.Joined = e.At
	c.controllers.put(string(ctl.Name), &ctl)
	c.profiles.put(string(DefaultProfile), &Profile{Name: DefaultProfile})
	return nil
}
