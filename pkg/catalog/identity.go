package catalog

import (
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// identity is something that one node alone may have, and by which it is found: a hardware address, an IP address, a
// UUID.
type identity struct {
	key     string // in the index
	kind    string // for people
	net     string // network device that it is of; "" if it is of none
	setting string // that gives it, of the device or of the node
	address netip.Addr
	text    string // if it is no address
}

// String is the identity, for people.
func (id identity) String() string {
	if id.address.IsValid() {
		return id.kind + " " + id.address.String()
	}
	return id.kind + " " + id.text
}

// path is that of the setting.
func (id identity) path() string {
	if id.net != "" {
		return "nets." + id.net + "." + id.setting
	}
	return id.setting
}

func hardwareKey(hw HardwareAddr) string { return "h" + string(hw) }
func uuidKey(uuid string) string         { return "u" + uuid }

// addressKey is short, for there are three of them to a node and the index holds each.
func addressKey(a netip.Addr) string {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return "4" + string(b[:])
	}
	b := a.As16()
	return "6" + string(b[:])
}

// identities are all that a node declares itself. Profiles cannot, for they are for many.
func (n *Node) identities(yield func(identity) bool) {
	for _, name := range sortedKeys(n.Settings.Nets) { // in order: what is said of a conflict must not depend on chance
		d := n.Settings.Nets[name]
		if d.Hardware != nil && !yield(identity{key: hardwareKey(*d.Hardware), kind: "hardware address", net: name, setting: "hardware", text: string(*d.Hardware)}) {
			return
		}
		if d.Address != nil && !yield(identity{key: addressKey(*d.Address), kind: "address", net: name, setting: "address", address: *d.Address}) {
			return
		}
		if d.Address6 != nil && !yield(identity{key: addressKey(*d.Address6), kind: "address", net: name, setting: "address6", address: *d.Address6}) {
			return
		}
	}
	if a := n.Settings.BMC.Address; a != nil && !yield(identity{key: addressKey(*a), kind: "address", setting: "bmc.address", address: *a}) {
		return
	}
	if u := n.Settings.UUID; u != nil {
		yield(identity{key: uuidKey(*u), kind: "UUID", setting: "uuid", text: *u})
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

// pathOf is the setting by which another node has an identity: it may have it by another device.
func (x *nodeEdit) pathOf(name NodeName, wanted identity) string {
	if n, ok := x.nodes.get(string(name)); ok {
		for id := range n.identities {
			if id.key == wanted.key {
				return id.path()
			}
		}
	}
	return wanted.path()
}

// claim indexes a node, and refuses what another has already. Nodes that it replaces must be unindexed before.
func (x *nodeEdit) claim(n *Node) error {
	for id := range n.identities {
		if other, ok := x.index.get(id.key); ok {
			return fault.New(fault.Conflict, "node %s: %s belongs to node %s already", n.Name, id, other).
				WithFix("free it with: wulf node set %s --unset %s", other, x.pathOf(other, id))
		}
		if id.address.IsValid() {
			if r, ok := x.relayAt(id.address); ok {
				return fault.New(fault.Conflict, "node %s: %s belongs to relay %s", n.Name, id, r).WithFix("choose another address")
			}
		}
		x.index.put(id.key, n.Name)
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
