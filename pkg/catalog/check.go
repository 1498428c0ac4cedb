package catalog

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// checkProfiles refuses profiles that do not exist or are named twice.
func (c *Catalog) checkProfiles(what string, names []ProfileName) error {
	if len(names) > MaxProfiles {
		return fault.New(fault.Invalid, "%s: %d profiles are more than %d", what, len(names), MaxProfiles)
	}
	for i, name := range names {
		if _, ok := c.Profile(name); !ok {
			return within(what, c.noProfile(name))
		}
		if slices.Contains(names[:i], name) {
			return fault.New(fault.Invalid, "%s: profile %s is named twice", what, name)
		}
	}
	return nil
}

// checkSettings refuses values that cannot be right and names of things that do not exist.
func (c *Catalog) checkSettings(what string, s Settings) error {
	if s.Image != nil {
		name, version := SplitImage(*s.Image)
		i, ok := c.Image(name)
		if !ok {
			return within(what, c.noImage(string(name)))
		}
		if _, ok := i.Version(version); !ok {
			return fault.New(fault.NotFound, "%s: image %s has no version %q", what, name, clip(version)).
				WithFix("it has the tags %s", strings.Join(sortedKeys(i.Tags), ", "))
		}
	}
	for _, check := range []struct {
		setting string
		value   *string
		allowed []string
	}{
		{"method", s.Method, []string{MethodTwoStage, MethodOneStage}},
		{"root", s.Root, []string{RootTmpfs, RootRamfs}},
	} {
		if check.value != nil && !slices.Contains(check.allowed, *check.value) {
			return fault.New(fault.Invalid, "%s: %s cannot be %q", what, check.setting, clip(*check.value)).WithFix("choose %s", strings.Join(check.allowed, " or "))
		}
	}
	if s.Init != nil && !strings.HasPrefix(*s.Init, "/") {
		return fault.New(fault.Invalid, "%s: init %q is not an absolute path", what, clip(*s.Init))
	}
	for _, a := range s.Kernel.Args {
		// The words are joined by spaces in a boot script, line by line: white space in one would change the others.
		if a == "" || a == "~" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fault.New(fault.Invalid, "%s: %q is not one word of a kernel command line", what, clip(a)).WithFix("give each word by itself: -A console=ttyS0,115200 -A quiet")
		}
	}
	for _, list := range [][]string{s.Overlays.System, s.Overlays.Runtime} {
		for _, name := range list {
			name = strings.TrimPrefix(name, "~")
			if _, ok := c.Overlay(OverlayName(name)); !ok {
				return within(what, c.noOverlay(OverlayName(name)))
			}
		}
	}
	for _, key := range s.SSHKeys {
		if strings.ContainsAny(key, "\r\n\x00") {
			return fault.New(fault.Invalid, "%s: an SSH key is one line", what)
		}
	}
	for _, t := range sortedKeys(s.Tags) {
		if _, err := ParseName[string]("tag", t); err != nil {
			return within(what, err)
		}
	}
	for _, name := range sortedKeys(s.Nets) {
		if _, err := ParseName[string]("network device", name); err != nil {
			return within(what, err)
		}
		if err := c.checkNetDev(what+", device "+name, s.Nets[name]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) checkNetDev(what string, d NetDev) error {
	if d.Network != nil {
		if _, ok := c.Network(NetworkName(*d.Network)); !ok {
			return within(what, c.noNetwork(NetworkName(*d.Network)))
		}
	}
	if d.Hardware != nil {
		if hw, err := ParseHardwareAddr(string(*d.Hardware)); err != nil || hw != *d.Hardware {
			return fault.New(fault.Invalid, "%s: %q is not a hardware address", what, clip(string(*d.Hardware)))
		}
	}
	// 15 bytes: IFNAMSIZ of Linux, less the NUL.
	if d.Device != nil && (*d.Device == "" || len(*d.Device) > 15 || strings.ContainsAny(*d.Device, "/ \t\n:")) {
		return fault.New(fault.Invalid, "%s: %q is not a name that Linux gives a network device", what, clip(*d.Device))
	}
	if d.MTU != nil && (*d.MTU < 576 || *d.MTU > 65520) {
		return fault.New(fault.Invalid, "%s: MTU %d is not between 576 and 65520", what, *d.MTU)
	}
	return nil
}

// checkNets refuses addresses that lie outside of the device's network, as profiles and node decide it together.
func (c *Catalog) checkNets(n *Node) error {
	if len(n.Settings.Nets) == 0 {
		return nil
	}
	r := c.resolve(n)
	for _, d := range r.Nets {
		if !d.Address.IsValid() {
			continue
		}
		what := fmt.Sprintf("node %s, device %s", n.Name, d.Name)
		addr := d.Address.Addr()
		if d.Network == nil {
			return fault.New(fault.Invalid, "%s: address %s lies in no network", what, addr).WithFix("declare its network: wulf network add NAME --cidr …")
		}
		p := d.Network.Prefix
		switch {
		case !p.Contains(addr):
			return fault.New(fault.Invalid, "%s: address %s lies outside of network %s (%s)", what, addr, d.Network.Name, p).WithFix("choose an address in %s", p)
		case p.Bits() < 31 && (addr == p.Masked().Addr() || addr == broadcast(p)):
			return fault.New(fault.Invalid, "%s: %s is the network's own or broadcast address", what, addr)
		case d.Network.Pool.Contains(addr):
			return fault.New(fault.Invalid, "%s: address %s lies in the pool of network %s, which is for unknown machines", what, addr, d.Network.Name).WithFix("choose one outside of %s-%s", d.Network.Pool.First, d.Network.Pool.Last)
		case addr == d.Network.Gateway:
			return fault.New(fault.Conflict, "%s: %s is the gateway of network %s", what, addr, d.Network.Name)
		}
	}
	return nil
}

func broadcast(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(a)
}

func (c *Catalog) putNetwork(n Network) error {
	if _, err := ParseName[NetworkName]("network", string(n.Name)); err != nil {
		return err
	}
	what := "network " + string(n.Name)
	n.DHCP, n.Secrets = cmp.Or(n.DHCP, DHCPAuthoritative), cmp.Or(n.Secrets, SecretsRelay)
	switch {
	case !n.Prefix.IsValid() || !n.Prefix.Addr().Is4():
		return fault.New(fault.Invalid, "%s: it needs an IPv4 prefix", what).WithFix("such as --cidr 10.1.0.0/16")
	case n.Prefix != n.Prefix.Masked():
		return fault.New(fault.Invalid, "%s: %s has bits set beyond its prefix", what, n.Prefix).WithFix("write %s", n.Prefix.Masked())
	case n.Gateway.IsValid() && !n.Prefix.Contains(n.Gateway):
		return fault.New(fault.Invalid, "%s: gateway %s lies outside of %s", what, n.Gateway, n.Prefix)
	case !slices.Contains([]string{DHCPAuthoritative, DHCPProxy, DHCPOff}, n.DHCP):
		return fault.New(fault.Invalid, "%s: DHCP mode %q is not known", what, clip(n.DHCP)).WithFix("choose authoritative, proxy or off")
	case !slices.Contains([]string{SecretsRelay, SecretsRefuse}, n.Secrets):
		return fault.New(fault.Invalid, "%s: secrets policy %q is not known", what, clip(n.Secrets)).WithFix("choose relay or refuse")
	case n.MTU != 0 && (n.MTU < 576 || n.MTU > 65520):
		return fault.New(fault.Invalid, "%s: MTU %d is not between 576 and 65520", what, n.MTU)
	case n.Pool.First.IsValid() != n.Pool.Last.IsValid(),
		n.Pool.First.IsValid() && (!n.Prefix.Contains(n.Pool.First) || !n.Prefix.Contains(n.Pool.Last) || n.Pool.Last.Less(n.Pool.First)):
		return fault.New(fault.Invalid, "%s: pool %s-%s is not a run of addresses in %s", what, n.Pool.First, n.Pool.Last, n.Prefix)
	}
	for other := range c.Networks() {
		if other.Name != n.Name && other.Prefix.Overlaps(n.Prefix) {
			return fault.New(fault.Conflict, "%s: %s overlaps network %s (%s)", what, n.Prefix, other.Name, other.Prefix)
		}
	}
	c.networks.put(string(n.Name), &n)
	return nil
}

// usersOf names the first few nodes and profiles that use something, or is "".
func usersOf(c *Catalog, uses func([]ProfileName, Settings) bool) string {
	var names []string
	more := 0
	note := func(s string) {
		if len(names) < 3 {
			names = append(names, s)
		} else {
			more++
		}
	}
	for p := range c.Profiles() {
		if uses(p.Profiles, p.Settings) {
			note("profile " + string(p.Name))
		}
	}
	for n := range c.Nodes() {
		if uses(n.Profiles, n.Settings) {
			note("node " + string(n.Name))
		}
	}
	s := strings.Join(names, ", ")
	if more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func inUse(what, name, users string) error {
	return fault.New(fault.Conflict, "%s %q is used by %s", what, name, users).WithFix("take it from them first")
}

func within(what string, err error) error {
	return &fault.Error{Kind: fault.KindOf(err), Message: what + ": " + err.Error(), Fix: fault.Fix(err)}
}

// notFound says that a thing does not exist, and which one was perhaps meant.
func notFound(what, name string, known iter.Seq[string]) error {
	err := fault.New(fault.NotFound, "no %s is called %q", what, clip(name))
	if best := Nearest(name, known, 2); best != "" {
		return err.WithFix("did you mean %q?", best)
	}
	return err.WithFix("see all with: wulf %s list", what)
}

// Nearest is the word of known that is most like one which is not known, and at most so many letters away; "" if there
// is none. Of several the first counts.
func Nearest(word string, known iter.Seq[string], most int) string {
	best, distance := "", most+1
	for k := range known {
		if d := editDistance(word, k, distance); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts the letters to change, add or drop to make b of a; it stops at limit.
func editDistance(a, b string, limit int) int {
	if len(a) > MaxName || len(b) > MaxName || max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}

func sortedKeys[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }
