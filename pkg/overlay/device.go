package overlay

import (
	"net/netip"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bool is a yes or no that nobody may have decided: "true", "false" or "".
type Bool string

// Bool tells whether it was decided to be so.
func (b Bool) Bool() bool { return b == "true" }

// BoolDefaultTrue tells whether it was not decided to be otherwise.
func (b Bool) BoolDefaultTrue() bool { return b != "false" }

// NetDev is a network device in templates.
type NetDev struct {
	Name       string
	Type       string // one of catalog.NetTypes
	OnBoot     Bool
	Device     string // "" if it is matched by Hwaddr
	Hwaddr     string
	Ipaddr     string
	Netmask    string // 255.255.255.0
	PrefixLen  int
	IpCIDR     string // address/prefix length
	Gateway    string // only of the primary device, so that a node has one default route
	Ipaddr6    string
	PrefixLen6 int
	IpCIDR6    string
	Gateway6   string // only of the primary device
	Mtu        int
	Network    string
	Domain     string
	Primary    bool
	Tags       map[string]string
}

// MTU is Mtu under the name that Warewulf gives it.
func (n NetDev) MTU() int { return n.Mtu }

func netDev(n *catalog.ResolvedNet, s catalog.NetDev, primary bool) NetDev {
	d := NetDev{
		Name: n.Name, Type: "ethernet", OnBoot: decided(s.OnBoot), Device: n.Device, Hwaddr: string(n.Hardware), Mtu: n.MTU, Primary: primary, Tags: s.Tags,
	}
	if s.Type != nil {
		d.Type = *s.Type
	}
	if n.Network != nil {
		d.Network, d.Domain = string(n.Network.Name), n.Network.Domain
	}
	if a := n.Address; a.IsValid() {
		d.Ipaddr, d.PrefixLen, d.IpCIDR, d.Netmask = a.Addr().String(), a.Bits(), a.String(), netmask(a)
	}
	if a := n.Address6; a.IsValid() {
		d.Ipaddr6, d.PrefixLen6, d.IpCIDR6 = a.Addr().String(), a.Bits(), a.String()
	}
	if n.Gateway.IsValid() && primary {
		d.Gateway = n.Gateway.String()
	}
	if n.Gateway6.IsValid() && primary {
		d.Gateway6 = n.Gateway6.String()
	}
	return d
}

func netmask(p netip.Prefix) string {
	if !p.Addr().Is4() {
		return ""
	}
	var m [4]byte
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(m).String()
}

// Ipmi is the node's BMC in templates.
type Ipmi struct {
	UserName   string
	Ipaddr     string
	Netmask    string
	Gateway    string
	Port       string
	Interface  string
	EscapeChar string
	Template   string
	Write      Bool
	Tags       map[string]string

	password *catalog.Secret
	secrets  *keeper
}

// Password gives the BMC's password, "" if there is none. Where it may not be held, the template's file is not made.
func (i Ipmi) Password() (string, error) {
	if i.password == nil {
		return "", nil
	}
	return i.secrets.open(*i.password)
}

func ipmi(b catalog.BMC, secrets *keeper) Ipmi {
	i := Ipmi{
		UserName: value(b.Username), Ipaddr: address(b.Address), Netmask: address(b.Netmask), Gateway: address(b.Gateway), Interface: value(b.Interface),
		EscapeChar: value(b.Escape), Template: value(b.Template), Write: decided(b.Write), Tags: b.Tags, password: b.Password, secrets: secrets,
	}
	if b.Port != nil {
		i.Port = strconv.Itoa(*b.Port)
	}
	return i
}

func address(a *netip.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

func decided(b *bool) Bool {
	if b == nil {
		return ""
	}
	return Bool(strconv.FormatBool(*b))
}

// value is what was decided; nothing, if nobody did.
func value[T any](v *T) (out T) {
	if v != nil {
		out = *v
	}
	return out
}
