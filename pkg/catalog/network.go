package catalog

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Network is a range of addresses in which nodes boot.
type Network struct {
	Name     NetworkName  `json:"name"`
	Prefix   netip.Prefix `json:"prefix"`           // IPv4
	Prefix6  netip.Prefix `json:"prefix6,omitzero"` // IPv6; none: nodes have no such addresses of it
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Gateway6 netip.Addr   `json:"gateway6,omitzero"`
	DNS      []netip.Addr `json:"dns,omitempty"`
	NTP      []netip.Addr `json:"ntp,omitempty"`
	Domain   string       `json:"domain,omitempty"`
	MTU      int          `json:"mtu,omitempty"`      // 0: the device's own
	VLAN     int          `json:"vlan,omitempty"`     // 0: none; for switches and templates, DHCP does not see it
	Pool     Range        `json:"pool,omitzero"`      // for machines that are not known; none: they get no address
	Allocate Range        `json:"allocate,omitzero"`  // where nodes get an address that nobody chose; none: all of Prefix
	DHCP     string       `json:"dhcp,omitempty"`     // DHCPAuthoritative (default), DHCPProxy or DHCPOff
	Probe    bool         `json:"probe,omitempty"`    // relays ask whether an address of the pool is in use before they offer it
	Secrets  string       `json:"secrets,omitempty"`  // SecretsRelay (default) or SecretsRefuse
	Warewulf bool         `json:"warewulf,omitempty"` // relays answer as Warewulf's server does, to nodes of MethodWarewulf
	Comment  string       `json:"comment,omitempty"`

	// SSHAuthority is the public key, as type and base64, with which the host keys of the network's nodes are certified
	// (see pki.NetworkKey). Controllers put it, whatever it was in the change; "" where nobody holds the nodes' secrets.
	SSHAuthority string `json:"ssh_authority,omitempty"`
}

// What relays do about DHCP in a network.
const (
	DHCPAuthoritative = "authoritative" // they give addresses and boot information
	DHCPProxy         = "proxy"         // another server gives the addresses, they only say what to boot
	DHCPOff           = "off"
)

// Who may hold the secrets of a network's nodes (such as SSH host keys) while nodes boot.
const (
	SecretsRelay  = "relay"  // the relays that serve the network hold its key, so nodes get them with every controller away
	SecretsRefuse = "refuse" // nobody: nodes boot without
)

// allocates is where the search for a free address begins and ends.
func (n *Network) allocates() (first, last netip.Addr) {
	if n.Allocate.First.IsValid() {
		return n.Allocate.First, n.Allocate.Last
	}
	return n.Prefix.Masked().Addr(), lastOf(n.Prefix)
}

// reserved tells whether an address is the network's own or its broadcast address.
func (n *Network) reserved(a netip.Addr) bool {
	return n.Prefix.Contains(a) && n.Prefix.Bits() < 31 && (a == n.Prefix.Masked().Addr() || a == lastOf(n.Prefix))
}

// Holds tells whether an address of either family lies in the network.
func (n *Network) Holds(a netip.Addr) bool { return n.Prefix.Contains(a) || n.Prefix6.Contains(a) }

// Boots6 tells whether machines boot there by IPv6: it has a prefix of that, and no other server gives the addresses.
func (n *Network) Boots6() bool { return n.Prefix6.IsValid() && n.DHCP == DHCPAuthoritative }

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// NetworkOf returns the network in whose prefix an address lies. Networks do not overlap, so there is one at most, and it
// is the one that begins at or right before the address.
func (c *Catalog) NetworkOf(a netip.Addr) (*Network, bool) {
	name, ok := c.prefixes.atOrBefore(prefixKey(a))
	if !ok {
		return nil, false
	}
	if n, ok := c.Network(name); ok && n.Holds(a) {
		return n, true
	}
	return nil, false
}

// prefixKey orders the addresses of both families; those of IPv4 are by themselves.
func prefixKey(a netip.Addr) string {
	b := a.As16()
	return string(b[:])
}

func (c *Catalog) indexNetwork(n *Network, put bool) {
	for _, p := range []netip.Prefix{n.Prefix, n.Prefix6} {
		switch {
		case !p.IsValid():
		case put:
			c.prefixes.put(prefixKey(p.Masked().Addr()), n.Name)
		default:
			c.prefixes.delete(prefixKey(p.Masked().Addr()))
		}
	}
}

func (c *Catalog) putNetwork(n Network) error {
	n.DHCP, n.Secrets = cmp.Or(n.DHCP, DHCPAuthoritative), cmp.Or(n.Secrets, SecretsRelay)
	if err := c.checkNetwork(&n); err != nil {
		return err
	}
	if old, ok := c.Network(n.Name); ok {
		c.dropNetwork(old)
	}
	c.storeNetwork(&n)
	return nil
}

func (c *Catalog) checkNetwork(n *Network) error {
	if _, err := ParseName[NetworkName]("network", string(n.Name)); err != nil {
		return err
	}
	if err := checkNetwork(n); err != nil {
		return within("network "+string(n.Name), err)
	}
	for other := range c.Networks() {
		if other.Name == n.Name {
			continue
		}
		for _, p := range []netip.Prefix{n.Prefix, n.Prefix6} {
			switch {
			case !p.IsValid():
			case other.Prefix.Overlaps(p):
				return fault.New(fault.Conflict, "network %s: %s overlaps network %s (%s)", n.Name, p, other.Name, other.Prefix)
			case other.Prefix6.Overlaps(p):
				return fault.New(fault.Conflict, "network %s: %s overlaps network %s (%s)", n.Name, p, other.Name, other.Prefix6)
			}
		}
	}
	return nil
}

// storeNetwork puts a network that is not there, with what finds it by an address.
func (c *Catalog) storeNetwork(n *Network) {
	c.networks.put(string(n.Name), n)
	c.indexNetwork(n, true)
	c.touched.network(n.Name)
}

func (c *Catalog) dropNetwork(n *Network) {
	c.networks.delete(string(n.Name))
	c.indexNetwork(n, false)
	c.touched.network(n.Name)
}

func checkNetwork(n *Network) error {
	runs := func(r Range) bool {
		return r.First.IsValid() == r.Last.IsValid() && (!r.First.IsValid() || n.Prefix.Contains(r.First) && n.Prefix.Contains(r.Last) && !r.Last.Less(r.First))
	}
	switch {
	case !n.Prefix.IsValid() || !n.Prefix.Addr().Is4():
		return fault.New(fault.Invalid, "it needs an IPv4 prefix").WithFix("such as --cidr 10.1.0.0/16")
	case n.Prefix != n.Prefix.Masked():
		return fault.New(fault.Invalid, "%s has bits set beyond its prefix", n.Prefix).WithFix("write %s", n.Prefix.Masked())
	case n.Prefix6.IsValid() && (!n.Prefix6.Addr().Is6() || n.Prefix6.Addr().Is4In6()):
		return fault.New(fault.Invalid, "%s is not an IPv6 prefix", n.Prefix6).WithFix("such as --cidr6 fd00:1::/64")
	case n.Prefix6.IsValid() && n.Prefix6 != n.Prefix6.Masked():
		return fault.New(fault.Invalid, "%s has bits set beyond its prefix", n.Prefix6).WithFix("write %s", n.Prefix6.Masked())
	case n.Gateway.IsValid() && !n.Prefix.Contains(n.Gateway):
		return fault.New(fault.Invalid, "gateway %s lies outside of %s", n.Gateway, n.Prefix)
	case n.Gateway6.IsValid() && !n.Prefix6.Contains(n.Gateway6) && !n.Gateway6.IsLinkLocalUnicast():
		return fault.New(fault.Invalid, "gateway %s lies outside of %s and is not link-local", n.Gateway6, n.Prefix6)
	case !slices.Contains([]string{DHCPAuthoritative, DHCPProxy, DHCPOff}, n.DHCP):
		return fault.New(fault.Invalid, "DHCP mode %q is not known", clip(n.DHCP)).WithFix("choose authoritative, proxy or off")
	case !slices.Contains([]string{SecretsRelay, SecretsRefuse}, n.Secrets):
		return fault.New(fault.Invalid, "secrets policy %q is not known", clip(n.Secrets)).WithFix("choose relay or refuse")
	case n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU):
		return fault.New(fault.Invalid, "MTU %d is not between %d and %d", n.MTU, minMTU, maxMTU)
	case n.VLAN < 0 || n.VLAN > 4094: // IEEE 802.1Q: 4095 is reserved
		return fault.New(fault.Invalid, "VLAN %d is not between 1 and 4094", n.VLAN)
	case !runs(n.Pool):
		return fault.New(fault.Invalid, "pool %s-%s is not a run of addresses in %s", n.Pool.First, n.Pool.Last, n.Prefix)
	case !runs(n.Allocate):
		return fault.New(fault.Invalid, "%s-%s, to allocate from, is not a run of addresses in %s", n.Allocate.First, n.Allocate.Last, n.Prefix)
	case n.Gateway6.Is4In6() || n.Gateway6.Zone() != "":
		return fault.New(fault.Invalid, "gateway %s is no IPv6 address without a zone", n.Gateway6)
	case slices.ContainsFunc(slices.Concat(n.DNS, n.NTP), func(a netip.Addr) bool { return !a.IsValid() || a.Zone() != "" }):
		return fault.New(fault.Invalid, "a name or time server has no address by which nodes reach it")
	case checkLine("domain", &n.Domain) != nil:
		return checkLine("domain", &n.Domain)
	case checkLine("comment", &n.Comment) != nil:
		return checkLine("comment", &n.Comment)
	case n.SSHAuthority != "" && !sshKeyForm.MatchString(n.SSHAuthority):
		return fault.New(fault.Invalid, "SSH authority %q is not a type and a key", clip(n.SSHAuthority)).WithFix("leave it out: a controller puts it")
	case len(n.DNS) > maxServers || len(n.NTP) > maxServers:
		return fault.New(fault.Invalid, "more than %d servers of a kind", maxServers)
	}
	return nil
}

// sshKeyForm is that of a public key without a comment; it gets into files of nodes.
var sshKeyForm = regexp.MustCompile(`^[a-z0-9@.-]{1,64} [A-Za-z0-9+/]{1,1000}={0,2}$`)

// maxServers bounds the name and time servers of a network: DHCP's options must fit into one packet.
const maxServers = 8

// Bounds of an MTU: what every IPv4 host must take (RFC 791), and what InfiniBand in connected mode can.
const (
	minMTU = 576
	maxMTU = 65520
)

func (x AddNetwork) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Network(x.Network.Name); ok {
		return fault.New(fault.Conflict, "network %q exists already", x.Network.Name).WithFix("change it with: wulf network set %s …", x.Network.Name)
	}
	return c.putNetwork(x.Network)
}

func (x SetNetwork) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Network(x.Network.Name); !ok {
		return c.noNetwork(x.Network.Name)
	}
	return c.putNetwork(x.Network)
}

func (x DeleteNetwork) apply(c *Catalog, _ *Entry) error {
	old, ok := c.Network(x.Name)
	if !ok {
		return c.noNetwork(x.Name)
	}
	users := usersOf(c, func(_ []ProfileName, s Settings) bool {
		for _, d := range s.Nets {
			if d.Network != nil && *d.Network == string(x.Name) ||
				d.Address != nil && old.Holds(*d.Address) && d.Netmask == nil || d.Address6 != nil && old.Holds(*d.Address6) && d.Prefix6 == nil {
				return true
			}
		}
		return false
	})
	if users != "" {
		return inUse("network", string(x.Name), users)
	}
	for r := range c.Relays() {
		if slices.Contains(r.Networks, x.Name) {
			return inUse("network", string(x.Name), "relay "+string(r.Name))
		}
	}
	c.dropNetwork(old)
	return nil
}

func (c *Catalog) noNetwork(name NetworkName) error {
	return notFound("network", string(name), func(yield func(string) bool) {
		for n := range c.Networks() {
			if !yield(string(n.Name)) {
				return
			}
		}
	})
}

func flatNetwork(n *Network) map[string]string {
	if n == nil {
		return nil
	}
	out := map[string]string{"cidr": n.Prefix.String(), "dhcp": n.DHCP, "secrets": n.Secrets}
	for _, f := range []struct {
		path  string
		value string
		is    bool
	}{
		{"cidr6", n.Prefix6.String(), n.Prefix6.IsValid()},
		{"gateway", n.Gateway.String(), n.Gateway.IsValid()},
		{"gateway6", n.Gateway6.String(), n.Gateway6.IsValid()},
		{"dns", fmt.Sprint(n.DNS), len(n.DNS) > 0},
		{"ntp", fmt.Sprint(n.NTP), len(n.NTP) > 0},
		{"domain", n.Domain, n.Domain != ""},
		{"mtu", fmt.Sprint(n.MTU), n.MTU != 0},
		{"vlan", fmt.Sprint(n.VLAN), n.VLAN != 0},
		{"pool", n.Pool.String(), n.Pool.First.IsValid()},
		{"allocate", n.Allocate.String(), n.Allocate.First.IsValid()},
		{"probe", "true", n.Probe},
		{"warewulf", "true", n.Warewulf},
		{"comment", n.Comment, n.Comment != ""},
		{"ssh_authority", n.SSHAuthority, n.SSHAuthority != ""},
	} {
		if f.is {
			out[f.path] = f.value
		}
	}
	return out
}

// String is the range as people write it: FIRST-LAST.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }
