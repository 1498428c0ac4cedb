package overlay

import (
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// NodeOf is what templates are told of a node of a catalog.
func NodeOf(c *catalog.Catalog, r *catalog.Resolved) *Node {
	s := &r.Settings
	n := &Node{
		Name: string(r.Node.Name), Fqdn: string(r.Node.Name), Discoverable: decided(s.Discover), AssetKey: value(s.Asset), Comment: value(s.Comment),
		ClusterName: value(s.Cluster), ImageName: value(s.Image), Ipxe: value(s.IPXE), RuntimeOverlay: s.Overlays.Runtime, SystemOverlay: s.Overlays.System,
		Kernel: kernel(r), Ipmi: ipmi(s.BMC), Init: value(s.Init), Root: value(s.Root), NetDevs: make(map[string]*NetDev, len(r.Nets)), Tags: s.Tags,
		Disks: disks(s.Disks), FileSystems: fileSystems(s.Filesystems), Resources: resources(s.Resources),
		Groups: s.Groups, Roles: s.Roles, Rack: value(s.Rack), Position: value(s.Position), Zone: value(s.Zone), UUID: value(s.UUID), SshKeys: s.SSHKeys,
		secrets: s.Secrets,
	}
	for _, p := range r.Node.Profiles {
		n.Profiles = append(n.Profiles, string(p))
	}
	p := foremost(r)
	for i := range r.Nets {
		d := &r.Nets[i]
		n.NetDevs[d.Name] = netDev(d, s.Nets[d.Name], d == r.Primary, d == p)
	}
	if p != nil {
		n.PrimaryNetDev = r.Primary.Name
		if p.Network != nil {
			n.Domain, n.Dns, n.Ntp = p.Network.Domain, texts(p.Network.DNS), texts(p.Network.NTP)
			if n.Domain != "" && !strings.Contains(n.Name, ".") {
				n.Fqdn = n.Name + "." + n.Domain
			}
			if key := p.Network.SSHAuthority; key != "" {
				n.SSHAuthority = catalog.SSHAuthority{Network: p.Network.Name, Key: key, Hosts: r.HostNames()}
			}
		}
	}
	return n
}

// foremost is the device that a node is known by once it runs: the primary one, or if that is a port of a bond or a
// bridge, the one that it is a port of.
func foremost(r *catalog.Resolved) *catalog.ResolvedNet {
	p := r.Primary
	for range 2 { // a port of a bond that is a port of a bridge
		if p == nil {
			break
		}
		master := r.Settings.Nets[p.Name].Tags["master"]
		i := slices.IndexFunc(r.Nets, func(n catalog.ResolvedNet) bool { return master != "" && cmp.Or(n.Device, n.Name) == master })
		if i < 0 {
			break
		}
		p = &r.Nets[i]
	}
	return p
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

func netDev(n *catalog.ResolvedNet, s catalog.NetDev, primary, foremost bool) *NetDev {
	d := &NetDev{
		Name: n.Name, Type: "ethernet", OnBoot: decided(s.OnBoot), Device: n.Device, Hwaddr: string(n.Hardware), Tags: s.Tags, IsPrimary: primary,
		Gateway6: ip(n.Gateway6, foremost || s.Gateway6 != nil), Gateway: ip(n.Gateway, foremost || s.Gateway != nil),
	}
	if s.Type != nil {
		d.Type = *s.Type
	}
	if n.MTU != 0 {
		d.MTU = strconv.Itoa(n.MTU)
	}
	if n.Network != nil {
		d.Network, d.Domain = string(n.Network.Name), n.Network.Domain
	}
	if a := n.Address; a.IsValid() {
		d.Ipaddr, d.PrefixLen, d.Netmask = ip(a.Addr(), true), a.Bits(), net.IP(net.CIDRMask(a.Bits(), a.Addr().BitLen()))
	} else if s.Netmask != nil {
		d.Netmask = ip(*s.Netmask, true)
		d.PrefixLen, _ = catalog.MaskLength(*s.Netmask)
	}
	if a := n.Address6; a.IsValid() {
		d.Ipaddr6, d.PrefixLen6 = ip(a.Addr(), true), strconv.Itoa(a.Bits())
	}
	return d
}

func ipmi(b catalog.BMC) Ipmi {
	i := Ipmi{
		UserName: value(b.Username), Ipaddr: ip(value(b.Address), true), Netmask: ip(value(b.Netmask), true), Gateway: ip(value(b.Gateway), true),
		Interface: value(b.Interface), EscapeChar: value(b.Escape), Template: value(b.Template), Write: decided(b.Write), Tags: b.Tags, password: b.Password,
	}
	if b.Port != nil {
		i.Port = strconv.Itoa(*b.Port)
	}
	return i
}

func disks(all map[string]catalog.Disk) map[string]*Disk {
	out := make(map[string]*Disk, len(all))
	for device, s := range all {
		d := &Disk{Device: device, WipeTable: value(s.Wipe), Partitions: make(map[string]*Partition, len(s.Partitions))}
		for label, p := range s.Partitions {
			d.Partitions[label] = &Partition{
				Label: label, Number: decimal(p.Number), SizeMiB: decimal(p.Size), StartMiB: decimal(p.Start), TypeGuid: value(p.Type), Guid: value(p.GUID),
				WipePartitionEntry: value(p.Wipe), ShouldExist: p.Exists == nil || *p.Exists, Resize: value(p.Resize),
			}
		}
		out[device] = d
	}
	return out
}

func fileSystems(all map[string]catalog.Filesystem) map[string]*FileSystem {
	out := make(map[string]*FileSystem, len(all))
	for device, f := range all {
		out[device] = &FileSystem{
			Device: device, Format: value(f.Format), Path: value(f.Path), WipeFileSystem: value(f.Wipe), Label: value(f.Label), Uuid: value(f.UUID),
			Options: f.Options, MountOptions: value(f.Mount),
		}
	}
	return out
}

func resources(all map[string]catalog.Resource) map[string]any {
	out := make(map[string]any, len(all))
	for k, r := range all {
		out[k] = plain(r.Value())
	}
	return out
}

// plain makes the numbers of a resource such as templates compare and count with. One that neither kind can hold stays
// the text that it is.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}

// decimal is the text of a number that somebody decided and that is not 0, which means that nobody did.
func decimal[N int | int64](n *N) string {
	if n == nil || *n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*n), 10)
}

// ip is an address as templates have it, if it is wanted and there is one.
func ip(a netip.Addr, wanted bool) net.IP {
	if !wanted || !a.IsValid() {
		return nil
	}
	return slices.Clone(a.AsSlice())
}

func texts(addrs []netip.Addr) []string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
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
