package catalog_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func network(name, prefix string) catalog.Network {
	return catalog.Network{Name: catalog.NetworkName(name), Prefix: netip.MustParsePrefix(prefix)}
}

func TestNetworksThatCannotBeAreRefused(t *testing.T) {
	addr, pre := netip.MustParseAddr, netip.MustParsePrefix
	for name, change := range map[string]func(*catalog.Network){
		"no prefix":                func(n *catalog.Network) { n.Prefix = netip.Prefix{} },
		"IPv6 as IPv4":             func(n *catalog.Network) { n.Prefix = pre("fd00::/64") },
		"bits beyond the prefix":   func(n *catalog.Network) { n.Prefix = pre("10.8.0.1/24") },
		"IPv4 as IPv6":             func(n *catalog.Network) { n.Prefix6 = pre("10.9.0.0/24") },
		"bits beyond the prefix6":  func(n *catalog.Network) { n.Prefix6 = pre("fd00::1/64") },
		"gateway outside":          func(n *catalog.Network) { n.Gateway = addr("10.9.0.1") },
		"gateway6 outside":         func(n *catalog.Network) { n.Gateway6 = addr("fd01::1") },
		"gateway6 with a zone":     func(n *catalog.Network) { n.Gateway6 = addr("fe80::1%eth0") },
		"MTU too small":            func(n *catalog.Network) { n.MTU = 575 },
		"MTU too large":            func(n *catalog.Network) { n.MTU = 65521 },
		"VLAN below 0":             func(n *catalog.Network) { n.VLAN = -1 },
		"VLAN reserved":            func(n *catalog.Network) { n.VLAN = 4095 },
		"DHCP unknown":             func(n *catalog.Network) { n.DHCP = "maybe" },
		"secrets unknown":          func(n *catalog.Network) { n.Secrets = "all" },
		"pool backwards":           func(n *catalog.Network) { n.Pool = catalog.Range{First: addr("10.8.0.9"), Last: addr("10.8.0.8")} },
		"pool outside":             func(n *catalog.Network) { n.Pool = catalog.Range{First: addr("10.8.0.9"), Last: addr("10.9.0.8")} },
		"pool without an end":      func(n *catalog.Network) { n.Pool = catalog.Range{First: addr("10.8.0.9")} },
		"allocate outside":         func(n *catalog.Network) { n.Allocate = catalog.Range{First: addr("10.7.0.9"), Last: addr("10.8.0.8")} },
		"a server without address": func(n *catalog.Network) { n.DNS = []netip.Addr{{}} },
		"too many servers":         func(n *catalog.Network) { n.NTP = make([]netip.Addr, 9) },
		"a domain of two lines":    func(n *catalog.Network) { n.Domain = "a\nb" },
	} {
		n := network("x", "10.8.0.0/24")
		change(&n)
		if err := started(t).do(catalog.AddNetwork{Network: n}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := network("x", "10.8.0.0/24")
	good.Prefix6, good.Gateway6, good.MTU, good.VLAN = pre("fd00::/64"), addr("fe80::1"), 576, 4094
	l := started(t)
	l.must(catalog.AddNetwork{Network: good})
	for name, other := range map[string]catalog.Network{"the IPv6 prefix": {Name: "y", Prefix: pre("10.9.0.0/24"), Prefix6: pre("fd00::/48")}, "the IPv4 prefix": {Name: "y", Prefix: pre("10.8.0.128/25")}} {
		if err := l.do(catalog.AddNetwork{Network: other}); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "overlaps network x") {
			t.Errorf("%s overlaps: %v", name, err)
		}
	}
}

func TestNetworkOfAnAddress(t *testing.T) {
	l := started(t)
	six := network("a", "10.4.0.0/16")
	six.Prefix6 = netip.MustParsePrefix("fd00:4::/64")
	l.must(catalog.AddNetwork{Network: six}, catalog.AddNetwork{Network: network("b", "10.6.0.0/31")}, catalog.AddNetwork{Network: network("top", "255.255.255.0/24")}, catalog.AddNetwork{Network: network("bottom", "0.0.0.0/30")})
	c := l.c
	for range 2 {
		for address, want := range map[string]string{
			"10.4.0.0": "a", "10.4.255.255": "a", "10.3.255.255": "", "10.5.0.0": "", "10.6.0.0": "b", "10.6.0.1": "b", "10.6.0.2": "", "255.255.255.255": "top", "0.0.0.0": "bottom", "0.0.0.4": "",
			"fd00:4::": "a", "fd00:4::ffff:ffff:ffff:ffff": "a", "fd00:3:ffff::": "", "fd00:4:0:1::": "", "::": "", "ffff::": "", "::ffff:10.4.0.1": "",
		} {
			got := ""
			if n, ok := c.NetworkOf(netip.MustParseAddr(address)); ok {
				got = string(n.Name)
			}
			if got != want && !strings.HasPrefix(address, "::ffff") {
				t.Errorf("%s lies in %q, want %q", address, got, want)
			}
		}
		c = restored(t, c)
	}
	l.must(catalog.DeleteNetwork{Name: "a"})
	if n, ok := l.c.NetworkOf(netip.MustParseAddr("fd00:4::1")); ok {
		t.Errorf("a deleted network is found: %v", n.Name)
	}
}

func TestNetworksInUseStay(t *testing.T) {
	six := network("x", "10.8.0.0/24")
	six.Prefix6 = netip.MustParsePrefix("fd00:8::/64")
	for word, inUse := range map[string]bool{
		"nets.default.network=x": true, "nets.default.address=10.8.0.1": true, "nets.default.address6=fd00:8::1": true, "nets.default.mtu=1500": false,
	} {
		l := started(t)
		l.must(catalog.AddNetwork{Network: six}, catalog.AddNodes{Names: catalog.NodeSet{"m1"}, Set: settings(t, word)})
		err := l.do(catalog.DeleteNetwork{Name: "x"})
		if inUse != errors.Is(err, fault.Conflict) || inUse && !strings.Contains(err.Error(), "used by node m1") {
			t.Errorf("%s: %v", word, err)
		}
	}
	l := started(t)
	l.must(catalog.AddNetwork{Network: six})
	admit(l, "r1", "x", "10.8.0.9")
	if err := l.do(catalog.DeleteNetwork{Name: "x"}); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "used by relay r1") {
		t.Errorf("a relay serves it: %v", err)
	}
}

// An address with a mask of its own needs no network. One that is declared later must have room for it.
func TestANetworkThatComesLaterMustFitTheNodesInIt(t *testing.T) {
	l := started(t)
	l.must(catalog.AddNodes{Names: catalog.NodeSet{"m1"}, Set: settings(t, "nets.ib.address=10.8.0.5", "nets.ib.netmask=255.255.255.0")})
	bad := network("x", "10.8.0.0/24")
	bad.Gateway = netip.MustParseAddr("10.8.0.5")
	if err := l.do(catalog.AddNetwork{Network: bad}); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "gateway") {
		t.Errorf("its gateway is a node: %v", err)
	}
	l.must(catalog.AddNetwork{Network: network("x", "10.8.0.0/24")})
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	long := strings.Repeat("x", 5<<10)
	for word, text := range map[string]string{
		"nets.a.mtu=575": "MTU", "nets.a.mtu=65521": "MTU", "nets.a.type=token-ring": "type", "nets.a.netmask=255.0.255.0": "netmask", "nets.a.address=fd00::1": "IPv4", "nets.a.address6=10.1.0.77": "IPv6",
		"nets.a.address6=::ffff:10.1.0.77": "IPv6", "nets.a.address6=fd00::1%eth0": "IPv6", "nets.a.prefixlen6=129": "prefixlen6", "nets.a.device=a/b": "Linux", "nets.a.device=sixteen-letters-": "Linux",
		"bmc.port=0": "port", "bmc.port=65536": "port", "bmc.netmask=fd00::": "netmask", "bmc.address=::ffff:10.1.0.77": "bmc.address", "bmc.gateway=fe80::1%x": "bmc.gateway", "bmc.username=a\nb": "one line",
		"disks.sda.wipe_table=true": "not a device", "disks./dev/sda.partitions.a.number=-1": "below 0", "disks./dev/sda.partitions.a b.number=1": "not a name", "disks./dev/sda.partitions.a.type_guid=a\nb": "one line",
		"filesystems.sda.format=xfs": "not on a device", "filesystems./dev/sda1.path=home": "not absolute", "filesystems./dev/sda1.mount_options=a\nb": "one line",
		"method=three-stage": "method", "root=disk": "root", "root=/home": "not a device", "root=/dev/a b": "not a device", "init=sbin/init": "absolute", "init=/a\nb": "one line", "kernel.version=6\n": "one line", "tags.a b=x": "not a name", "tags.t=" + long: "more than",
		"kernel.args=" + long: "one line", "comment=" + long: "one line", "nets.eth0 1.mtu=1500": "not a name", "roles=a b": "not a name",
		"-imagine": "no setting", "-": "no setting", "-without": "no setting", "-comment": "no setting", "-nets.default.adress": "no setting",
	} {
		l := started(t)
		change := catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: settings(t, word)}
		if err := l.do(change); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1<<10 {
			t.Errorf("%.60q: %.300v, want %q", word, err, text)
		}
	}
	for name, s := range map[string]catalog.Settings{
		"two roots":                    settings(t, "root=/dev/sda1", "filesystems./dev/sdb1.path=/"),
		"a root that is not unpacked":  settings(t, "filesystems./dev/sdb1.path=/", "method=one-stage"),
		"two partitions of one number": settings(t, "disks./dev/sda.partitions.a.number=1", "disks./dev/sda.partitions.b.number=1"),
		"a device like a setting":      {Nets: map[string]catalog.NetDev{"eth0.mtu": {MTU: new(1500)}}},
		"a device like settings":       {Nets: map[string]catalog.NetDev{"eth0.tags.x": {MTU: new(1500)}}},
		"a disk like a setting":        {Disks: map[string]catalog.Disk{"/dev/a.partitions": {Wipe: new(true)}}},
		"an address that is none":      {Nets: map[string]catalog.NetDev{"a": {Address: new(netip.Addr{})}}},
		"a gateway that is none":       {Nets: map[string]catalog.NetDev{"a": {Gateway6: new(netip.Addr{})}}},
		"a BMC at no address":          {BMC: catalog.BMC{Address: new(netip.Addr{})}},
		"hardware in capitals":         {Nets: map[string]catalog.NetDev{"a": {Hardware: new(catalog.HardwareAddr("52:54:00:AA:00:01"))}}},
		"no name":                      {Tags: map[string]string{"": "x"}},
		"a device without a name":      {Nets: map[string]catalog.NetDev{"": {MTU: new(1500)}}},
	} {
		if err := started(t).do(catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: s}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is let in must fit into the lines of a snapshot.
func TestNodesDoNotGrowWithoutBound(t *testing.T) {
	l := started(t)
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = l.do(catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: settings(t, fmt.Sprintf("resources.r%d=%s", i, strings.Repeat("x", 100<<10)))})
	}
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "settings take") {
		t.Errorf("large resources: %v", err)
	}
	err = nil
	for i := 0; err == nil && i < 1000; i++ {
		err = l.do(catalog.SetNodes{Nodes: catalog.NodeSet{"n2"}, Set: settings(t, fmt.Sprintf("tags.t%d=x", i))})
	}
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "257 tags") {
		t.Errorf("many tags: %v", err)
	}
	restored(t, l.c)
}

// A record of a change to many nodes that hold much is larger than any line may be.
func TestLargeUndosSurviveASnapshot(t *testing.T) {
	l := started(t)
	var names catalog.NodeSet
	for i := range 200 {
		names = append(names, catalog.NodeName(fmt.Sprintf("m%03d", i)))
	}
	l.must(catalog.AddNodes{Names: names, Set: settings(t, "resources.r="+strings.Repeat("x", 100<<10))})
	before := declaredIn(l.c)
	rev := l.c.Changed()
	l.must(catalog.DeleteNodes{Nodes: names})
	l.c = restored(t, l.c)
	l.must(catalog.Revert{To: rev})
	if got := declaredIn(l.c); len(got.Nodes) != len(before.Nodes) || got.unlike(before) != before.unlike(before) {
		t.Error(got.unlike(before))
	}
}
