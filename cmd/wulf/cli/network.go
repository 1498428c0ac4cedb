package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) network() *cli.Command {
	return noun("network", "ranges of addresses in which nodes boot",
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list networks",
			examples: []string{"wulf network list"}, flags: listFlags(), run: p.networkList,
		},
		verb{
			name: "show", usage: "show a network", args: "NETWORK", least: 1, most: 1,
			examples: []string{"wulf network show rack"}, flags: showFlags(), run: p.networkShow,
		},
		verb{
			name: "add", usage: "declare a network", args: "NETWORK", least: 1, most: 1,
			examples: []string{
				"wulf network add rack --cidr 10.1.0.0/16 --gateway 10.1.255.254 --dns 10.1.255.253",
				"wulf network add rack --cidr 10.1.0.0/16 --pool 10.1.250.1-10.1.250.99",
			},
			flags: changeFlags(networkFlags()...), run: p.networkAdd,
		},
		verb{
			name: "set", usage: "change a network; what is not named stays", args: "NETWORK", least: 1, most: 1,
			examples: []string{"wulf network set rack --mtu 9000"},
			flags:    changeFlags(append(networkFlags(), texts("unset", "take back `NAME`: gateway, dns, ntp, domain, mtu, vlan, pool, allocate, cidr6, gateway6 or comment"))...), run: p.networkSet,
		},
		verb{
			name: "delete", aliases: []string{"rm"}, usage: "delete networks that nothing uses", args: "NETWORK…", least: 1, most: unlimited,
			examples: []string{"wulf network delete rack"}, flags: changeFlags(), run: p.networkDelete,
		},
		p.knownHosts(),
	)
}

func networkFlags() []cli.Flag {
	return []cli.Flag{
		text("cidr", "its addresses, as `PREFIX`/BITS"),
		text("cidr6", "its IPv6 addresses, as `PREFIX`/BITS"),
		text("gateway6", "the `ADDRESS` of its IPv6 router"),
		number("vlan", "the `NUMBER` of its VLAN, for switches and templates"),
		text("allocate", "where nodes get addresses with --ipaddr auto: `FIRST-LAST`; else everywhere but in the pool"),
		text("comment", "a `TEXT` for people"),
		text("gateway", "the `ADDRESS` of its router"),
		texts("dns", "the `ADDRESS` of a name server; several: again, or with commas"),
		texts("ntp", "the `ADDRESS` of a time server, likewise"),
		text("domain", "the `DOMAIN` of its nodes' names"),
		number("mtu", "its greatest packet, in `BYTES`"),
		text("pool", "addresses for machines that are not known: `FIRST-LAST`"),
		text("dhcp", "what relays do there, by `MODE`: authoritative, proxy or off"),
		toggle("probe", "ask whether an address of the pool is in use before it is offered; --probe=no ends it"),
		toggle("warewulf", "answer there as Warewulf's server does, to nodes with --method warewulf; --warewulf=no ends it"),
		text("secrets", "who may hold its nodes' secrets, by `POLICY`: relay or refuse"),
	}
}

// readNetwork changes a network as the flags say.
func readNetwork(c *cli.Context, n *catalog.Network) error {
	var err error
	if c.IsSet("cidr") {
		if n.Prefix, err = netip.ParsePrefix(c.String("cidr")); err != nil {
			return fault.New(fault.Invalid, "--cidr %q is not a prefix of addresses", c.String("cidr")).WithFix("write it as 10.1.0.0/16")
		}
	}
	if c.IsSet("cidr6") {
		if n.Prefix6, err = netip.ParsePrefix(c.String("cidr6")); err != nil {
			return fault.New(fault.Invalid, "--cidr6 %q is not a prefix of addresses", c.String("cidr6")).WithFix("write it as fd00:1::/64")
		}
	}
	if c.IsSet("gateway6") {
		if n.Gateway6, err = address("gateway6", c.String("gateway6")); err != nil {
			return err
		}
	}
	if c.IsSet("gateway") {
		if n.Gateway, err = address("gateway", c.String("gateway")); err != nil {
			return err
		}
	}
	for flag, into := range map[string]*[]netip.Addr{"dns": &n.DNS, "ntp": &n.NTP} {
		if !c.IsSet(flag) {
			continue
		}
		*into = nil
		for _, s := range names(c, flag) {
			a, err := address(flag, s)
			if err != nil {
				return err
			}
			*into = append(*into, a)
		}
	}
	if c.IsSet("domain") {
		n.Domain = c.String("domain")
	}
	if c.IsSet("mtu") {
		n.MTU = c.Int("mtu")
	}
	if c.IsSet("vlan") {
		n.VLAN = c.Int("vlan")
	}
	if c.IsSet("comment") {
		n.Comment = c.String("comment")
	}
	for flag, into := range map[string]*catalog.Range{"pool": &n.Pool, "allocate": &n.Allocate} {
		if !c.IsSet(flag) {
			continue
		}
		first, last, _ := strings.Cut(c.String(flag), "-")
		if into.First, err = address(flag, strings.TrimSpace(first)); err != nil {
			return err
		}
		if into.Last, err = address(flag, strings.TrimSpace(cmp.Or(last, first))); err != nil {
			return err
		}
	}
	if c.IsSet("probe") {
		n.Probe = c.Bool("probe")
	}
	if c.IsSet("warewulf") {
		n.Warewulf = c.Bool("warewulf")
	}
	n.DHCP = cmp.Or(c.String("dhcp"), n.DHCP)
	n.Secrets = cmp.Or(c.String("secrets"), n.Secrets)
	return nil
}

// unsetNetwork takes back what a network need not have.
// networkParts are what a network can do without.
func networkParts() []string {
	return []string{"gateway", "dns", "ntp", "domain", "mtu", "vlan", "pool", "allocate", "cidr6", "gateway6", "comment"}
}

func unsetNetwork(n *catalog.Network, unset []string) error {
	for _, name := range unset {
		switch name {
		case "gateway":
			n.Gateway = netip.Addr{}
		case "gateway6":
			n.Gateway6 = netip.Addr{}
		case "cidr6":
			n.Prefix6, n.Gateway6 = netip.Prefix{}, netip.Addr{}
		case "vlan":
			n.VLAN = 0
		case "comment":
			n.Comment = ""
		case "allocate":
			n.Allocate = catalog.Range{}
		case "dns":
			n.DNS = nil
		case "ntp":
			n.NTP = nil
		case "domain":
			n.Domain = ""
		case "mtu":
			n.MTU = 0
		case "pool":
			n.Pool = catalog.Range{}
		default:
			return fault.New(fault.Invalid, "--unset %q is not something that a network can do without", name).
				WithFix("choose gateway, dns, ntp, domain, mtu, vlan, pool, allocate, cidr6, gateway6 or comment")
		}
	}
	return nil
}

func (p *program) networkList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[catalog.Network](cl, api.PathNetworks)
	if err != nil {
		return err
	}
	serving, err := relaysOf(cl)
	if err != nil {
		return err
	}
	return printList(p, c, listing[catalog.Network]{
		list: list,
		name: func(n catalog.Network) string { return string(n.Name) },
		columns: []column[catalog.Network]{
			{name: "NAME", cell: func(n catalog.Network) string { return string(n.Name) }},
			{name: "CIDR", cell: func(n catalog.Network) string { return n.Prefix.String() }},
			{name: "CIDR6", wide: true, cell: func(n catalog.Network) string { return or(prefixText(n.Prefix6)) }},
			{name: "GATEWAY", cell: func(n catalog.Network) string { return or(ipText(n.Gateway)) }},
			{name: "VLAN", wide: true, cell: func(n catalog.Network) string { return or(mtuText(n.VLAN)) }},
			{name: "DNS", wide: true, cell: func(n catalog.Network) string { return or(ipTexts(n.DNS)) }},
			{name: "NTP", wide: true, cell: func(n catalog.Network) string { return or(ipTexts(n.NTP)) }},
			{name: "DOMAIN", wide: true, cell: func(n catalog.Network) string { return or(n.Domain) }},
			{name: "MTU", wide: true, cell: func(n catalog.Network) string { return or(mtuText(n.MTU)) }},
			{name: "POOL", cell: func(n catalog.Network) string { return or(poolText(n.Pool)) }},
			{name: "DHCP", cell: func(n catalog.Network) string { return n.DHCP }},
			{name: "PROBE", wide: true, cell: func(n catalog.Network) string { return yesOrNo(n.Probe) }},
			{name: "RELAYS", wide: true, cell: func(n catalog.Network) string { return or(strings.Join(serving[n.Name], ",")) }},
			{name: "SECRETS", wide: true, cell: func(n catalog.Network) string { return n.Secrets }},
			{name: "WAREWULF", wide: true, cell: func(n catalog.Network) string { return yesOrNo(n.Warewulf) }},
			{name: "COMMENT", wide: true, cell: func(n catalog.Network) string { return n.Comment }},
		},
	})
}

func (p *program) networkShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	n, _, err := findNetwork(cl, c.Args().First())
	if err != nil {
		return err
	}
	serving, err := relaysOf(cl)
	if err != nil {
		return err
	}
	return p.show(c, n, func(r *report) {
		r.line("network %s", n.Name)
		r.rows(append(networkRows(n), []string{"relays", or(strings.Join(serving[n.Name], ","))}))
	})
}

// relaysOf are the relays that serve each network.
func relaysOf(cl *client) (map[catalog.NetworkName][]string, error) {
	relays, err := fetch[api.RelayView](cl, api.PathRelays)
	if err != nil {
		return nil, err
	}
	serving := map[catalog.NetworkName][]string{}
	for _, r := range relays.Items {
		for _, n := range r.Networks {
			serving[n] = append(serving[n], string(r.Name))
		}
	}
	return serving, nil
}

func findNetwork(cl *client, name string) (catalog.Network, catalog.Revision, error) {
	list, err := fetch[catalog.Network](cl, api.PathNetworks)
	if err != nil {
		return catalog.Network{}, 0, err
	}
	found, err := find("network", list.Items, []string{name}, func(n catalog.Network) string { return string(n.Name) })
	if err != nil {
		return catalog.Network{}, 0, err
	}
	return found[0], list.Revision, nil
}

func networkRows(n catalog.Network) [][]string {
	return [][]string{
		{"cidr", n.Prefix.String()}, {"cidr6", or(prefixText(n.Prefix6))}, {"gateway", or(ipText(n.Gateway))}, {"gateway6", or(ipText(n.Gateway6))}, {"dns", or(ipTexts(n.DNS))}, {"ntp", or(ipTexts(n.NTP))},
		{"domain", or(n.Domain)}, {"mtu", or(mtuText(n.MTU))}, {"vlan", or(mtuText(n.VLAN))}, {"pool", or(poolText(n.Pool))}, {"allocate", or(poolText(n.Allocate))}, {"dhcp", n.DHCP}, {"probe", yesOrNo(n.Probe)}, {"secrets", n.Secrets}, {"warewulf", yesOrNo(n.Warewulf)}, {"comment", or(n.Comment)},
	}
}

func (p *program) networkAdd(c *cli.Context) error {
	name, err := catalog.ParseName[catalog.NetworkName]("network", c.Args().First())
	if err != nil {
		return err
	}
	if !c.IsSet("cidr") {
		return fault.New(fault.Invalid, "network %s needs its addresses", name).WithFix("such as --cidr 10.1.0.0/16")
	}
	n := catalog.Network{Name: name}
	if err := readNetwork(c, &n); err != nil {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	return p.perform(c, cl, mutation{change: catalog.AddNetwork{Network: n}, diff: []string{fmt.Sprintf("add network %s %s", n.Name, n.Prefix)}})
}

func (p *program) networkSet(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	n, seen, err := findNetwork(cl, c.Args().First())
	if err != nil {
		return err
	}
	if err := readNetwork(c, &n); err != nil {
		return err
	}
	if err := unsetNetwork(&n, names(c, "unset")); err != nil {
		return err
	}
	// The log replaces the whole network, so nobody may have changed it since it was read.
	return p.perform(c, cl, mutation{change: catalog.SetNetwork{Network: n}, seen: seen})
}

func (p *program) networkDelete(c *cli.Context) error {
	return p.deleteEach(c, "network", func(name string) catalog.Change {
		return catalog.DeleteNetwork{Name: catalog.NetworkName(name)}
	})
}

func ipText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func ipTexts(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func mtuText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func poolText(r catalog.Range) string {
	if !r.First.IsValid() {
		return ""
	}
	return r.String()
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}
