package dhcp6d

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// seat is what is known of a machine in a network.
type seat struct {
	hw   catalog.HardwareAddr
	net  *catalog.Network
	plan boot.Plan
	rank int        // of this relay in the machine's order
	me   netip.Addr // where the machine reaches this relay by IPv6; invalid: nowhere
	file string     // the URL where the firmware goes on; "" if it has nowhere to go
}

// served are the networks in which this relay gives IPv6 addresses.
func served(c *catalog.Catalog, relay catalog.RelayName) []*catalog.Network {
	r, ok := c.Relay(relay)
	if !ok {
		return nil
	}
	var all []*catalog.Network
	for _, name := range r.Networks {
		if n, ok := c.Network(name); ok && n.Boots6() {
			all = append(all, n)
		}
	}
	return all
}

// networksOf leaves the networks that a packet may be from.
func networksOf(all []*catalog.Network, q *query, l *Link) []*catalog.Network {
	at := q.link()
	return slices.DeleteFunc(all, func(n *catalog.Network) bool {
		if at.IsValid() {
			return !n.Prefix6.Contains(at)
		}
		return !slices.ContainsFunc(l.Addrs, n.Holds)
	})
}

// sit finds the network in which a client asks, and what the plan for it is there; nil means that it is none of ours.
// Several networks on one interface: the machine is where it has an address.
func (s *Server) sit(q *query, l *Link) *seat {
	c := s.cfg.Catalog()
	var best *seat
	for _, n := range networksOf(served(c, s.cfg.Relay), q, l) {
		hw, ok := identify(c, q, n)
		if !ok {
			continue
		}
		t := s.seat(hw, n, q, l)
		if t == nil {
			continue
		}
		if best == nil || t.homely() > best.homely() {
			best = t
		}
	}
	return best
}

// homely is how much a machine is at home in the network: where its address is declared, where its node is not declared
// elsewhere, where it has an address.
func (t *seat) homely() int {
	switch {
	case t.plan.Known() && t.plan.Address6.IsValid() && t.plan.Address6 != t.net.Derived6(t.hw):
		return 3
	case t.plan.Known() && fault.KindOf(t.plan.Problem) != fault.Conflict:
		return 2
	case t.plan.Address6.IsValid():
		return 1
	}
	return 0
}

func (s *Server) seat(hw catalog.HardwareAddr, n *catalog.Network, q *query, l *Link) *seat {
	plan, err := s.cfg.Planner.Plan(boot.Request{Hardware: hw, Firmware: q.firmware, Network: n.Name, Relay: s.cfg.Relay})
	if err != nil {
		return nil
	}
	rank := plan.Rank(s.cfg.Relay)
	if rank < 0 {
		return nil
	}
	t := &seat{hw: hw, net: n, plan: plan, rank: rank, me: l.reached(n)}
	if !t.me.IsValid() {
		return t
	}
	web := "http://" + netip.AddrPortFrom(t.me, plan.Relays[rank].BootPort).String()
	switch {
	case q.firmware == boot.FirmwareNone:
	case q.firmware == boot.FirmwareIPXE:
		t.file = web + api.ScriptPath(string(hw))
	case plan.Loader == "" || !s.cfg.HasLoader(plan.Loader):
	case q.firmware == boot.FirmwareHTTP64, q.firmware == boot.FirmwareHTTPArm64:
		t.file = web + api.LoaderPath(plan.Loader)
	default:
		t.file = "tftp://[" + t.me.String() + "]/" + plan.Loader
	}
	return t
}

// reached is where machines of a network reach this relay: its address in the network itself, or else any that can be
// reached through routers. A link-local one would do for a packet or two, but no URL can say of which link it is.
func (l *Link) reached(n *catalog.Network) netip.Addr {
	var any netip.Addr
	for _, a := range l.Addrs {
		switch {
		case n.Prefix6.Contains(a):
			return a
		case a.Is6() && !a.IsLinkLocalUnicast() && !any.IsValid():
			any = a
		}
	}
	if slices.ContainsFunc(l.Addrs, n.Prefix.Contains) {
		return netip.Addr{} // the machine is on this link, where it has no router
	}
	return any
}

// identify finds out which machine asks. A hardware address that a node declares comes first, then a UUID that one does:
// then the address is that of its device in the network. Else the packet's best word is the name of a machine that is not
// known.
func identify(c *catalog.Catalog, q *query, n *catalog.Network) (catalog.HardwareAddr, bool) {
	for _, hw := range q.machines {
		if _, known := c.NodeByHardware(hw); known {
			return hw, true
		}
	}
	for _, uuid := range q.uuids {
		node, ok := c.NodeByUUID(uuid)
		if !ok {
			continue
		}
		r, err := c.Resolve(node.Name)
		if err != nil {
			continue
		}
		if i := slices.IndexFunc(r.Nets, func(d catalog.ResolvedNet) bool { return d.Network == n && d.Hardware != "" }); i >= 0 {
			return r.Nets[i].Hardware, true
		}
	}
	if len(q.machines) == 0 {
		return "", false
	}
	return q.machines[0], true
}

// uuidsOf is the machine's UUID, if that is its DUID, the likeliest reading first. Firmware of EDK2 sends the bytes as its
// memory has them, with the first three fields in the order of the processor; iPXE as they are written.
func (q *query) uuidsOf() []string {
	d, ok := q.Options.ClientID().(*dhcpv6.DUIDUUID)
	if !ok {
		return nil
	}
	u := d.UUID[:]
	written := fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	stored := catalog.StoredUUID(d.UUID)
	if q.firmware == boot.FirmwareIPXE {
		return []string{written, stored}
	}
	return []string{stored, written}
}

// hardwareOf is the hardware address of six bytes; those that no card can have are none.
func hardwareOf(b []byte) (catalog.HardwareAddr, bool) {
	if b[0]&1 != 0 || [6]byte(b) == [6]byte{} {
		return "", false
	}
	hw, err := catalog.ParseHardwareAddr(net.HardwareAddr(b).String())
	return hw, err == nil
}
