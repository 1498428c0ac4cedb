package overlay

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Data is what templates see as the dot. Its names are those that Warewulf's administrators write, where it has
// the same thing.
type Data struct {
	Id          string // the node's name
	Hostname    string // up to its first dot
	Fqdn        string // the name with its network's domain, if that has one
	ClusterName string
	Comment     string
	Rack        string
	Zone        string
	Image       string
	Init        string
	Root        string
	Tags        map[string]string
	NetDevs     map[string]NetDev
	Primary     string   // the name among NetDevs of the device it boots from; "" if there is none
	Dns         []string // of the primary device's network
	Ntp         []string
	Domain      string
	SshKeys     []string // lines of root's authorized_keys
	Revision    uint64

	secrets  Secrets
	withheld *bool
	all      func() []Host
}

// NetDev is a network device in templates.
type NetDev struct {
	Name      string
	Device    string // "" if it is matched by Hwaddr
	Hwaddr    string
	Ipaddr    string
	Netmask   string // 255.255.255.0
	PrefixLen int
	IpCIDR    string // address/prefix length
	Gateway   string // only of the primary device, so that a node has one default route
	Mtu       int
	Network   string
	Domain    string
	Primary   bool
}

// Host is a node with an address, for hosts files.
type Host struct {
	Id      string
	Names   []string
	Address string
}

// Secrets are what only the node may know. A relay that may not hold them renders with none.
type Secrets struct {
	SSHHostKeys []HostKey
}

// HostKey is an SSH host key.
type HostKey struct {
	Type    string // ed25519
	Private string // OpenSSH format, PEM
	Public  string // a line of known_hosts without the host
}

// Hosts lists the nodes that have addresses, for the templates of every node of one catalog: it is made once,
// when it is first asked for, and may be shared by any number of renderings.
func Hosts(c *catalog.Catalog) func() []Host {
	return sync.OnceValue(func() []Host {
		var all []Host
		for n := range c.Nodes() {
			r, err := c.Resolve(n.Name)
			if err != nil || r.Primary == nil || !r.Primary.Address.IsValid() {
				continue
			}
			all = append(all, Host{Id: string(n.Name), Names: names(n.Name, r.Primary.Network), Address: r.Primary.Address.Addr().String()})
		}
		return all
	})
}

// names are those of a node in a hosts file: the full one, the node's, the short one, each once.
func names(n catalog.NodeName, network *catalog.Network) []string {
	short, _, dotted := strings.Cut(string(n), ".")
	var all []string
	if network != nil && network.Domain != "" && !dotted {
		all = append(all, short+"."+network.Domain)
	}
	for _, name := range []string{string(n), short} {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// NewData makes a node's data. Hosts comes from the same catalog.
func NewData(c *catalog.Catalog, r *catalog.Resolved, hosts func() []Host, secrets Secrets) Data {
	s := r.Settings
	d := Data{
		Id: string(r.Node.Name), Fqdn: string(r.Node.Name), ClusterName: c.Cluster.Name,
		Comment: value(s.Comment), Rack: value(s.Rack), Zone: value(s.Zone), Image: value(s.Image), Init: value(s.Init), Root: value(s.Root),
		Tags: s.Tags, NetDevs: map[string]NetDev{}, SshKeys: s.SSHKeys, Revision: uint64(c.Revision),
		secrets: secrets, withheld: new(bool), all: hosts,
	}
	d.Hostname, _, _ = strings.Cut(d.Id, ".")
	for i := range r.Nets {
		n := &r.Nets[i]
		d.NetDevs[n.Name] = netDev(n, n == r.Primary)
	}
	if p := r.Primary; p != nil {
		d.Primary = p.Name
		if p.Network != nil {
			d.Domain, d.Dns, d.Ntp = p.Network.Domain, texts(p.Network.DNS), texts(p.Network.NTP)
			d.Fqdn = names(r.Node.Name, p.Network)[0]
		}
	}
	return d
}

func netDev(n *catalog.ResolvedNet, primary bool) NetDev {
	d := NetDev{Name: n.Name, Device: n.Device, Hwaddr: string(n.Hardware), Mtu: n.MTU, Primary: primary}
	if n.Network != nil {
		d.Network, d.Domain = string(n.Network.Name), n.Network.Domain
	}
	if n.Address.IsValid() {
		d.Ipaddr, d.PrefixLen, d.IpCIDR, d.Netmask = n.Address.Addr().String(), n.Address.Bits(), n.Address.String(), netmask(n.Address)
	}
	if n.Gateway.IsValid() && primary {
		d.Gateway = n.Gateway.String()
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

// AllNodes lists every node that has an address, in the order of their names.
func (d Data) AllNodes() []Host {
	if d.all == nil {
		return nil
	}
	return d.all()
}

// SshHostKeys gives the node's SSH host keys; none, where they may not be held here.
func (d Data) SshHostKeys() []HostKey {
	if len(d.secrets.SSHHostKeys) == 0 && d.withheld != nil {
		*d.withheld = true
	}
	return d.secrets.SSHHostKeys
}

// Withheld tells whether a rendering with this data asked for secrets that are not held here.
func (d Data) Withheld() bool { return d.withheld != nil && *d.withheld }

func texts(addrs []netip.Addr) []string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
