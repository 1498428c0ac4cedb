package warewulf

import (
	"fmt"
	"maps"
	"slices"
)

// What 4.6 made of the two overlays that every node had. Only names matter here; the files are Warewulf's.
var (
	wwinitParts = []string{
		"wwinit", "wwclient", "fstab", "hostname", "ssh.host_keys", "issue", "resolv", "udev.netname", "systemd.netname",
		"ifcfg", "NetworkManager", "debian.interfaces", "wicked", "ignition",
	}
	genericParts = []string{"hosts", "ssh.authorized_keys", "syncuser"}
)

// ReplaceOverlays puts their parts in the place of wwinit and generic, as `wwctl upgrade nodes --replace-overlays`
// does. A part that is in the list already is not added again.
func (n *Nodes) ReplaceOverlays() []Hazard {
	h := &hazards{file: NodesFile}
	n.each(func(path string, p *Profile) {
		p.SystemOverlay = replaced(h, path+".system overlay", p.at, p.SystemOverlay, "wwinit", wwinitParts)
		p.RuntimeOverlay = replaced(h, path+".runtime overlay", p.at, p.RuntimeOverlay, "generic", genericParts)
	})
	return h.found()
}

// each calls f for every profile, then for what every node says itself, in the order of their names.
func (n *Nodes) each(f func(path string, p *Profile)) {
	for _, name := range slices.Sorted(maps.Keys(n.Profiles)) {
		f("nodeprofiles."+name, n.Profiles[name])
	}
	for _, name := range slices.Sorted(maps.Keys(n.Nodes)) {
		f("nodes."+name, &n.Nodes[name].Profile)
	}
}

func replaced(h *hazards, path string, at Position, list []string, old string, parts []string) []string {
	i := slices.Index(list, old)
	if i < 0 {
		return list
	}
	var fresh []string
	for _, part := range parts {
		if part == old || !slices.Contains(list, part) {
			fresh = append(fresh, part)
		}
	}
	out := slices.Concat(list[:i], fresh, list[i+1:])
	if slices.Equal(out, list) {
		return list
	}
	h.add(OverlayReplaced, Note, path, at, fmt.Sprintf("%s became its %d parts", old, len(fresh)), "none needed")
	return out
}

// AddDefaults gives the profile default what nodes had before 4.6 without anybody's saying it, as `wwctl upgrade nodes
// --add-defaults` does, and nodes without a profile that one.
func (n *Nodes) AddDefaults() []Hazard {
	h := &hazards{file: NodesFile}
	p := n.defaultProfile()
	set := func(missing bool, key string, do func()) {
		if missing {
			do()
			h.add(DefaultAdded, Note, "nodeprofiles.default."+key, p.at, "it was not set, and got what it was before 4.6 without that", "none needed")
		}
	}
	if p.Kernel == nil {
		p.Kernel = new(Kernel)
	}
	if p.IPMI == nil {
		p.IPMI = new(IPMI)
	}
	set(len(p.SystemOverlay) == 0, "system overlay", func() { p.SystemOverlay = slices.Clone(wwinitParts) })
	set(len(p.RuntimeOverlay) == 0, "runtime overlay", func() { p.RuntimeOverlay = slices.Clone(genericParts) })
	set(len(p.Kernel.Args) == 0, "kernel.args", func() { p.Kernel.Args = []string{"quiet", "crashkernel=no", "net.ifnames=1"} })
	set(p.Init == "", "init", func() { p.Init = "/sbin/init" })
	set(p.Root == "", "root", func() { p.Root = "initramfs" })
	set(p.IPXE == "", "ipxe template", func() { p.IPXE = "default" })
	set(p.IPMI.Template == "", "ipmi.template", func() { p.IPMI.Template = "ipmitool.tmpl" })
	_, has := p.Resources["fstab"]
	set(!has, "resources.fstab", func() {
		p.resource("fstab", []any{
			mount("/home", "defaults,nofail"),
			mount("/opt", "defaults,noauto,nofail,ro"),
		})
	})
	for _, name := range slices.Sorted(maps.Keys(n.Profiles)) {
		n.addNetDefaults(h, name)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Nodes)) {
		if node := n.Nodes[name]; len(node.Profiles) == 0 {
			node.Profiles = []string{"default"}
			h.add(DefaultAdded, Note, "nodes."+name+".profiles", node.at, "it had none, which before 4.6 meant the profile default", "none needed")
		} else if !slices.Contains(node.Profiles, "default") {
			h.add(NoProfiles, Warning, "nodes."+name+".profiles", node.at, "it has not the profile default, and so not what was added there", "see whether it needs any of that")
		}
	}
	return h.found()
}

// addNetDefaults gives the network devices of a profile the type and netmask that were understood before 4.6.
func (n *Nodes) addNetDefaults(h *hazards, profile string) {
	p := n.Profiles[profile]
	for _, name := range slices.Sorted(maps.Keys(p.NetDevs)) {
		dev := p.NetDevs[name]
		if dev == nil || dev.Type != "" && dev.Netmask != "" {
			continue
		}
		if dev.Type == "" {
			dev.Type = "ethernet"
		}
		if dev.Netmask == "" {
			dev.Netmask = "255.255.255.0"
		}
		h.add(DefaultAdded, Note, "nodeprofiles."+profile+".network devices."+name, p.at, "it is ethernet, or 255.255.255.0, as before 4.6 without anybody's saying so", "see whether the netmask is right")
	}
}

// defaultProfile is the profile default, made if there is none.
func (n *Nodes) defaultProfile() *Profile {
	if n.Profiles["default"] == nil {
		n.Profiles["default"] = new(Profile)
	}
	return n.Profiles["default"]
}

func (p *Profile) resource(key string, value any) {
	if p.Resources == nil {
		p.Resources = make(map[string]any)
	}
	p.Resources[key] = value
}

// mount is a line of fstab for a directory of the server.
func mount(path, options string) map[string]any {
	m := map[string]any{"spec": "warewulf:" + path, "file": path, "vfstype": "nfs"}
	if options != "" {
		m["mntops"] = options
	}
	return m
}

// AddMounts adds what a warewulf.conf of before 4.6 had every node mount to the resource fstab of the profile default.
func (n *Nodes) AddMounts(c *Config) []Hazard {
	h := &hazards{file: ConfigFile}
	if len(c.Mounts) == 0 {
		return nil
	}
	p := n.defaultProfile()
	before, fits := p.Resources["fstab"].([]any)
	if p.Resources["fstab"] != nil && !fits {
		h.add(MountFromConfig, Error, "nfs", c.at["nfs"], "its mounts cannot be added: resources.fstab of the profile default is no list", "make it a list")
		return h.found()
	}
	lines := slices.Clone(before)
	for _, m := range c.Mounts {
		lines = append(lines, mount(m.Path, m.Options))
		h.add(MountFromConfig, Note, "nfs", c.at["nfs"], fmt.Sprintf("nodes mount %s: it became an entry of resources.fstab in the profile default", clip(m.Path)), "none needed")
	}
	p.resource("fstab", lines)
	return h.found()
}
