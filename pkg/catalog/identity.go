package catalog

import (
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// identity is something that one node alone may have, and by which it is found: a hardware address, an IP address, a
// UUID.
type identity struct {
	key  string // in the index
	what string // for people
	path string // of the setting that gives it
}

func hardwareKey(hw HardwareAddr) string { return "hw " + string(hw) }
func addressKey(a netip.Addr) string     { return "ip " + a.String() }
func uuidKey(uuid string) string         { return "id " + uuid }

// identities are all that a node declares itself. Profiles cannot, for they are for many.
func (n *Node) identities(yield func(identity) bool) {
	for _, name := range sortedKeys(n.Settings.Nets) { // in order: what is said of a conflict must not depend on chance
		d := n.Settings.Nets[name]
		if d.Hardware != nil && !yield(identity{hardwareKey(*d.Hardware), "hardware address " + string(*d.Hardware), "nets." + name + ".hardware"}) {
			return
		}
		if d.Address != nil && !yield(identity{addressKey(*d.Address), "address " + d.Address.String(), "nets." + name + ".address"}) {
			return
		}
		if d.Address6 != nil && !yield(identity{addressKey(*d.Address6), "address " + d.Address6.String(), "nets." + name + ".address6"}) {
			return
		}
	}
	if a := n.Settings.BMC.Address; a != nil && !yield(identity{addressKey(*a), "address " + a.String(), "bmc.address"}) {
		return
	}
	if u := n.Settings.UUID; u != nil {
		yield(identity{uuidKey(*u), "UUID " + *u, "uuid"})
	}
}

// NodeByHardware returns the node that declares the hardware address.
func (c *Catalog) NodeByHardware(hw HardwareAddr) (*Node, bool) { return c.nodeBy(hardwareKey(hw)) }

// NodeByAddress returns the node that declares the IP address, for itself or for its BMC.
func (c *Catalog) NodeByAddress(a netip.Addr) (*Node, bool) { return c.nodeBy(addressKey(a)) }

// NodeByUUID returns the node that declares the UUID, which is written as ParseUUID does.
func (c *Catalog) NodeByUUID(uuid string) (*Node, bool) { return c.nodeBy(uuidKey(uuid)) }

func (c *Catalog) nodeBy(key string) (*Node, bool) {
	name, ok := c.index.get(key)
	if !ok {
		return nil, false
	}
	return c.Node(name)
}

// nodeEdit changes many nodes and their index in one go.
type nodeEdit struct {
	c      *Catalog
	nodes  *tableTxn[*Node]
	index  *tableTxn[NodeName]
	relays map[netip.Addr]RelayName // nil: not needed yet
}

func (c *Catalog) editNodes() *nodeEdit {
	return &nodeEdit{c: c, nodes: c.nodes.begin(), index: c.index.begin()}
}

func (x *nodeEdit) commit() {
	x.nodes.commit()
	x.index.commit()
}

// store puts a node that was checked before.
func (x *nodeEdit) store(n *Node) {
	x.nodes.put(string(n.Name), n)
	for id := range n.identities {
		x.index.put(id.key, n.Name)
	}
}

func (x *nodeEdit) unindex(n *Node) {
	for id := range n.identities {
		x.index.delete(id.key)
	}
}

// claim indexes a node, and refuses what another has already. Nodes that it replaces must be unindexed before.
func (x *nodeEdit) claim(n *Node) error {
	for id := range n.identities {
		if other, ok := x.index.get(id.key); ok {
			return fault.New(fault.Conflict, "node %s: %s belongs to node %s already", n.Name, id.what, other).
				WithFix("free it with: wulf node set %s --unset %s", other, id.path)
		}
		x.index.put(id.key, n.Name)
	}
	for _, d := range n.Settings.Nets {
		if d.Address == nil {
			continue
		}
		if r, ok := x.relayAt(*d.Address); ok {
			return fault.New(fault.Conflict, "node %s: address %s belongs to relay %s", n.Name, d.Address, r).WithFix("choose another address")
		}
	}
	return nil
}

// taken tells whether a node or relay has the address.
func (x *nodeEdit) taken(a netip.Addr) bool {
	if _, ok := x.index.get(addressKey(a)); ok {
		return true
	}
	_, ok := x.relayAt(a)
	return ok
}

func (x *nodeEdit) relayAt(a netip.Addr) (RelayName, bool) {
	if x.relays == nil {
		x.relays = map[netip.Addr]RelayName{}
		for r := range x.c.Relays() {
			for _, a := range r.Addresses {
				x.relays[a] = r.Name
			}
		}
	}
	name, ok := x.relays[a]
	return name, ok
}
