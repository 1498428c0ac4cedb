package warewulf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Inventory is what lies beside the configuration on the server. A list that is nil is not known, and nothing is
// checked against it.
type Inventory struct {
	Images       []string // the images that exist
	Site         []string // the overlays of the site
	Distribution []string // the overlays that came with Warewulf
	CustomIPXE   []string // the iPXE templates, without ".ipxe", that the site wrote or changed
}

// Check looks for what no single value shows: what is missing, there twice, or has no place in wulfmesh. What was met
// while reading is not repeated. The configuration may be nil.
func Check(n *Nodes, c *Config, have Inventory) []Hazard {
	k := checker{n, c, have, &hazards{file: NodesFile}, make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(n.Profiles)) {
		k.profile(name, n.Profiles[name])
	}
	for _, name := range slices.Sorted(maps.Keys(n.Nodes)) {
		k.node(name, n.Nodes[name])
	}
	for _, name := range have.Site {
		if slices.Contains(have.Distribution, name) {
			k.add(OverlayShadows, Warning, "overlay "+name, Position{},
				"the site's copy hides Warewulf's whole overlay of this name, with what newer versions changed in it",
				"compare the two, and keep only the files that differ")
		}
	}
	out := k.found()
	if c != nil {
		out = append(out, c.check()...)
	}
	return out
}

// checker is one look at everything.
type checker struct {
	nodes  *Nodes
	config *Config
	have   Inventory
	*hazards
	owner map[string]string // of each hardware and IP address: the node that was first
}

func (k *checker) profile(name string, p *Profile) {
	path := "nodeprofiles." + name
	k.name(path, name, p.at)
	for _, nested := range p.Profiles {
		if nested = strings.TrimPrefix(nested, "~"); k.nodes.Profiles[nested] == nil {
			k.add(UnknownProfile, Warning, path+".profiles", p.at, fmt.Sprintf("there is no profile %q; Warewulf passes over it", clip(nested)), "add the profile, or take it from the list")
		}
	}
	if k.nodes.nests(name) {
		k.add(ProfileCycle, Warning, path+".profiles", p.at, "the profile nests itself; Warewulf folds it once, where it is met first", "take it out of the profiles that it nests")
	}
	k.own(path, p)
}

// nests tells whether a profile comes back to itself.
func (n *Nodes) nests(name string) bool {
	visited := make(map[string]bool)
	next := slices.Clone(n.Profiles[name].Profiles)
	for len(next) > 0 {
		p := next[len(next)-1]
		next = next[:len(next)-1]
		if p == name {
			return true
		}
		if inner := n.Profiles[p]; inner != nil && !visited[p] {
			visited[p] = true
			next = append(next, inner.Profiles...)
		}
	}
	return false
}

// own checks what a profile or node says itself, so that it is told once, and not for each node that has it.
func (k *checker) own(path string, p *Profile) {
	if k.have.Images != nil && p.ImageName != "" && !isUndef(p.ImageName) && !slices.Contains(k.have.Images, p.ImageName) {
		k.add(UnknownImage, Error, path+".image name", p.at, fmt.Sprintf("there is no image %q", clip(p.ImageName)), "import the image, or name one that exists")
	}
	if k.have.Site != nil || k.have.Distribution != nil {
		for _, name := range slices.Concat(p.SystemOverlay, p.RuntimeOverlay) {
			name = strings.TrimPrefix(name, "~")
			if !isUndef(name) && !slices.Contains(k.have.Site, name) && !slices.Contains(k.have.Distribution, name) {
				k.add(UnknownOverlay, Error, path, p.at, fmt.Sprintf("there is no overlay %q", clip(name)), "make the overlay, or take it from the lists")
			}
		}
	}
	if custom := p.IPXE; custom != "" && !isUndef(custom) &&
		(custom != "default" && custom != "dracut" || slices.Contains(k.have.CustomIPXE, custom)) {
		k.add(CustomTemplate, Warning, path+".ipxe template", p.at, fmt.Sprintf("%s.ipxe is the site's own; wulfmesh writes its boot scripts itself", clip(custom)),
			"say what it adds with kernel arguments, or with settings of the node")
	}
	if p.IPMI != nil && p.IPMI.Password != "" {
		k.add(CleartextPassword, Warning, path+".ipmi.password", p.at, "the password of the board is readable in the file, and on the command line of ipmitool", "import it as a secret, then change it")
	}
	if slices.Contains(p.RuntimeOverlay, "generic") || slices.Contains(p.SystemOverlay, "wwinit") && !slices.ContainsFunc(p.SystemOverlay, partOfWWInit) {
		k.add(MonolithicOverlay, Warning, path, p.at, "it names wwinit or generic of before 4.6, which since then are many small overlays", "replace them by their parts, as `wwctl upgrade nodes --replace-overlays` does")
	}
	for name, dev := range p.NetDevs {
		if dev != nil && dev.Netmask != "" && !isMask(dev.Netmask) {
			k.add(InvalidNetmask, Error, path+".network devices."+name+".netmask", p.at, fmt.Sprintf("%s is not a netmask", dev.Netmask), "write it as 255.255.0.0")
		}
	}
	if p.IPMI != nil && p.IPMI.Netmask != "" && !isMask(p.IPMI.Netmask) {
		k.add(InvalidNetmask, Error, path+".ipmi.netmask", p.at, fmt.Sprintf("%s is not a netmask", p.IPMI.Netmask), "write it as 255.255.0.0")
	}
}

func partOfWWInit(name string) bool { return name != "wwinit" && slices.Contains(wwinitParts, name) }

func isMask(ip IP) bool {
	_, ok := catalog.MaskLength(ip.Addr())
	return ok
}

// name checks the name of a node or profile.
func (k *checker) name(path, name string, at Position) {
	if strings.ContainsAny(name, "[]{},*?") {
		fix := "declare each by itself"
		if set, err := nodeset.Parse(name); err == nil && set.Len() > 1 {
			fix = fmt.Sprintf("declare the %d by themselves", set.Len())
		}
		k.add(RangeInName, Error, path, at, "Warewulf takes the whole text for one name; it is not a range", fix)
		return
	}
	if !strings.HasPrefix(path, "nodes.") {
		return
	}
	if why := notHost(name); why != "" {
		k.add(InvalidName, Error, path, at, "it cannot be the name of a host: "+why, "rename the node; letters, digits, '-' and '.' are safe")
	}
}

// notHost says why a name cannot be a host's by RFC 1123, within the length that wulfmesh allows.
func notHost(name string) string {
	const longest = 63 // of a label, and of a node's name here
	switch {
	case name == "":
		return "it is empty"
	case len(name) > longest:
		return fmt.Sprintf("it has %d letters, more than %d", len(name), longest)
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return "a part between dots is empty"
		case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
			return "a part begins or ends with '-'"
		}
		for _, r := range label {
			if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return fmt.Sprintf("%q is not allowed", r)
			}
		}
	}
	return ""
}

func (k *checker) node(name string, own *Node) {
	path := "nodes." + name
	k.name(path, name, own.at)
	k.own(path, &own.Profile)
	m, err := k.nodes.merge(name, own, nil, k.hazards)
	if err != nil {
		k.add(ResourceConflict, Error, path+".resources", own.at, err.Error(), "make both a list")
		return
	}
	k.nodes.checkMerged(m, k.hazards)
	k.unique(path, m)
}

// unique looks for addresses that an earlier node has.
func (k *checker) unique(path string, m Merged) {
	claim := func(id HazardID, what, address, key string) {
		if address == "" {
			return
		}
		if first, taken := k.owner[what+address]; taken {
			k.add(id, Error, path+"."+key, m.at, fmt.Sprintf("%s %s is that of %s too", what, address, first), "correct one of them")
			return
		}
		k.owner[what+address] = m.Name
	}
	for _, name := range slices.Sorted(maps.Keys(m.NetDevs)) {
		dev := m.NetDevs[name]
		if dev == nil {
			continue
		}
		key := "network devices." + name
		mac, _ := parseMAC(dev.Hwaddr)
		claim(DuplicateMAC, "hardware address", mac, key+".hwaddr")
		claim(DuplicateAddress, "address", string(dev.IPAddr), key+".ipaddr")
		claim(DuplicateAddress, "address", string(dev.IPAddr6), key+".ipaddr6")
		if c := k.config; c != nil && c.DHCP != nil && c.DHCP.enabled() {
			k.pooled(path+"."+key+".ipaddr", m.at, dev.IPAddr, c.DHCP.RangeStart, c.DHCP.RangeEnd)
			k.pooled(path+"."+key+".ipaddr6", m.at, dev.IPAddr6, c.DHCP.Range6Start, c.DHCP.Range6End)
		}
	}
	if m.IPMI != nil {
		claim(DuplicateIPMI, "the board's address", string(m.IPMI.IPAddr), "ipmi.ipaddr")
	}
}

// pooled reports an address of a node that DHCP may give to another machine.
func (k *checker) pooled(path string, at Position, ip, first, last IP) {
	if ip != "" && within(ip.Addr(), first, last) {
		k.add(PoolOverlap, Error, path, at, fmt.Sprintf("%s is in the range %s to %s, from which DHCP serves unknown machines", ip, first, last), "move the range, or the node")
	}
}

func within(a netip.Addr, first, last IP) bool {
	return first != "" && last != "" && first.Addr().Compare(a) <= 0 && a.Compare(last.Addr()) <= 0 && a.Is4() == first.Addr().Is4()
}

// checkMerged checks what only the profiles together make of a node.
func (n *Nodes) checkMerged(m Merged, h *hazards) {
	path := "nodes." + m.Name
	own := n.Nodes[m.Name]
	if len(own.Profiles) == 0 && n.Profiles["default"] != nil {
		h.add(NoProfiles, Warning, path, m.at, "it has no profile; before 4.6 that meant the profile default, since then none", "give it the profile default if it had that")
	}
	if _, ok := m.NetDevs[own.PrimaryNetDev]; !ok && own.PrimaryNetDev != "" { // what a profile says may fit other nodes only
		h.add(PrimaryMissing, Warning, path+".primary network", m.at, fmt.Sprintf("there is no network device %q; Warewulf takes the first by name", clip(own.PrimaryNetDev)), "name one that the node has")
	}
	for _, name := range slices.Sorted(maps.Keys(m.NetDevs)) {
		dev := m.NetDevs[name]
		if dev == nil || dev.Hwaddr != "" || m.Discoverable.True(false) {
			continue
		}
		switch strings.ToLower(dev.Type) {
		case "", "ethernet", "infiniband":
			what := "without its hardware address the system finds it by the name of the kernel only"
			if name == m.PrimaryNetDev {
				what = "without its hardware address nobody knows the node when it boots"
			}
			h.add(NoHwaddr, Warning, path+".network devices."+name, m.at, what, "add hwaddr, or make the node discoverable")
		}
	}
	checkIPMI(path, m, h)
}

func checkIPMI(path string, m Merged, h *hazards) {
	i := m.IPMI
	if i == nil || i.IPAddr != "" || i.Template == "nobmc.tmpl" {
		return
	}
	if i.Write.True(false) {
		h.add(IPMIWriteNothing, Error, path+".ipmi.write", m.at, "the node is to write its board's address when it boots, but there is none", "set ipmi.ipaddr, or write to false")
		return
	}
	if i.UserName != "" || i.Password != "" || i.Template != "" || i.Interface != "" {
		h.add(IPMINoAddress, Warning, path+".ipmi", m.at, "there is no address of its board: Warewulf's power commands then switch the server itself", "set ipmi.ipaddr, or the template nobmc.tmpl")
	}
}
