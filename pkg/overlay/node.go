package overlay

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Node is what templates are told of a node. The names are those that Warewulf's administrators write, where it has the
// same thing: Dot gives each of these fields to templates under its name. Where nothing is decided, a field is empty.
//
// A Node must not be changed once it is given to a rendering.
type Node struct {
	Name           string // what templates call Id
	Discoverable   Bool
	AssetKey       string
	Profiles       []string
	Comment        string
	ClusterName    string // the part of the machine room that the node belongs to
	ImageName      string
	Ipxe           string
	RuntimeOverlay []string
	SystemOverlay  []string
	Kernel         Kernel
	Ipmi           Ipmi
	Init           string
	Root           string
	NetDevs        map[string]*NetDev
	PrimaryNetDev  string // the name among NetDevs of the device that it boots from; "" if there is none
	Tags           map[string]string
	Disks          map[string]*Disk       // by device
	FileSystems    map[string]*FileSystem // by device
	Resources      map[string]any         // what YAML can say: maps, lists, texts, numbers, booleans

	// What Warewulf does not have.
	Fqdn     string // the name with its network's domain, if that has one
	Groups   []string
	Roles    []string
	Rack     string
	Position string
	Zone     string
	UUID     string
	Domain   string   // of the network of its primary device, or of what that is a port of; the next two likewise
	Dns      []string // addresses
	Ntp      []string
	SshKeys  []string // lines of root's authorized_keys

	SSHAuthority catalog.SSHAuthority // by which its SSH host keys are certified, and for which names; none where nobody may

	secrets map[string]catalog.Secret
}

// Kernel is the node's kernel in templates.
type Kernel struct {
	Version string // of the one that it boots; "" without an image
	Args    []string
}

// Bool is a yes or no that nobody may have decided: "true", "false" or "". It may be another of Warewulf's words for them.
type Bool string

// Bool tells whether it was decided to be so.
func (b Bool) Bool() bool { return b.or(false) }

// BoolDefaultTrue tells whether it was not decided to be otherwise.
func (b Bool) BoolDefaultTrue() bool { return b.or(true) }

func (b Bool) or(undecided bool) bool {
	switch text := strings.ToLower(string(b)); text {
	case "yes":
		return true
	case "no", "unset", "delete", "undef", "--", "nil", "0.0.0.0":
		return false
	default:
		if v, err := strconv.ParseBool(text); err == nil {
			return v
		}
		return undecided
	}
}

// NetDev is a network device in templates. Addresses that are not decided are nil; they print as "<nil>", as Warewulf's
// do.
type NetDev struct {
	Type       string // one of catalog.NetTypes
	OnBoot     Bool
	Device     string // "" if it is matched by Hwaddr
	Hwaddr     string
	Ipaddr     net.IP
	Netmask    net.IP // 255.255.255.0
	Gateway    net.IP // its own, or its network's if it is the primary device or that is a port of it, so that a node has one default route
	Ipaddr6    net.IP
	PrefixLen6 string
	Gateway6   net.IP // likewise
	MTU        string
	Tags       map[string]string

	// What Warewulf does not have.
	Name      string
	Network   string // the declared network that it is in
	Domain    string // of that network
	PrefixLen int    // of Ipaddr

	IsPrimary bool // what Primary tells
}

// Primary tells whether the node boots from this device.
func (n *NetDev) Primary() bool { return n.IsPrimary }

// Mtu is MTU under a name that reads like the others.
func (n *NetDev) Mtu() string { return n.MTU }

// IpCIDR is the address with the length of its prefix, such as 10.0.0.1/16; "" without an address or a mask.
func (n *NetDev) IpCIDR() string {
	if len(n.Ipaddr) == 0 || len(n.Netmask) == 0 || n.Ipaddr.IsUnspecified() || n.Netmask.IsUnspecified() {
		return ""
	}
	return (&net.IPNet{IP: n.Ipaddr, Mask: net.IPMask(n.Netmask)}).String()
}

// IpCIDR6 is the IPv6 address with the length of its prefix; "" without one or the other.
func (n *NetDev) IpCIDR6() string {
	if n.Ipaddr6 == nil || n.PrefixLen6 == "" {
		return ""
	}
	return n.Ipaddr6.String() + "/" + n.PrefixLen6
}

// Ipmi is the node's BMC in templates.
type Ipmi struct {
	UserName   string
	Ipaddr     net.IP
	Netmask    net.IP
	Gateway    net.IP
	Port       string
	Interface  string
	EscapeChar string
	Template   string
	Write      Bool
	Tags       map[string]string

	password *catalog.Secret // sealed
	plain    string          // or in clear, where there is no cluster
	open     func(Ipmi) (string, error)
}

// WithPassword is the BMC with a password in clear: nodes.conf has them so.
func (i Ipmi) WithPassword(plain string) Ipmi {
	i.plain = plain
	return i
}

// Format prints the BMC's address: whatever the verb, it shows no password.
func (i Ipmi) Format(f fmt.State, _ rune) { io.WriteString(f, i.Ipaddr.String()) }

// Password gives the BMC's password, "" if there is none. Where it may not be held, the template's file is not made.
func (i Ipmi) Password() (string, error) {
	if i.open == nil {
		return "", nil
	}
	return i.open(i)
}
