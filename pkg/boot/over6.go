package boot

import (
	"net/netip"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// address6 takes the IPv6 address that is declared for the machine in the network. Where none is, nodes have the one that
// is made of their hardware address, and unknown machines where the network has a pool for them: there they are welcome.
func (p *Plan) address6(c *catalog.Catalog, declared netip.Addr) {
	n := p.Network
	if n == nil || !n.Prefix6.IsValid() {
		return
	}
	atHome := p.Known() && p.Problem == nil
	if atHome && n.Prefix6.Contains(declared) {
		p.Address6 = declared
		return
	}
	if !atHome && !n.Pool.First.IsValid() {
		return
	}
	a := n.Derived6(p.BootHardware)
	if other, taken := c.NodeByAddress(a); a.IsValid() && a != n.Gateway6 && (!taken || other.Name == p.Node) {
		p.Address6 = a
	}
}

// Over6 makes the plan that of a machine whose boot loader asks relay self by IPv6, where it is at the address at, and may
// have no other address: it fetches from that relay first. The others are known by IPv4 alone, and serve one that has
// both. The agent goes by IPv4 in any case.
func (p *Plan) Over6(self catalog.RelayName, at netip.Addr) {
	i := p.Rank(self)
	if i < 0 {
		return
	}
	me := p.Relays[i]
	me.Addr6 = at.WithZone("")
	p.Relays = slices.Concat([]Relay{me}, p.Relays[:i], p.Relays[i+1:])
}

// at is where the machine's boot loader reaches the relay.
func (r Relay) at() netip.Addr {
	if r.Addr6.IsValid() {
		return r.Addr6
	}
	return r.Addr
}

// loads is host:port of plain HTTP for the machine's boot loader.
func (r Relay) loads() string { return netip.AddrPortFrom(r.at(), r.BootPort).String() }
