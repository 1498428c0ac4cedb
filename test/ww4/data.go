package ww4

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// data is the dot of Warewulf's templates.
type data struct {
	Id, Hostname, BuildHost, BuildTime, BuildTimeUnix, BuildSource, Overlay string

	Ipaddr, IpCIDR, Netmask, Network, NetworkCIDR        string
	Ipaddr6, PrefixLen6, IpCIDR6, Network6, NetworkCIDR6 string
	Ipv6                                                 bool
	Dhcp                                                 overlay.DhcpService
	Nfs                                                  overlay.NfsService
	Ssh                                                  overlay.SshService
	Warewulf                                             overlay.WarewulfService
	Tftp                                                 overlay.TftpService
	Paths                                                overlay.ServerPaths
	AllNodes                                             []Node
	Node                                                 // all of its fields
	Container, ContainerName                             string
	ThisNode                                             *Node
}

// Node is a node with its profiles merged into it.
type Node struct {
	id             string
	Discoverable   Bool
	AssetKey       string
	Profiles       []string
	Comment        string
	ClusterName    string
	ImageName      string
	Ipxe           string
	RuntimeOverlay []string
	SystemOverlay  []string
	Kernel         *Kernel
	Ipmi           *Ipmi
	Init           string
	Root           string
	NetDevs        map[string]*NetDev
	Tags           map[string]string
	PrimaryNetDev  string
	Disks          map[string]*Disk
	FileSystems    map[string]*FileSystem
	Resources      map[string]any
}

// Id is the node's name.
func (n *Node) Id() string { return n.id }

// DiskList lists the disks by name.
func (n *Node) DiskList() []*Disk { return sorted(n.Disks) }

// FileSystemList lists the file systems by name.
func (n *Node) FileSystemList() []*FileSystem { return sorted(n.FileSystems) }

// Kernel is the node's kernel.
type Kernel struct {
	Version string
	Args    []string
}

// Ipmi is the node's BMC.
type Ipmi struct {
	UserName, Password          string
	Ipaddr, Gateway, Netmask    net.IP
	Port, Interface, EscapeChar string
	Write                       Bool
	Template                    string
	Tags                        map[string]string
}

// NetDev is a network device.
type NetDev struct {
	Type       string
	OnBoot     Bool
	Device     string
	Hwaddr     string
	Ipaddr     net.IP
	Netmask    net.IP
	Gateway    net.IP
	Ipaddr6    net.IP
	PrefixLen6 string
	Gateway6   net.IP
	MTU        string
	Tags       map[string]string

	primary bool
}

// Primary tells whether it is the primary one.
func (d *NetDev) Primary() bool { return d.primary }

// IpCIDR is the address with its mask. Warewulf writes "<nil>" where there is none: an exception that is made for templates
// which ask whether there is one.
func (d *NetDev) IpCIDR() string {
	if d.Ipaddr == nil || d.Netmask == nil || d.Ipaddr.IsUnspecified() || d.Netmask.IsUnspecified() {
		return ""
	}
	return (&net.IPNet{IP: d.Ipaddr, Mask: net.IPMask(d.Netmask)}).String()
}

// IpCIDR6 is the IPv6 address with its prefix.
func (d *NetDev) IpCIDR6() string { return cidr6(d.Ipaddr6.String(), d.PrefixLen6, false) }

// Bool is a truth in words.
type Bool string

// Bool is false unless it is true.
func (b Bool) Bool() bool { return b.or(false) }

// BoolDefaultTrue is true unless it is false.
func (b Bool) BoolDefaultTrue() bool { return b.or(true) }

func (b Bool) or(undecided bool) bool {
	switch s := strings.ToLower(string(b)); s {
	case "":
		return undecided
	case "yes":
		return true
	case "no", "unset", "delete", "undef", "--", "nil", "0.0.0.0":
		return false
	default:
		v, err := strconv.ParseBool(s)
		return v || err != nil && undecided
	}
}

// Disk is a disk.
type Disk struct {
	id         string
	wipe       *bool
	Partitions map[string]*Partition
}

// Id is the disk's device.
func (d *Disk) Id() string { return d.id }

// WipeTable tells whether the disk is wiped.
func (d *Disk) WipeTable() bool { return d.wipe != nil && *d.wipe }

// PartitionList lists the partitions, those with numbers first.
func (d *Disk) PartitionList() []*Partition {
	all := sorted(d.Partitions)
	slices.SortStableFunc(all, func(a, b *Partition) int {
		x, _ := strconv.Atoi(a.Number)
		y, _ := strconv.Atoi(b.Number)
		if x == 0 || y == 0 {
			return cmp.Compare(y, x)
		}
		return cmp.Compare(x, y)
	})
	return all
}

// Partition is a partition.
type Partition struct {
	id                                        string
	Number, SizeMiB, StartMiB, TypeGuid, Guid string
	wipe, exist, resize                       *bool
}

// Id is the partition's label.
func (p *Partition) Id() string { return p.id }

// WipePartitionEntry tells whether its entry may be replaced.
func (p *Partition) WipePartitionEntry() bool { return p.wipe != nil && *p.wipe }

// ShouldExist tells whether it is made.
func (p *Partition) ShouldExist() bool { return p.exist != nil && *p.exist }

// Resize tells whether its size may change.
func (p *Partition) Resize() bool { return p.resize != nil && *p.resize }

// FileSystem is a file system.
type FileSystem struct {
	id                        string
	Format, Path, Label, Uuid string
	wipe                      *bool
	Options                   []string
	MountOptions              string
}

// Id is the device of the file system.
func (f *FileSystem) Id() string { return f.id }

// WipeFileSystem tells whether it is made anew.
func (f *FileSystem) WipeFileSystem() bool { return f.wipe != nil && *f.wipe }

// data gathers what templates see for a node. One that does not exist is the server itself.
func (w *World) data(name string) (*data, error) {
	s := w.Server
	d := &data{
		Id: name, Hostname: name, BuildHost: w.Host, BuildTime: w.Now.Format("01-02-2006 15:04:05 MST"), BuildTimeUnix: strconv.FormatInt(w.Now.Unix(), 10),
		Ipaddr: s.Ipaddr, IpCIDR: cidr4(s.Ipaddr, s.Netmask), Netmask: s.Netmask, Network: s.Network, NetworkCIDR: cidr4(s.Network, s.Netmask),
		Ipaddr6: s.Ipaddr6, PrefixLen6: s.PrefixLen6, IpCIDR6: cidr6(s.Ipaddr6, s.PrefixLen6, false), NetworkCIDR6: cidr6(s.Ipaddr6, s.PrefixLen6, true), Ipv6: s.Ipaddr6 != "",
		Dhcp: s.Dhcp, Nfs: s.Nfs, Ssh: s.Ssh, Warewulf: s.Warewulf, Tftp: s.Tftp, Paths: s.Paths,
	}
	d.Network6, _, _ = strings.Cut(d.NetworkCIDR6, "/")
	for _, id := range slices.Sorted(maps.Keys(w.Nodes.Nodes)) {
		m, _, _, err := w.Nodes.Merged(id)
		if err != nil {
			return nil, err
		}
		d.AllNodes = append(d.AllNodes, *node(m))
	}
	slices.SortStableFunc(d.AllNodes, func(a, b Node) int { return cmp.Compare(a.ClusterName, b.ClusterName) })
	if w.Nodes.Nodes[name] == nil {
		d.Id, d.Hostname = w.Host, w.Host
		d.Node = Node{id: w.Host, ClusterName: w.Host, Kernel: &Kernel{}, Ipmi: &Ipmi{}}
	} else {
		m, _, _, err := w.Nodes.Merged(name)
		if err != nil {
			return nil, err
		}
		d.Node = *node(m)
	}
	d.ThisNode, d.Container, d.ContainerName = &d.Node, d.ImageName, d.ImageName
	return d, nil
}

func node(m warewulf.Merged) *Node {
	n := &Node{
		id: m.Name, Discoverable: Bool(m.Discoverable), AssetKey: m.AssetKey, Profiles: m.Profiles, Comment: m.Comment, ClusterName: m.ClusterName,
		ImageName: m.ImageName, Ipxe: m.IPXE, RuntimeOverlay: m.RuntimeOverlay, SystemOverlay: m.SystemOverlay, Kernel: &Kernel{}, Ipmi: &Ipmi{},
		Init: m.Init, Root: m.Root, NetDevs: map[string]*NetDev{}, Tags: m.Tags, PrimaryNetDev: m.PrimaryNetDev, Disks: map[string]*Disk{},
		FileSystems: map[string]*FileSystem{}, Resources: m.Resources,
	}
	if k := m.Kernel; k != nil {
		n.Kernel = &Kernel{k.Version, k.Args}
	}
	if i := m.IPMI; i != nil {
		n.Ipmi = &Ipmi{
			i.UserName, i.Password, address(i.IPAddr), address(i.Gateway), address(i.Netmask), i.Port, i.Interface, i.EscapeChar, Bool(i.Write), i.Template, i.Tags,
		}
	}
	for name, d := range m.NetDevs {
		n.NetDevs[name] = &NetDev{
			d.Type, Bool(d.OnBoot), d.Device, d.Hwaddr, address(d.IPAddr), address(d.Netmask), address(d.Gateway), address(d.IPAddr6), d.PrefixLen6,
			address(d.Gateway6), d.MTU, d.Tags, name == m.PrimaryNetDev,
		}
	}
	for name, d := range m.Disks {
		disk := &Disk{name, d.WipeTable, map[string]*Partition{}}
		for label, p := range d.Partitions {
			disk.Partitions[label] = &Partition{label, p.Number, p.SizeMiB, p.StartMiB, p.TypeGUID, p.GUID, p.WipePartitionEntry, p.ShouldExist, p.Resize}
		}
		n.Disks[name] = disk
	}
	for name, f := range m.FileSystems {
		n.FileSystems[name] = &FileSystem{name, f.Format, f.Path, f.Label, f.UUID, f.WipeFileSystem, f.Options, f.MountOptions}
	}
	return n
}

func cidr4(ip, mask string) string {
	n := net.IPNet{IP: net.ParseIP(ip), Mask: net.IPMask(net.ParseIP(mask))}
	if n.IP == nil || n.Mask == nil {
		return ""
	}
	return n.String()
}

func cidr6(ip, bits string, network bool) string {
	addr, n, err := net.ParseCIDR(ip + "/" + bits)
	switch {
	case err != nil || addr.To4() != nil:
		return ""
	case network:
		return n.String()
	}
	return addr.String() + "/" + bits
}
