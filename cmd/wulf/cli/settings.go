package cli

import (
	"net/netip"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// settingFlags are the flags that decide settings, of nodes and of profiles. Their names are those of wwctl where it
// has the same thing.
func settingFlags() []cli.Flag {
	return []cli.Flag{
		texts("profile", "take the settings of profile `NAME`; several: again, or with commas; later ones win", "P"),
		text("image", "boot image `NAME`[:TAG]"),
		text("kernel", "use the image's kernel of `VERSION`, or the newest that begins so"),
		texts("kernelargs", "add `WORD` to the kernel's command line; ~WORD takes one away that a profile gave", "A"),
		text("method", "boot by `METHOD`: two-stage or one-stage"),
		text("init", "the `PATH` of the program that becomes process 1"),
		text("root", "make the root of `KIND`: tmpfs or ramfs"),
		texts("system-overlays", "lay overlay `NAME` over the image before init starts", "O"),
		texts("runtime-overlays", "lay overlay `NAME` over it too, and refresh it while the node runs", "R"),
		text("primarynet", "boot from the network device `NAME`"),
		text("netname", "the network device `NAME` that the next flags are about (default: default)"),
		text("netdev", "the kernel's `NAME` for it, as eth0"),
		text("network", "the network `NAME` that it is in; else the one that holds its address"),
		text("gateway", "the `ADDRESS` of its gateway; else the network's"),
		number("mtu", "its greatest packet, in `BYTES`; else the network's"),
		texts("ssh-key", "a `LINE` for root's authorized_keys"),
		text("rack", "the `NAME` of its rack; of many nodes maybe a formula, as r{n1}"),
		text("zone", "the `NAME` of its zone"),
		text("comment", "a `TEXT` for people"),
		texts("tagadd", "set a tag: `KEY=VALUE`"),
		texts("tagdel", "take tag `KEY` away"),
	}
}

// addressFlags are those that only nodes have. Each may be a formula (see spread).
func addressFlags() []cli.Flag {
	return []cli.Flag{
		text("hwaddr", "the hardware `ADDRESS` of the network device, by which DHCP knows it", "H"),
		text("ipaddr", "its IP `ADDRESS`", "I"),
	}
}

// unsetFlag takes decisions back.
func unsetFlag() cli.Flag {
	return texts("unset", "decide the setting at `PATH` no longer, as kernel.args or nets.default.gateway")
}

// decisions are what the flags of a command decide.
type decisions struct {
	profiles *[]catalog.ProfileName // nil: nothing is said about them
	set      catalog.Settings
	unset    []string
	netname  string // of the device that addresses belong to
}

func readDecisions(c *cli.Context) (decisions, error) {
	d := decisions{netname: catalog.DefaultNet}
	if c.IsSet("profile") {
		list := []catalog.ProfileName{}
		for _, name := range names(c, "profile") {
			p, err := catalog.ParseName[catalog.ProfileName]("profile", name)
			if err != nil {
				return d, err
			}
			list = append(list, p)
		}
		d.profiles = &list
	}
	s := &d.set
	s.Image, s.Kernel.Version, s.Method = said(c, "image"), said(c, "kernel"), said(c, "method")
	s.Init, s.Root, s.Primary = said(c, "init"), said(c, "root"), said(c, "primarynet")
	s.Rack, s.Zone, s.Comment = said(c, "rack"), said(c, "zone"), said(c, "comment")
	for _, v := range c.StringSlice("kernelargs") {
		s.Kernel.Args = append(s.Kernel.Args, strings.Fields(v)...) // whoever writes "a b" means two words
	}
	s.Overlays = catalog.OverlaySettings{System: names(c, "system-overlays"), Runtime: names(c, "runtime-overlays")}
	s.SSHKeys = c.StringSlice("ssh-key")
	for _, kv := range c.StringSlice("tagadd") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return d, fault.New(fault.Invalid, "--tagadd %q is not KEY=VALUE", kv)
		}
		if s.Tags == nil {
			s.Tags = map[string]string{}
		}
		s.Tags[k] = v
	}
	d.unset = names(c, "unset")
	for _, k := range names(c, "tagdel") {
		d.unset = append(d.unset, "tags."+k)
	}
	return d, d.readNet(c)
}

// readNet reads what is said about a network device, its addresses aside.
func (d *decisions) readNet(c *cli.Context) error {
	if c.IsSet("netname") {
		name, err := catalog.ParseName[string]("network device", c.String("netname"))
		if err != nil {
			return err
		}
		d.netname = name
	}
	dev := catalog.NetDev{Device: said(c, "netdev"), Network: said(c, "network")}
	if c.IsSet("gateway") {
		a, err := address("gateway", c.String("gateway"))
		if err != nil {
			return err
		}
		dev.Gateway = &a
	}
	if c.IsSet("mtu") {
		dev.MTU = new(c.Int("mtu"))
	}
	if !reflect.ValueOf(dev).IsZero() {
		d.set.Nets = map[string]catalog.NetDev{d.netname: dev}
	}
	return nil
}

// perNode reads what differs from node to node: --hwaddr, --ipaddr and a --rack that is computed. It is nil if there is
// nothing such. What is in it is no longer among what is set for all.
func (d *decisions) perNode(c *cli.Context, nodes []string) (map[catalog.NodeName]catalog.Settings, error) {
	devices, racks := make([]catalog.NetDev, len(nodes)), make([]string, len(nodes))
	computed := nodeset.IsFormula(c.String("rack"))
	if computed {
		var err error
		if racks, err = spread("rack", c.String("rack"), nodes, nil); err != nil {
			return nil, err
		}
		d.set.Rack = nil
	}
	if c.IsSet("hwaddr") {
		values, err := spread("hwaddr", c.String("hwaddr"), nodes, nextHardware)
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			hw, err := catalog.ParseHardwareAddr(v)
			if err != nil {
				return nil, err
			}
			devices[i].Hardware = &hw
		}
	}
	if c.IsSet("ipaddr") {
		values, err := spread("ipaddr", c.String("ipaddr"), nodes, nextAddress)
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			a, err := address("ipaddr", v)
			if err != nil {
				return nil, err
			}
			devices[i].Address = &a
		}
	}
	if !computed && !c.IsSet("hwaddr") && !c.IsSet("ipaddr") {
		return nil, nil
	}
	each := make(map[catalog.NodeName]catalog.Settings, len(nodes))
	for i, name := range nodes {
		var s catalog.Settings
		if computed {
			s.Rack = &racks[i]
		}
		if !reflect.ValueOf(devices[i]).IsZero() {
			s.Nets = map[string]catalog.NetDev{d.netname: devices[i]}
		}
		each[catalog.NodeName(name)] = s
	}
	return each, nil
}

// empty tells whether the flags decide nothing at all.
func (d *decisions) empty() bool {
	return d.profiles == nil && len(d.unset) == 0 && len(d.set.Decided()) == 0
}

func address(flag, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		fix := "write it as 10.1.0.1"
		if _, perr := netip.ParsePrefix(s); perr == nil {
			fix = "leave out the length of the prefix: the network has it"
		}
		return a, fault.New(fault.Invalid, "--%s %q is not an IP address", flag, s).WithFix("%s", fix)
	}
	return a, nil
}

// said is what a flag was given, nil if it was not.
func said(c *cli.Context, flag string) *string {
	if !c.IsSet(flag) {
		return nil
	}
	return new(c.String(flag))
}

// names are the values of a flag whose values are names: with commas or one by one.
func names(c *cli.Context, flag string) []string {
	var all []string
	for _, v := range c.StringSlice(flag) {
		for n := range strings.SplitSeq(v, ",") {
			if n = strings.TrimSpace(n); n != "" {
				all = append(all, n)
			}
		}
	}
	return all
}
