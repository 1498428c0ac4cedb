package warewulf

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// oldKey is a key of an earlier version, or a value in a form that only an earlier version took, and how it is read
// into the struct of today. What it does is what `wwctl upgrade` does.
type oldKey struct {
	key     string
	applies func(*yaml.Node) bool // nil: always
	read    func(d *decoder, into any, v oldValue)
}

// oldValue is what stands at an old key.
type oldValue struct {
	pair
	n       *yaml.Node // the value, aliases followed
	path    string
	sibling []pair
}

func (o oldKey) is(p pair) bool {
	return o.key == p.name && (o.applies == nil || o.applies(follow(p.value)))
}

// has tells whether another key is beside this one, and says something.
func (v oldValue) has(key string) bool {
	return slices.ContainsFunc(v.sibling, func(p pair) bool { return p.name == key && !isNull(follow(p.value)) })
}

func isText(n *yaml.Node) bool    { return n.Kind == yaml.ScalarNode && !isNull(n) }
func hasPrefix(n *yaml.Node) bool { return isText(n) && strings.Contains(n.Value, "/") }

// rewritten reports that an old key was read as another one.
func (d *decoder) rewritten(v oldValue, as string) {
	d.add(DeprecatedKey, Note, v.path, where(v.key), "an earlier version wrote it so; it is read as "+as, "none needed; `wwctl upgrade` writes the new form")
}

// dropped reports that an old key means nothing any more.
func (d *decoder) dropped(v oldValue, why string) {
	d.add(DroppedKey, Note, v.path, where(v.key), "it is dropped: "+why, "remove it")
}

// oldKeys are the old keys of a struct, in the order in which they are applied.
func oldKeys(into any) []oldKey {
	switch into.(type) {
	case *Nodes:
		return oldNodes
	case *Node:
		return oldNode
	case *Profile:
		return oldProfile
	case *IPMI:
		return oldIPMI
	case *Kernel:
		return oldKernel
	case *NetDev:
		return oldNetDev
	case *FileSystem:
		return oldFileSystem
	}
	return oldConfigKeys(into)
}

var (
	oldNodes   = []oldKey{obsolete("WW_INTERNAL", "it numbered versions of the file")}
	oldNode    = oldSettings
	oldProfile = append([]oldKey{obsolete("asset key", "an asset key belongs to one node")}, oldSettings...)

	// oldSettings are what nodes and profiles have in common. tagsdel comes after keys, and the tag that the template
	// dracut becomes after both.
	oldSettings = []oldKey{
		{"container name", nil, func(d *decoder, into any, v oldValue) {
			instead(d, v, &profileOf(into).ImageName, "image name")
		}},
		obsolete("disabled", "it had no effect"),
		inlineIPMI("username", func(i *IPMI) *string { return &i.UserName }),
		inlineIPMI("password", func(i *IPMI) *string { return &i.Password }),
		inlineIPMI("ipaddr", func(i *IPMI) *IP { return &i.IPAddr }),
		inlineIPMI("netmask", func(i *IPMI) *IP { return &i.Netmask }),
		inlineIPMI("gateway", func(i *IPMI) *IP { return &i.Gateway }),
		inlineIPMI("port", func(i *IPMI) *string { return &i.Port }),
		inlineIPMI("interface", func(i *IPMI) *string { return &i.Interface }),
		inlineIPMI("escapechar", func(i *IPMI) *string { return &i.EscapeChar }),
		inlineIPMI("write", func(i *IPMI) *Bool { return &i.Write }),
		inlineKernel("kernel override", readOverride),
		inlineKernel("kernel version", func(d *decoder, into any, v oldValue) {
			instead(d, v, &into.(*Kernel).Version, "kernel.version")
		}),
		inlineKernel("kernel args", readArgs),
		{"keys", nil, func(d *decoder, into any, v oldValue) {
			p := profileOf(into)
			tags := d.texts(v.n, v.path)
			d.rewritten(v, "tags")
			if len(tags) > 0 {
				maps.Copy(tags, p.Tags)
				p.Tags = tags
			}
		}},
		tagsDel(func(into any) map[string]string { return profileOf(into).Tags }),
		{"ipxe template", func(n *yaml.Node) bool { return isText(n) && n.Value == "dracut" }, readDracut},
		{"runtime overlay", isText, func(d *decoder, into any, v oldValue) {
			profileOf(into).RuntimeOverlay = strings.Split(d.text(v.n, v.path), ",")
			d.rewritten(v, "a list")
		}},
		{"system overlay", isText, func(d *decoder, into any, v oldValue) {
			profileOf(into).SystemOverlay = strings.Split(d.text(v.n, v.path), ",")
			d.rewritten(v, "a list")
		}},
	}

	oldIPMI   = []oldKey{tagsDel(func(into any) map[string]string { return into.(*IPMI).Tags })}
	oldKernel = []oldKey{{"override", nil, readOverride}, {"args", isText, readArgs}}

	oldNetDev = []oldKey{
		{"primary", nil, readPrimary},
		{"default", nil, readPrimary},
		{"ipaddr", hasPrefix, readCIDR},
		{"ipcidr", isText, readCIDR},
		{"ipaddr6", hasPrefix, readCIDR6},
		{"ip6addr", isText, readCIDR6},
		{"prefix", nil, readPrefix},
		tagsDel(func(into any) map[string]string { return into.(*NetDev).Tags }),
	}

	oldFileSystem = []oldKey{{"mount_options", func(n *yaml.Node) bool { return n.Kind == yaml.SequenceNode }, func(d *decoder, into any, v oldValue) {
		into.(*FileSystem).MountOptions = strings.Join(d.list(v.n, v.path), " ") // with spaces: so does Warewulf
		d.rewritten(v, "one text, joined with spaces")
	}}}
)

// profileOf is what a node or profile says.
func profileOf(into any) *Profile {
	if n, ok := into.(*Node); ok {
		return &n.Profile
	}
	return into.(*Profile)
}

// obsolete is a key that says nothing any more.
func obsolete(key, why string) oldKey {
	return oldKey{key, nil, func(d *decoder, _ any, v oldValue) { d.dropped(v, why) }}
}

// instead reads a value into a field that nothing was read into yet.
func instead[T ~string](d *decoder, v oldValue, into *T, as string) {
	var value T
	switch p := any(&value).(type) {
	case *IP:
		*p = d.ip(v.n, v.path)
	case *Bool:
		*p = d.bool(v.n, v.path)
		if b, known := parseBool(string(*p)); known && !isUndef(string(*p)) {
			*p = Bool(strconv.FormatBool(b)) // the old keys took more words
		}
	case *string:
		*p = d.text(v.n, v.path)
	}
	if *into != "" {
		d.dropped(v, as+" is set too")
		return
	}
	*into = value
	d.rewritten(v, as)
}

// inlineIPMI is a key "ipmi X" of the node, now X of ipmi.
func inlineIPMI[T ~string](key string, at func(*IPMI) *T) oldKey {
	return oldKey{"ipmi " + key, isText, func(d *decoder, into any, v oldValue) {
		p := profileOf(into)
		if p.IPMI == nil {
			p.IPMI = new(IPMI)
		}
		instead(d, v, at(p.IPMI), "ipmi."+key)
	}}
}

// inlineKernel is a key "kernel X" of the node, now X of kernel. Warewulf ignores it beside a group kernel.
func inlineKernel(key string, read func(*decoder, any, oldValue)) oldKey {
	return oldKey{key, nil, func(d *decoder, into any, v oldValue) {
		p := profileOf(into)
		if v.has("kernel") {
			d.dropped(v, "there is a group kernel too")
			return
		}
		if p.Kernel == nil {
			p.Kernel = new(Kernel)
		}
		read(d, p.Kernel, v)
	}}
}

func readOverride(d *decoder, into any, v oldValue) {
	k, override := into.(*Kernel), d.text(v.n, v.path)
	d.rewritten(v, "kernel.version")
	if override == "" {
		return
	}
	k.Version = override
	d.add(KernelOverride, Warning, v.path, where(v.key),
		fmt.Sprintf("the kernel %q came from outside of the image; now it must be in the image", clip(override)),
		"name a version that the image has, or leave it out for the newest")
}

func readArgs(d *decoder, into any, v oldValue) {
	into.(*Kernel).Args = strings.Fields(d.text(v.n, v.path))
	d.rewritten(v, "kernel.args, a list of words")
}

func readDracut(d *decoder, into any, v oldValue) {
	const tag = "IPXEMenuEntry"
	p := profileOf(into)
	if set, ok := p.Tags[tag]; ok {
		p.IPXE = v.n.Value
		d.add(DeprecatedKey, Warning, v.path, where(v.key), fmt.Sprintf("the template dracut is gone, but the tag %s is %q already; nothing is changed", tag, clip(set)), "set the template to default and the tag to dracut")
		return
	}
	if p.Tags == nil {
		p.Tags = make(map[string]string)
	}
	p.IPXE, p.Tags[tag] = "default", "dracut"
	d.rewritten(v, "the template default with the tag "+tag+"=dracut")
}

// tagsDel takes tags away. It was meant for the wire, and got into files.
func tagsDel(of func(any) map[string]string) oldKey {
	return oldKey{"tagsdel", nil, func(d *decoder, into any, v oldValue) {
		tags := of(into)
		for _, t := range d.list(v.n, v.path) {
			delete(tags, t)
		}
		d.rewritten(v, "the absence of these tags")
	}}
}

func readPrimary(d *decoder, into any, v oldValue) {
	if d.bool(v.n, v.path).True(false) {
		into.(*NetDev).primary = true
	}
	d.rewritten(v, "primary network of the node")
}

func readCIDR(d *decoder, into any, v oldValue) {
	addr, p, ok := d.cidr(v.n, v.path)
	if !ok {
		return
	}
	dev := into.(*NetDev)
	if dev.IPAddr == "" {
		dev.IPAddr = addr
	}
	if dev.Netmask == "" && p.Addr().Is4() {
		dev.Netmask = mask(p)
	}
	d.rewritten(v, "ipaddr and netmask")
}

func readCIDR6(d *decoder, into any, v oldValue) {
	dev := into.(*NetDev)
	if !hasPrefix(v.n) {
		instead(d, v, &dev.IPAddr6, "ipaddr6")
		return
	}
	addr, p, ok := d.cidr(v.n, v.path)
	if !ok {
		return
	}
	if dev.IPAddr6 == "" {
		dev.IPAddr6 = addr
	}
	if dev.PrefixLen6 == "" {
		dev.PrefixLen6 = strconv.Itoa(p.Bits())
	}
	d.rewritten(v, "ipaddr6 and prefixlen6")
}

func readPrefix(d *decoder, into any, v oldValue) {
	dev, text := into.(*NetDev), d.text(v.n, v.path)
	if n, err := strconv.ParseUint(text, 10, 8); err == nil && n <= 128 && dev.PrefixLen6 == "" && dev.IPAddr6 != "" {
		dev.PrefixLen6 = text
		d.rewritten(v, "prefixlen6")
		return
	}
	d.dropped(v, "nothing read it")
}

// declared notes where a node or profile is, and which network is primary by an old key. Where several are, it is the
// first by name; Warewulf takes any.
func (p *Profile) declared(at Position) {
	p.at = at
	if p.PrimaryNetDev != "" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.NetDevs)) {
		if dev := p.NetDevs[name]; dev != nil && dev.primary {
			p.PrimaryNetDev = name
			return
		}
	}
}
