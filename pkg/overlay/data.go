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
	Id            string // the node's name
	Hostname      string // up to its first dot
	Fqdn          string // the name with its network's domain, if that has one
	ClusterName   string // the part of the machine room that the node belongs to; if nobody decides one, MeshName
	MeshName      string // the cluster's own name
	Comment       string
	Profiles      []string
	Groups        []string
	Roles         []string
	Rack          string
	Position      string
	Zone          string
	AssetKey      string
	UUID          string
	Image         string
	ImageName     string // the same: Warewulf's name for it
	Kernel        Kernel
	Init          string
	Root          string
	Tags          map[string]string
	NetDevs       map[string]NetDev
	Primary       string // the name among NetDevs of the device it boots from; "" if there is none
	PrimaryNetDev string // the same: Warewulf's name for it
	Ipmi          Ipmi
	Disks         map[string]Disk       // by device
	FileSystems   map[string]FileSystem // by device
	Resources     map[string]any        // what YAML can say: maps, lists, texts, numbers, booleans
	Dns           []string              // of the primary device's network
	Ntp           []string
	Domain        string
	SshKeys       []string // lines of root's authorized_keys
	Revision      uint64

	secrets *keeper
	all     func() []Host
}

// Kernel is the node's kernel in templates.
type Kernel struct {
	Version string // of the one that it boots; "" without an image
	Args    []string
}

// ThisNode is the data itself: templates of Warewulf ask it for lists.
func (d Data) ThisNode() Data { return d }

// Host is a node with an address, for hosts files.
type Host struct {
	Id      string
	Names   []string
	Address string
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
		Id: string(r.Node.Name), Fqdn: string(r.Node.Name), ClusterName: c.Cluster.Name, MeshName: c.Cluster.Name, Comment: value(s.Comment),
		Groups: s.Groups, Roles: s.Roles, Rack: value(s.Rack), Position: value(s.Position), Zone: value(s.Zone), AssetKey: value(s.Asset), UUID: value(s.UUID),
		Image: value(s.Image), ImageName: value(s.Image), Kernel: kernel(r), Init: value(s.Init), Root: value(s.Root), Tags: s.Tags, NetDevs: map[string]NetDev{},
		Disks: disks(s.Disks), FileSystems: fileSystems(s.Filesystems), Resources: resources(s.Resources), SshKeys: s.SSHKeys, Revision: uint64(c.Revision),
		secrets: &keeper{Secrets: secrets, named: s.Secrets}, all: hosts,
	}
	d.Hostname, _, _ = strings.Cut(d.Id, ".")
	d.Ipmi = ipmi(s.BMC, d.secrets)
	if s.Cluster != nil {
		d.ClusterName = *s.Cluster
	}
	for _, p := range r.Node.Profiles {
		d.Profiles = append(d.Profiles, string(p))
	}
	for i := range r.Nets {
		n := &r.Nets[i]
		d.NetDevs[n.Name] = netDev(n, s.Nets[n.Name], n == r.Primary)
	}
	if p := r.Primary; p != nil {
		d.Primary, d.PrimaryNetDev = p.Name, p.Name
		if p.Network != nil {
			d.Domain, d.Dns, d.Ntp = p.Network.Domain, texts(p.Network.DNS), texts(p.Network.NTP)
			d.Fqdn = names(r.Node.Name, p.Network)[0]
		}
	}
	return d
}

func kernel(r *catalog.Resolved) Kernel {
	k := Kernel{Version: value(r.Settings.Kernel.Version), Args: r.Settings.Kernel.Args}
	if r.Image != nil {
		if version, _, err := r.Kernel(); err == nil { // else the boot says what is wrong
			k.Version = version
		}
	}
	return k
}

// AllNodes lists every node that has an address, in the order of their names.
func (d Data) AllNodes() []Host {
	if d.all == nil {
		return nil
	}
	return d.all()
}

func texts(addrs []netip.Addr) []string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}
