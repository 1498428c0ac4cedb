package catalog

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Resolved is a node with every setting decided, and by whom.
type Resolved struct {
	Node     *Node
	Settings Settings // merged, with the defaults for what nobody decided
	Blame    Blame    // path to "profile x", "node x" or "default"
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
	Address  netip.Prefix // the address with its network's prefix length; invalid if it has none
	Gateway  netip.Addr
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
	r := &Resolved{Node: n, Blame: Blame{}}
	Merge(&r.Settings, defaults(), "default", r.Blame)
	for _, p := range n.Profiles {
		c.mergeProfile(r, p, 0)
	}
	Merge(&r.Settings, n.Settings, "node "+string(n.Name), r.Blame)
	if r.Settings.Image != nil {
		r.Image, r.Version, _ = c.ImageVersion(*r.Settings.Image)
	}
	r.Nets = make([]ResolvedNet, 0, len(r.Settings.Nets))
	for _, name := range sortedKeys(r.Settings.Nets) {
		r.Nets = append(r.Nets, c.resolveNet(name, r.Settings.Nets[name]))
	}
	r.Primary = primary(r)
	return r
}

func defaults() Settings {
	return Settings{Method: new(MethodTwoStage), Init: new("/sbin/init"), Root: new(RootTmpfs)}
}

// mergeProfile lays a profile over what is decided, after those that it builds on. Circles cannot be written;
// the depth is bounded all the same.
func (c *Catalog) mergeProfile(r *Resolved, name ProfileName, depth int) {
	p, ok := c.Profile(name)
	if !ok || depth > MaxProfiles {
		return
	}
	for _, base := range p.Profiles {
		c.mergeProfile(r, base, depth+1)
	}
	Merge(&r.Settings, p.Settings, "profile "+string(name), r.Blame)
}

func (c *Catalog) resolveNet(name string, d NetDev) ResolvedNet {
	n := ResolvedNet{Name: name}
	if d.Device != nil {
		n.Device = *d.Device
	}
	if d.Hardware != nil {
		n.Hardware = *d.Hardware
	}
	switch {
	case d.Network != nil:
		n.Network, _ = c.Network(NetworkName(*d.Network))
	case d.Address != nil:
		n.Network, _ = c.NetworkOf(*d.Address)
	}
	if d.Address != nil {
		n.Address = netip.PrefixFrom(*d.Address, d.Address.BitLen())
	}
	if n.Network != nil {
		if d.Address != nil {
			n.Address = netip.PrefixFrom(*d.Address, n.Network.Prefix.Bits())
		}
		n.Gateway, n.MTU = n.Network.Gateway, n.Network.MTU
	}
	if d.Gateway != nil {
		n.Gateway = *d.Gateway
	}
	if d.MTU != nil {
		n.MTU = *d.MTU
	}
	return n
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

// Kernel picks the kernel to boot of the version decided: the newest, or the newest whose version begins with
// the one asked for, number by number. It fails with fault.NotFound, saying what there is.
func (r *Resolved) Kernel() (version string, at int, err error) {
	want := ""
	if v := r.Settings.Kernel.Version; v != nil {
		want = *v
	}
	for i, k := range r.Version.Kernels {
		if want == "" || begins(k.Version, want) {
			return k.Version, i, nil
		}
	}
	if len(r.Version.Kernels) == 0 {
		return "", 0, fault.New(fault.NotFound, "image %s has no kernel", cmp.Or(*r.Settings.Image, "?")).
			WithFix("install a kernel in it and import it again")
	}
	return "", 0, fault.New(fault.NotFound, "image %s has no kernel %s", *r.Settings.Image, want).WithFix("it has %s", r.Version.Kernels[0].Version)
}

// begins tells whether a version begins with the one asked for: 6.12.0 begins with 6.12, and not with 6.1.
func begins(version, asked string) bool {
	rest, ok := strings.CutPrefix(version, asked)
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return ok && (rest == "" || !digit(rest[0]) || !digit(asked[len(asked)-1]))
}
