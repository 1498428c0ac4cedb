package view

import (
	"cmp"
	"maps"
	"net"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

// Node is what templates see of a node of nodes.conf. What was not said stays empty: only Warewulf's own names are filled.
func Node(m warewulf.Merged) *overlay.Node {
	n := &overlay.Node{
		Name: m.Name, Discoverable: overlay.Bool(m.Discoverable), AssetKey: m.AssetKey, Profiles: m.Profiles, Comment: m.Comment,
		ClusterName: m.ClusterName, ImageName: m.ImageName, Ipxe: m.IPXE, RuntimeOverlay: m.RuntimeOverlay, SystemOverlay: m.SystemOverlay,
		Init: m.Init, Root: m.Root, PrimaryNetDev: m.PrimaryNetDev, Tags: m.Tags, Resources: m.Resources, Fqdn: m.Name, Groups: m.Groups,
	}
	if k := m.Kernel; k != nil {
		n.Kernel = overlay.Kernel{Version: k.Version, Args: k.Args}
	}
	if i := m.IPMI; i != nil {
		n.Ipmi = overlay.Ipmi{
			UserName: i.UserName, Ipaddr: address(i.IPAddr), Netmask: address(i.Netmask), Gateway: address(i.Gateway), Port: i.Port,
			Interface: i.Interface, EscapeChar: i.EscapeChar, Template: i.Template, Write: overlay.Bool(i.Write), Tags: i.Tags,
		}.WithPassword(i.Password)
	}
	n.NetDevs = each(m.NetDevs, func(name string, d *warewulf.NetDev) *overlay.NetDev {
		return &overlay.NetDev{
			Type: d.Type, OnBoot: overlay.Bool(d.OnBoot), Device: d.Device, Hwaddr: d.Hwaddr, Ipaddr: address(d.IPAddr), Netmask: address(d.Netmask),
			Gateway: address(d.Gateway), Ipaddr6: address(d.IPAddr6), PrefixLen6: d.PrefixLen6, Gateway6: address(d.Gateway6), MTU: d.MTU, Tags: d.Tags,
			Name: name, PrefixLen: length(d.Netmask), IsPrimary: name == m.PrimaryNetDev,
		}
	})
	n.Disks = each(m.Disks, func(name string, d *warewulf.Disk) *overlay.Disk {
		return &overlay.Disk{Device: name, WipeTable: truth(d.WipeTable, false), Partitions: each(d.Partitions, partition)}
	})
	n.FileSystems = each(m.FileSystems, func(name string, f *warewulf.FileSystem) *overlay.FileSystem {
		return &overlay.FileSystem{
			Device: name, Format: f.Format, Path: f.Path, WipeFileSystem: truth(f.WipeFileSystem, false), Label: f.Label, Uuid: f.UUID,
			Options: f.Options, MountOptions: f.MountOptions,
		}
	})
	return n
}

func partition(label string, p *warewulf.Partition) *overlay.Partition {
	return &overlay.Partition{
		Label: label, Number: p.Number, SizeMiB: p.SizeMiB, StartMiB: p.StartMiB, TypeGuid: p.TypeGUID, Guid: p.GUID,
		WipePartitionEntry: truth(p.WipePartitionEntry, false), ShouldExist: truth(p.ShouldExist, false), Resize: truth(p.Resize, false),
	}
}

// Host is the machine that renders, as templates see it which are made for no node of nodes.conf.
func Host(name string) *overlay.Node {
	return &overlay.Node{Name: name, ClusterName: name, Fqdn: name}
}

// each makes a map of another; entries that say nothing are as empty ones.
func each[V, W any](from map[string]*V, as func(name string, v *V) *W) map[string]*W {
	out := make(map[string]*W, len(from))
	for name, v := range from {
		if v == nil {
			v = new(V)
		}
		out[name] = as(name, v)
	}
	return out
}

// address is in the long form, as Go's net package reads it from text.
func address(ip warewulf.IP) net.IP {
	a := ip.Addr()
	if !a.IsValid() {
		return nil
	}
	long := a.As16()
	return long[:]
}

// length is that of a netmask's prefix; 0 for none, and for one with holes.
func length(mask warewulf.IP) int {
	n, _ := net.IPMask(address(mask).To4()).Size()
	return n
}

// Fleet are all nodes of a nodes.conf, for templates that look at others.
type Fleet struct {
	nodes []*overlay.Node
	at    map[string]int
}

// NewFleet merges all nodes. Resources that do not fit together are fault.Invalid.
func NewFleet(nodes *warewulf.Nodes) (*Fleet, error) {
	f := &Fleet{at: make(map[string]int, len(nodes.Nodes))}
	for _, name := range slices.Sorted(maps.Keys(nodes.Nodes)) {
		m, _, _, err := nodes.Merged(name)
		if err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, Node(m))
	}
	slices.SortStableFunc(f.nodes, func(a, b *overlay.Node) int { return cmp.Compare(a.ClusterName, b.ClusterName) })
	for i, n := range f.nodes {
		f.at[n.Name] = i
	}
	return f, nil
}

// Find returns a node by its name.
func (f *Fleet) Find(name string) (*overlay.Node, bool) {
	i, ok := f.at[name]
	if !ok {
		return nil, false
	}
	return f.nodes[i], true
}

// Len is how many nodes there are.
func (f *Fleet) Len() int { return len(f.nodes) }

// Common is nothing, for the nodes are what they are.
func (f *Fleet) Common() any { return nil }

// Stamp is the node itself, which nobody changes.
func (f *Fleet) Stamp(i int) any { return f.nodes[i] }

// Node returns a node, by cluster, then by name.
func (f *Fleet) Node(i int) *overlay.Node { return f.nodes[i] }
