package catalog

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Resolved is a node with every setting decided.
type Resolved struct {
	Node     *Node
	Settings Settings // merged, with the defaults for what nobody decided
	Image    *Image   // nil if none is decided
	Version  ImageVersion
	Nets     []ResolvedNet // in the order of their names
	Primary  *ResolvedNet  // the one it boots from; nil if it has none
}

// ResolvedNet is a network device with its network's part filled in.
type ResolvedNet struct {
	Name     string // in wulfmesh
	Device   string // the kernel's name, or "" to go by the hardware address
	Hardware HardwareAddr
	Address  netip.Prefix // the address with the length of its network's prefix; invalid if it has none
	Gateway  netip.Addr
	Address6 netip.Prefix // likewise
	Gateway6 netip.Addr
	MTU      int      // 0: the device's own
	Network  *Network // nil if it is in none
}

// Resolve decides every setting of a node. It fails with fault.NotFound if there is no such node.
func (c *Catalog) Resolve(name NodeName) (*Resolved, error) {
	n, ok := c.Node(name)
	if !ok {
		return nil, c.noNode(name)
	}
	return c.resolve(n), nil
}

func (c *Catalog) resolve(n *Node) *Resolved {
	r := c.resolveNets(c.Effective(n))
	r.Node = n
	if r.Settings.Image != nil {
		r.Image, r.Version, _ = c.ImageVersion(*r.Settings.Image)
	}
	return r
}

// resolveNets is of a resolved node what follows from its settings about its network devices.
func (c *Catalog) resolveNets(s Settings) *Resolved {
	r := &Resolved{Settings: s, Nets: make([]ResolvedNet, 0, len(s.Nets))}
	for _, name := range sortedKeys(s.Nets) {
		r.Nets = append(r.Nets, c.resolveNet(name, s.Nets[name]))
	}
	r.Primary = primary(r)
	return r
}

// Effective is what profiles and the node itself decide together, with the defaults for what nobody decides. What it
// returns shares its parts with the catalog and must not be changed.
func (c *Catalog) Effective(n *Node) Settings {
	s := c.base(n.Profiles).settings
	Merge(&s, n.Settings, "", nil)
	s.clean()
	s.fill("", nil)
	return s
}

// Scalar is one text among the Effective settings of a node, "" if nobody decides it, for a fraction of what all of them
// cost. The field must be one that has no default.
func (c *Catalog) Scalar(n *Node, field func(*Settings) *string) string {
	if len(n.Settings.Without) > 0 {
		s := c.Effective(n)
		return deref(field(&s))
	}
	if v := field(&n.Settings); v != nil {
		return *v
	}
	return deref(field(&c.base(n.Profiles).settings))
}

// places are the network devices of a node with what says where they are, as profiles and node decide it together, for a
// fraction of what all of the Effective settings cost: the networks, the addresses and their lengths.
func (c *Catalog) places(n *Node) map[string]NetDev {
	if len(n.Settings.Without) > 0 {
		return c.Effective(n).Nets
	}
	base := c.base(n.Profiles).settings.Nets
	switch {
	case len(n.Settings.Nets) == 0:
		return base
	case len(base) == 0:
		return n.Settings.Nets
	}
	out := make(map[string]NetDev, len(base)+len(n.Settings.Nets))
	for name, b := range base {
		out[name] = NetDev{Network: b.Network, Netmask: b.Netmask, Prefix6: b.Prefix6}
	}
	for name, d := range n.Settings.Nets {
		b := out[name] // no profile holds an address
		out[name] = NetDev{
			Network: cmp.Or(d.Network, b.Network), Netmask: cmp.Or(d.Netmask, b.Netmask), Prefix6: cmp.Or(d.Prefix6, b.Prefix6),
			Address: d.Address, Address6: d.Address6,
		}
	}
	return out
}

// List is one list among the Effective settings of a node, as Scalar is one text. It must not be changed.
func (c *Catalog) List(n *Node, field func(*Settings) []string) []string {
	if len(n.Settings.Without) > 0 {
		s := c.Effective(n)
		return field(&s)
	}
	inherited, own := field(&c.base(n.Profiles).settings), field(&n.Settings)
	if len(own) == 0 {
		return cleaned(inherited)
	}
	return cleaned(slices.Concat(inherited, own))
}

// Explain is Effective with who decided each setting: "profile x", "node x" or "default". It fails with
// fault.NotFound if there is no such node.
func (c *Catalog) Explain(name NodeName) (Settings, Blame, error) {
	n, ok := c.Node(name)
	if !ok {
		return Settings{}, nil, c.noNode(name)
	}
	var s Settings
	blame := Blame{}
	c.mergeProfiles(&s, n.Profiles, blame)
	Merge(&s, n.Settings, "node "+string(n.Name), blame)
	s.clean()
	s.fill("default", blame)
	return s, blame, nil
}

// fill decides by default what a boot cannot do without and nobody decided.
func (s *Settings) fill(source string, blame Blame) {
	root := RootTmpfs
	if s.Method != nil && *s.Method == MethodWarewulf {
		root = rootInitramfs
	}
	for _, d := range []struct {
		path  string
		field **string
		value string
	}{
		{"method", &s.Method, MethodTwoStage}, {"init", &s.Init, DefaultInit}, {"root", &s.Root, root},
	} {
		if *d.field != nil {
			continue
		}
		*d.field = &d.value
		if blame != nil {
			blame[d.path] = source
		}
	}
}

// Allowed tells why the node may not boot by its method in a network, or nil: what nodes of MethodWarewulf are sent, anybody
// there may ask for.
func (r *Resolved) Allowed(n *Network) error {
	if *r.Settings.Method != MethodWarewulf || n != nil && n.Warewulf {
		return nil
	}
	name := NetworkName("NETWORK")
	if n != nil {
		name = n.Name
	}
	return fault.New(fault.Denied, "node %s boots by method %s, which network %s does not allow", r.Node.Name, MethodWarewulf, name).
		WithFix("wulf network set %s --warewulf", name)
}

// DefaultInit is the program that becomes process 1 if nobody decides another.
const DefaultInit = "/sbin/init"

func (c *Catalog) resolveNet(name string, d NetDev) ResolvedNet {
	n := ResolvedNet{Name: name}
	if d.Device != nil {
		n.Device = *d.Device
	}
	if d.Hardware != nil {
		n.Hardware = *d.Hardware
	}
	n.Network = c.networkOf(d)
	if d.Address != nil {
		n.Address = netip.PrefixFrom(*d.Address, d.Address.BitLen())
	}
	if n.Network != nil {
		n.MTU = n.Network.MTU
		if d.Network != nil || d.Address != nil && n.Network.Holds(*d.Address) { // not where its IPv6 address alone lies in it
			n.Gateway = n.Network.Gateway
			if d.Address != nil {
				n.Address = netip.PrefixFrom(*d.Address, n.Network.Prefix.Bits())
			}
		}
	}
	if d.Netmask != nil && d.Address != nil {
		if length, ok := MaskLength(*d.Netmask); ok {
			n.Address = netip.PrefixFrom(*d.Address, length)
		}
	}
	if d.Gateway != nil {
		n.Gateway = *d.Gateway
	}
	if d.MTU != nil {
		n.MTU = *d.MTU
	}
	c.resolveNet6(&n, d)
	return n
}

// networkOf is the network of a device, nil if there is none: the one that it names, or that holds its address.
func (c *Catalog) networkOf(d NetDev) (n *Network) {
	switch {
	case d.Network != nil:
		n, _ = c.Network(NetworkName(*d.Network))
	case d.Address != nil:
		n, _ = c.NetworkOf(*d.Address)
	}
	if n == nil && d.Address6 != nil {
		n, _ = c.NetworkOf(*d.Address6)
	}
	return n
}

func (c *Catalog) resolveNet6(n *ResolvedNet, d NetDev) {
	length := 0
	if n.Network != nil && n.Network.Prefix6.IsValid() {
		length, n.Gateway6 = n.Network.Prefix6.Bits(), n.Network.Gateway6
	}
	if d.Prefix6 != nil {
		length = *d.Prefix6
	}
	if d.Address6 != nil {
		n.Address6 = netip.PrefixFrom(*d.Address6, cmp.Or(length, d.Address6.BitLen()))
	}
	if d.Gateway6 != nil {
		n.Gateway6 = *d.Gateway6
	}
}

// MaskLength is the length of the prefix that an IPv4 netmask stands for. There is none for a mask with holes, nor for
// what is no IPv4 address.
func MaskLength(mask netip.Addr) (int, bool) {
	if !mask.Is4() {
		return 0, false
	}
	b := mask.As4()
	v := binary.BigEndian.Uint32(b[:])
	n := bits.LeadingZeros32(^v)
	return n, v<<n == 0
}

// primary is the device that was named so, else the default one, else the first that can boot.
func primary(r *Resolved) *ResolvedNet {
	want := DefaultNet
	if r.Settings.Primary != nil {
		want = *r.Settings.Primary
	}
	if i := slices.IndexFunc(r.Nets, func(n ResolvedNet) bool { return n.Name == want }); i >= 0 {
		return &r.Nets[i]
	}
	if i := slices.IndexFunc(r.Nets, func(n ResolvedNet) bool { return n.Hardware != "" }); i >= 0 {
		return &r.Nets[i]
	}
	return nil
}
