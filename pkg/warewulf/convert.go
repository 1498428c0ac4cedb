package warewulf

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Converted is what a configuration becomes in wulfmesh: the same profiles and nodes, unmerged, for profiles merge here as
// there (docs/adr/0020), and a network for the server's own.
type Converted struct {
	Networks []catalog.Network
	Profiles []catalog.Profile
	Nodes    []catalog.Node
	Images   []string // that are named, in order
	Overlays []string // likewise; those that have no counterpart are left out

	Hazards []Hazard // what could not be taken over as it is
}

// NetworkName is what the network of warewulf.conf is called.
const NetworkName = "provision"

// The hazards of a conversion, besides those of Check.
const (
	RootDevice    HazardID = "root-device"
	RootInitramfs HazardID = "root-initramfs"
	OverlayGone   HazardID = "overlay-without-counterpart"
	ValueLeftOut  HazardID = "value-left-out"
	NodeLeftOut   HazardID = "left-out"
	PoolLeftOut   HazardID = "pool-left-out"
	AddressNoNet  HazardID = "address-without-network"
)

// doneElsewhere are the overlays of Warewulf whose work something else does here, and what does it.
var doneElsewhere = map[string]string{
	"wwinit": "stage one", "generic": "stage one", "wwclient": "wulf-agent", "wwclient.x86_64": "wulf-agent", "wwclient.aarch64": "wulf-agent",
	"debian.interfaces": "ifupdown",
}

// networkd is the overlay that sets a node's network up if no other does; others do it as well.
const networkd = "systemd.networkd"

var otherNetworks = []string{"NetworkManager", "ifcfg", "ifupdown", "debian.interfaces", "wicked", "netplan"}

// Convert makes of Warewulf's configuration what wulfmesh declares. Config may be nil. Overlays are those that exist in
// wulfmesh, or will when the site's own are imported; all others are left out of lists, with a hazard. Base are the
// overlays that do here what wwinit and generic did there, and take their place.
func Convert(nodes *Nodes, config *Config, overlays, base []string) *Converted {
	nodes = nodes.said(false) // Check tells of the words that are forgotten
	c := &converter{out: &Converted{}, overlays: overlays, base: base, nodes: nodes}
	c.file = ConfigFile
	c.network(config)
	c.file = NodesFile
	for _, name := range slices.Sorted(maps.Keys(nodes.Profiles)) {
		if !c.named("nodeprofiles."+name, name) {
			continue
		}
		p := nodes.Profiles[name]
		s := c.settings("nodeprofiles."+name, p)
		c.out.Profiles = append(c.out.Profiles, catalog.Profile{Name: catalog.ProfileName(name), Profiles: c.profiles("nodeprofiles."+name, p.Profiles), Settings: s})
	}
	for _, name := range slices.Sorted(maps.Keys(nodes.Nodes)) {
		if !c.named("nodes."+name, name) {
			continue
		}
		n := nodes.Nodes[name]
		s := c.settings("nodes."+name, &n.Profile)
		if n.Discoverable != "" {
			s.Discover = new(n.Discoverable.True(false))
		}
		s.Asset = text(n.AssetKey)
		list := c.profiles("nodes."+name, n.Profiles)
		if list == nil {
			list = []catalog.ProfileName{} // a node without profiles has none there; nil would be given the default one
		}
		c.out.Nodes = append(c.out.Nodes, catalog.Node{Name: catalog.NodeName(name), Profiles: list, Settings: s})
	}
	c.out.Images, c.out.Overlays = sorted(c.out.Images), sorted(c.out.Overlays)
	c.out.Hazards = c.found()
	return c.out
}

type converter struct {
	hazards
	out      *Converted
	overlays []string
	base     []string
	nodes    *Nodes
	net      netip.Prefix // of the server; invalid if it is not known
}

func (c *converter) say(id HazardID, s Severity, subject, fix, what string, args ...any) {
	c.add(id, s, subject, Position{}, fmt.Sprintf(what, args...), fix)
}

func (c *converter) named(subject, name string) bool {
	if _, err := catalog.ParseName[string]("node", name); err != nil {
		c.say(NodeLeftOut, Error, subject, "rename it in nodes.conf", "%q is not a name here", name)
		return false
	}
	return true
}

// network makes a network of the server's own.
func (c *converter) network(config *Config) {
	if config == nil {
		return
	}
	if !config.IPAddr.Addr().Is4() || !config.Netmask.Addr().Is4() {
		c.say(AddressNoNet, Warning, "ipaddr", "declare the network by hand: wulf network add NAME --cidr …", "warewulf.conf does not say in which network the server is")
		return
	}
	length, ok := catalog.MaskLength(config.Netmask.Addr())
	if !ok {
		return // Check says so
	}
	c.net = netip.PrefixFrom(config.IPAddr.Addr(), length).Masked()
	n := catalog.Network{Name: NetworkName, Prefix: c.net, Comment: config.Comment}
	if length, err := strconv.Atoi(config.PrefixLen6); err == nil && config.IPAddr6.Addr().Is6() {
		n.Prefix6 = netip.PrefixFrom(config.IPAddr6.Addr(), length).Masked()
	}
	if d := config.DHCP; d != nil {
		if d.Enabled != nil && !*d.Enabled {
			n.DHCP = catalog.DHCPOff
		}
		n.Pool = c.pool(d)
	}
	c.out.Networks = append(c.out.Networks, n)
}

// pool is the range of DHCP, if no node has an address in it: here it is for machines that are not known.
func (c *converter) pool(d *DHCP) catalog.Range {
	r := catalog.Range{First: d.RangeStart.Addr(), Last: d.RangeEnd.Addr()}
	if !r.First.Is4() || !r.Last.Is4() || !c.net.Contains(r.First) || !c.net.Contains(r.Last) || r.Last.Less(r.First) {
		return catalog.Range{}
	}
	for _, name := range slices.Sorted(maps.Keys(c.nodes.Nodes)) {
		for _, dev := range c.nodes.Nodes[name].NetDevs {
			if dev != nil && r.Contains(dev.IPAddr.Addr()) {
				c.say(PoolLeftOut, Warning, "dhcp", "give unknown machines another range: wulf network set "+NetworkName+" --pool FIRST-LAST",
					"node %s has an address in the range %s, which here is for machines that are not known; no pool is made", name, r)
				return catalog.Range{}
			}
		}
	}
	return r
}

// profiles drops what does not exist, as Warewulf does with a warning.
func (c *converter) profiles(subject string, names []string) []catalog.ProfileName {
	var out []catalog.ProfileName
	for _, name := range names {
		if _, ok := c.nodes.Profiles[strings.TrimPrefix(name, "~")]; !ok || slices.Contains(out, catalog.ProfileName(name)) {
			continue // Check tells of it
		}
		out = append(out, catalog.ProfileName(name))
	}
	return out
}

func (c *converter) settings(subject string, p *Profile) catalog.Settings {
	s := catalog.Settings{
		Image: text(p.ImageName), Init: text(p.Init), Primary: text(p.PrimaryNetDev), Cluster: text(p.ClusterName), Comment: text(p.Comment),
		Groups: p.Groups,
	}
	if p.ImageName != "" {
		c.out.Images = append(c.out.Images, p.ImageName)
	}
	if p.IPXE != "" && p.IPXE != "default" {
		s.IPXE = text(p.IPXE)
	}
	c.root(subject, p, &s)
	if k := p.Kernel; k != nil {
		s.Kernel.Args, s.Kernel.Version = k.Args, text(k.Version) // by its path in the image too
	}
	s.Overlays.System = c.overlayList(subject+".system overlay", p.SystemOverlay)
	s.Overlays.Runtime = c.overlayList(subject+".runtime overlay", p.RuntimeOverlay)
	s.Tags = c.tags(subject+".tags", p.Tags)
	c.bmc(subject+".ipmi", p.IPMI, &s)
	for _, name := range slices.Sorted(maps.Keys(p.NetDevs)) {
		if d := p.NetDevs[name]; d != nil && c.named(subject+".network devices."+name, name) {
			put(&s.Nets, name, c.netDev(subject+".network devices."+name, d))
		}
	}
	for _, dev := range slices.Sorted(maps.Keys(p.Disks)) {
		if d := p.Disks[dev]; d != nil {
			put(&s.Disks, dev, c.disk(subject+".disks."+dev, d))
		}
	}
	for _, dev := range slices.Sorted(maps.Keys(p.FileSystems)) {
		if f := p.FileSystems[dev]; f != nil {
			put(&s.Filesystems, dev, catalog.Filesystem{
				Format: text(f.Format), Path: text(f.Path), Wipe: f.WipeFileSystem, Label: text(f.Label), UUID: text(f.UUID), Options: f.Options, Mount: text(f.MountOptions),
			})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Resources)) {
		r, err := catalog.NewResource(p.Resources[key])
		if _, bad := catalog.ParseName[string]("resource", key); err != nil || bad != nil {
			c.say(ValueLeftOut, Warning, subject+".resources."+key, "set it by hand: --resource KEY=JSON", "the resource cannot be taken over")
			continue
		}
		put(&s.Resources, key, r)
	}
	return s
}

// root: here a root is a tmpfs, a ramfs, or a device. Warewulf's initramfs is a ramfs, of whose drawbacks nobody knows a reason to
// keep them.
func (c *converter) root(subject string, p *Profile, s *catalog.Settings) {
	switch p.Root {
	case "":
	case catalog.RootTmpfs, catalog.RootRamfs:
		s.Root = text(p.Root)
	case "initramfs", "rootfs":
		s.Root = text(catalog.RootTmpfs)
		c.say(RootInitramfs, Note, subject+".root", "set ramfs if memory must not be limited: --root ramfs", "the root becomes a tmpfs")
	default:
		if !strings.HasPrefix(p.Root, "/dev/") {
			c.say(RootDevice, Error, subject+".root", "give tmpfs, ramfs, or a device below /dev", "root %s is none that a node can have", p.Root)
			return
		}
		s.Root = text(p.Root)
		c.say(RootDevice, Warning, subject+".root", "declare the file system on it with wipe_filesystem for the first boot, if it holds one; see docs/disks.md",
			"the root on %s is made anew at each boot, and only where nothing or an earlier root is", p.Root)
	}
}

// overlayList keeps the overlays that there are.
func (c *converter) overlayList(subject string, names []string) []string {
	var out []string
	for _, name := range names {
		bare := strings.TrimPrefix(name, "~")
		by, gone := doneElsewhere[bare]
		switch {
		case bare == name && (name == "wwinit" || name == "generic"):
			// Where the site says what sets the network up, a second one would get in its way.
			other := slices.ContainsFunc(otherNetworks, func(o string) bool {
				return slices.Contains(names, o) && slices.Contains(c.overlays, cmp.Or(doneElsewhere[o], o))
			})
			base := slices.DeleteFunc(slices.Clone(c.base), func(o string) bool { return o == networkd && other })
			for _, o := range base {
				if !slices.Contains(out, o) {
					out = append(out, o)
				}
			}
			c.say(OverlayGone, Note, subject, "nothing is to be done", "in place of overlay %s come %s", name, strings.Join(base, ", "))
		case slices.Contains(c.overlays, bare):
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
			c.out.Overlays = append(c.out.Overlays, bare)
		case gone:
			if !slices.Contains(out, by) && bare == name && slices.Contains(c.overlays, by) {
				out = append(out, by)
				c.out.Overlays = append(c.out.Overlays, by)
			}
			c.say(OverlayGone, Note, subject, "nothing is to be done", "overlay %s is not needed: %s does its work", bare, by)
		default:
			c.say(OverlayGone, Warning, subject, "import it first: wulf overlay import "+bare+" DIRECTORY, and run this again", "overlay %s is not here, and is left out", bare)
		}
	}
	return out
}

func (c *converter) tags(subject string, tags map[string]string) map[string]string {
	var out map[string]string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if _, err := catalog.ParseName[string]("tag", k); err != nil {
			c.say(ValueLeftOut, Warning, subject+"."+k, "give the tag another name", "a tag cannot be called %q here", k)
			continue
		}
		put(&out, k, tags[k])
	}
	return out
}

func (c *converter) bmc(subject string, b *IPMI, s *catalog.Settings) {
	if b == nil {
		return
	}
	s.BMC = catalog.BMC{
		Template: text(strings.TrimSuffix(b.Template, ".tmpl")), Address: addr(b.IPAddr), Netmask: addr(b.Netmask), Gateway: addr(b.Gateway),
		Port: c.number(subject+".port", b.Port), Username: text(b.UserName), Interface: text(b.Interface), Escape: text(b.EscapeChar), Write: truth(b.Write),
		Tags: c.tags(subject+".tags", b.Tags),
	}
	if b.Password != "" {
		s.BMC.Password = new(catalog.Secret(b.Password))
	}
}

func (c *converter) netDev(subject string, d *NetDev) catalog.NetDev {
	out := catalog.NetDev{
		Type: text(strings.ToLower(d.Type)), OnBoot: truth(d.OnBoot), Device: text(d.Device), Address: addr(d.IPAddr), Netmask: addr(d.Netmask), Gateway: addr(d.Gateway),
		Address6: addr(d.IPAddr6), Gateway6: addr(d.Gateway6), Prefix6: c.number(subject+".prefixlen6", d.PrefixLen6), MTU: c.number(subject+".mtu", d.MTU),
		Tags: c.tags(subject+".tags", d.Tags),
	}
	if d.Hwaddr != "" {
		if hw, err := catalog.ParseHardwareAddr(d.Hwaddr); err == nil {
			out.Hardware = &hw
		} // else Check tells of it
	}
	if out.Netmask != nil && out.Address != nil && c.net.IsValid() && c.net.Contains(*out.Address) {
		if length, ok := catalog.MaskLength(*out.Netmask); ok && length == c.net.Bits() {
			out.Netmask = nil // the network says the same
		}
	}
	return out
}

func (c *converter) disk(subject string, d *Disk) catalog.Disk {
	out := catalog.Disk{Wipe: d.WipeTable}
	for _, label := range slices.Sorted(maps.Keys(d.Partitions)) {
		p := d.Partitions[label]
		if p == nil {
			continue
		}
		at := subject + ".partitions." + label
		put(&out.Partitions, label, catalog.Partition{
			Number: c.number(at+".number", p.Number), Size: c.number64(at+".size_mib", p.SizeMiB), Start: c.number64(at+".start_mib", p.StartMiB),
			Type: text(p.TypeGUID), GUID: text(p.GUID), Wipe: p.WipePartitionEntry, Exists: p.ShouldExist, Resize: p.Resize,
		})
	}
	return out
}

func (c *converter) number(subject, s string) *int {
	if n := c.number64(subject, s); n != nil {
		return new(int(*n))
	}
	return nil
}

func (c *converter) number64(subject, s string) *int64 {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		c.say(ValueLeftOut, Warning, subject, "set it by hand", "%q is not a number, and is left out", s)
		return nil
	}
	return &n
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func addr(ip IP) *netip.Addr {
	if a := ip.Addr(); a.IsValid() {
		return &a
	}
	return nil
}

func truth(b Bool) *bool {
	if b == "" {
		return nil
	}
	return new(b.True(false))
}

func put[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
