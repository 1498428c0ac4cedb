package warewulf

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Back makes of profiles and nodes the nodes.conf that Warewulf 4.7 reads. What it has no word for is told in the
// hazards. The networks give devices the masks and gateways that only they know. Secrets cannot go back: they are sealed.
func Back(networks func(netip.Addr) (*catalog.Network, bool), profiles []catalog.Profile, nodes []catalog.Node) *Nodes {
	b := &back{hazards: hazards{file: NodesFile}, networks: networks}
	out := &Nodes{Profiles: map[string]*Profile{}, Nodes: map[string]*Node{}}
	for _, p := range profiles {
		v := b.profile("nodeprofiles."+string(p.Name), p.Settings)
		v.Profiles = names(p.Profiles)
		out.Profiles[string(p.Name)] = &v
	}
	for _, n := range nodes {
		v := Node{Profile: b.profile("nodes."+string(n.Name), n.Settings), AssetKey: value(n.Settings.Asset)}
		v.Profiles = names(n.Profiles)
		if d := n.Settings.Discover; d != nil {
			v.Discoverable = boolean(d)
		}
		out.Nodes[string(n.Name)] = &v
	}
	out.Hazards = b.found()
	return out
}

type back struct {
	hazards
	networks func(netip.Addr) (*catalog.Network, bool)
}

// noWord tells of a setting that Warewulf does not have.
func (b *back) noWord(subject, setting, fix string) {
	b.add(NoCounterpart, Warning, subject, Position{}, setting+" has no counterpart in Warewulf, and is left out", fix)
}

func (b *back) profile(subject string, s catalog.Settings) Profile {
	p := Profile{
		Groups: s.Groups, Comment: value(s.Comment), ClusterName: value(s.Cluster), ImageName: value(s.Image), IPXE: value(s.IPXE),
		RuntimeOverlay: b.overlayList(subject+".runtime overlay", s.Overlays.Runtime), SystemOverlay: b.overlayList(subject+".system overlay", s.Overlays.System), Init: value(s.Init), Root: value(s.Root), PrimaryNetDev: value(s.Primary),
		Tags: maps.Clone(s.Tags),
	}
	for _, f := range []struct {
		key string
		is  *string
	}{{"rack", s.Rack}, {"position", s.Position}, {"zone", s.Zone}} { // templates can still read them there
		if f.is != nil {
			put(&p.Tags, f.key, *f.is)
		}
	}
	for i, role := range s.Roles {
		put(&p.Tags, "role"+strconv.Itoa(i+1), role)
	}
	if s.Kernel.Version != nil || len(s.Kernel.Args) > 0 {
		p.Kernel = &Kernel{Version: value(s.Kernel.Version), Args: s.Kernel.Args}
	}
	p.IPMI = b.ipmi(subject, s.BMC)
	for _, name := range slices.Sorted(maps.Keys(s.Nets)) {
		put(&p.NetDevs, name, b.netDev(s.Nets[name]))
	}
	for _, dev := range slices.Sorted(maps.Keys(s.Disks)) {
		put(&p.Disks, dev, backDisk(s.Disks[dev]))
	}
	for _, dev := range slices.Sorted(maps.Keys(s.Filesystems)) {
		f := s.Filesystems[dev]
		put(&p.FileSystems, dev, &FileSystem{
			Format: value(f.Format), Path: value(f.Path), WipeFileSystem: f.Wipe, Label: value(f.Label), UUID: value(f.UUID), Options: f.Options, MountOptions: value(f.Mount),
		})
	}
	for _, key := range slices.Sorted(maps.Keys(s.Resources)) {
		put(&p.Resources, key, plain(s.Resources[key].Value()))
	}
	for _, f := range []struct {
		setting string
		is      bool
	}{
		{"method", s.Method != nil}, {"ssh_keys", len(s.SSHKeys) > 0}, {"secrets", len(s.Secrets) > 0}, {"without", len(s.Without) > 0}, {"uuid", s.UUID != nil},
	} {
		if f.is {
			b.noWord(subject, f.setting, "keep it by hand")
		}
	}
	return p
}

// overlayList gives the overlays that are ours alone their counterparts: the agent's is wwclient, and who has that has
// wwinit before all others.
func (b *back) overlayList(subject string, names []string) []string {
	var out []string
	for _, name := range names {
		switch bare := strings.TrimPrefix(name, "~"); bare {
		case "wulf-agent":
			out = append(out, strings.TrimSuffix(name, bare)+"wwclient")
			if name == bare && !slices.Contains(out, "wwinit") {
				out = slices.Insert(out, 0, "wwinit")
			}
			b.add(OverlayGone, Note, subject, Position{}, "overlay wulf-agent becomes wwinit and wwclient", "nothing is to be done")
		case "machine-id":
			b.add(OverlayGone, Note, subject, Position{}, "overlay machine-id has no counterpart, and is left out", "nothing is to be done")
		default:
			out = append(out, name)
		}
	}
	return out
}

func (b *back) ipmi(subject string, m catalog.BMC) *IPMI {
	if m.Password != nil {
		b.noWord(subject, "the BMC's password, which is sealed,", "set it there: wwctl profile set --ipmipass")
	}
	out := IPMI{
		UserName: value(m.Username), IPAddr: ip(m.Address), Gateway: ip(m.Gateway), Netmask: ip(m.Netmask), Port: number(m.Port), Interface: value(m.Interface),
		EscapeChar: value(m.Escape), Write: boolean(m.Write), Tags: m.Tags,
	}
	if m.Template != nil {
		out.Template = *m.Template + ".tmpl"
	}
	if out.UserName == "" && out.IPAddr == "" && out.Gateway == "" && out.Netmask == "" && out.Port == "" && out.Interface == "" && out.EscapeChar == "" &&
		out.Write == "" && out.Template == "" && len(out.Tags) == 0 {
		return nil
	}
	return &out
}

func (b *back) netDev(d catalog.NetDev) *NetDev {
	out := &NetDev{
		Type: value(d.Type), OnBoot: boolean(d.OnBoot), Device: value(d.Device), IPAddr: ip(d.Address), Netmask: ip(d.Netmask), Gateway: ip(d.Gateway),
		IPAddr6: ip(d.Address6), PrefixLen6: number(d.Prefix6), Gateway6: ip(d.Gateway6), MTU: number(d.MTU), Tags: d.Tags,
	}
	if d.Hardware != nil {
		out.Hwaddr = string(*d.Hardware)
	}
	if d.Address == nil || b.networks == nil {
		return out
	}
	if n, ok := b.networks(*d.Address); ok {
		if out.Netmask == "" {
			out.Netmask = mask(n.Prefix)
		}
		if out.Gateway == "" && n.Gateway.IsValid() {
			out.Gateway = IP(n.Gateway.String())
		}
	}
	return out
}

func backDisk(d catalog.Disk) *Disk {
	out := &Disk{WipeTable: d.Wipe}
	for _, label := range slices.Sorted(maps.Keys(d.Partitions)) {
		p := d.Partitions[label]
		put(&out.Partitions, label, &Partition{
			Number: number(p.Number), SizeMiB: number(p.Size), StartMiB: number(p.Start), TypeGUID: value(p.Type), GUID: value(p.GUID),
			WipePartitionEntry: p.Wipe, ShouldExist: p.Exists, Resize: p.Resize,
		})
	}
	return out
}

// plain turns JSON's numbers, which YAML would write as texts, into Go's.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			v[k] = plain(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = plain(inner)
		}
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return u
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func ip(a *netip.Addr) IP {
	if a == nil {
		return ""
	}
	return IP(a.String())
}

func number[N int | int64](n *N) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(int64(*n), 10)
}

func boolean(b *bool) Bool {
	if b == nil {
		return ""
	}
	return Bool(strconv.FormatBool(*b))
}

func names(list []catalog.ProfileName) []string {
	var out []string
	for _, n := range list {
		out = append(out, string(n))
	}
	return out
}
