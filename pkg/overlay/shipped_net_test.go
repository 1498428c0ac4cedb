package overlay_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// netOverlays are the shipped overlays about networks.
var netOverlays = []string{
	"NetworkManager", "hostname", "hosts", "ifcfg", "ifupdown", "netplan", "resolv", "systemd.netname", "systemd.networkd", "udev.netname", "wicked",
}

// netNodes are the nodes that they are rendered for, and what each is there for.
func netNodes() []catalog.Node {
	type devices = map[string]catalog.NetDev
	addr := func(s string) *netip.Addr { return new(netip.MustParseAddr(s)) }
	hw := func(s string) *catalog.HardwareAddr { return new(catalog.HardwareAddr(s)) }
	node := func(name string, nets devices) catalog.Node {
		return catalog.Node{Name: catalog.NodeName(name), Settings: catalog.Settings{Nets: nets}}
	}
	bond := catalog.NetDev{Type: new("bond"), Device: new("bond0"), Hardware: hw("52:54:00:00:03:01"), Address: addr("10.1.0.3"),
		Tags: map[string]string{"mode": "802.3ad", "miimon": "50", "updelay": "200", "downdelay": "100", "xmit_hash_policy": "layer3+4"}}
	lone := node("lone", devices{"mgmt": {Device: new("eth0"), Address: addr("10.1.0.8")}, "untold": {Device: new("eth1")}, "asked": {Device: new("eth2"), Tags: map[string]string{"ipv4_method": "auto"}}})
	lone.Settings.Primary = new("mgmt")
	bonded := node("bonded", devices{
		"bond0": bond,
		"en1":   {Type: new("bond-slave"), Device: new("en1"), Tags: map[string]string{"master": "bond0"}},
		"en2":   {Device: new("en2"), Hardware: hw("52:54:00:00:03:02"), Tags: map[string]string{"master": "bond0"}},
		"tagged": {Type: new("vlan"), Device: new("bond0.42"), Address: addr("10.2.0.3"),
			Tags: map[string]string{"parent_device": "bond0", "vlan_id": "42"}},
	})
	bonded.Settings.Primary = new("bond0")
	return []catalog.Node{
		node("plain", devices{
			"default": {Device: new("eth0"), Hardware: hw("52:54:00:00:01:01"), Address: addr("10.1.0.1")},
			"second":  {Device: new("eth1"), Hardware: hw("52:54:00:00:01:02"), Address: addr("10.2.0.1"), Gateway: addr("10.2.255.254")},
			"spare":   {Device: new("eth2"), Hardware: hw("52:54:00:00:01:03"), OnBoot: new(false), Address: addr("10.3.0.1")},
		}),
		node("unnamed", devices{"default": {Hardware: hw("52:54:00:00:02:01"), Address: addr("10.1.0.2")}}),
		bonded,
		node("bridged", devices{
			"br0": {Type: new("bridge"), Device: new("br0"), Address: addr("10.1.0.4"), Tags: map[string]string{"cloned-mac-address": "52:54:00:00:04:ff"}},
			"en1": {Device: new("en1"), Hardware: hw("52:54:00:00:04:01"), Tags: map[string]string{"master": "br0"}},
		}),
		node("carried", devices{
			"default": {Device: new("eth0"), Hardware: hw("52:54:00:00:10:01"), Address: addr("10.1.0.10")},
			"out":     {Type: new("vlan"), Device: new("en9.7"), Address: addr("10.1.0.110")},
		}),
		node("fabric", devices{
			"default": {Device: new("eth0"), Hardware: hw("52:54:00:00:05:01"), Address: addr("10.1.0.5")},
			"ib0":     {Type: new("infiniband"), Device: new("ib0"), Hardware: hw("80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2"), Address: addr("10.2.0.5"), MTU: new(65520)},
			"ib1":     {Type: new("infiniband"), Device: new("ib1"), MTU: new(2044)},
		}),
		node("six", devices{"default": {Device: new("eth0"), Hardware: hw("52:54:00:00:06:01"), Network: new("sixth"), Address6: addr("fd00:6::6")}}),
		node("both", devices{
			"default": {Device: new("eth0"), Hardware: hw("52:54:00:00:07:01"), Network: new("sixth"), Address: addr("10.6.0.7"), Address6: addr("fd00:6::7"),
				Tags: map[string]string{"DNS1": "10.6.0.53", "DNS2": "10.6.1.53", "DNS3": "fd00:6::53", "DNSSEARCH": "lab.example;far.example;",
					"route1": "10.7.0.0/16,10.6.0.1", "route2": "fd00:7::/64,fd00:6::2", "route3": "10.8.0.0/16, 10.6.0.1, 50"}},
			"second": {Device: new("eth1"), Hardware: hw("52:54:00:00:07:02"), Address: addr("10.1.0.7"), Tags: map[string]string{"DNS": "10.6.0.53", "DNSSEARCH": "lab.example"}},
			"third":  {Device: new("eth2"), Hardware: hw("52:54:00:00:07:03"), Tags: map[string]string{"ipv4_method": "manual", "ipv6_method": "auto"}},
			"fourth": {Device: new("eth3"), Hardware: hw("52:54:00:00:07:04"), Tags: map[string]string{"ipv6_method": "disabled"}},
		}),
		lone,
		node("asking", devices{"default": {Device: new("eth0"), Hardware: hw("52:54:00:00:09:01")}}),
	}
}

// netLab is a catalog with those nodes.
func netLab(t *testing.T) *catalog.Catalog {
	t.Helper()
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	c := &catalog.Catalog{}
	for _, x := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: prefix("10.1.0.0/16"), Gateway: addr("10.1.255.254"), Domain: "lab.example",
			DNS: []netip.Addr{addr("10.1.0.253"), addr("10.1.0.252")}, MTU: 9000}},
		catalog.AddNetwork{Network: catalog.Network{Name: "second", Prefix: prefix("10.2.0.0/16"), Gateway: addr("10.2.255.254")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "third", Prefix: prefix("10.3.0.0/16")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "sixth", Prefix: prefix("10.6.0.0/16"), Gateway: addr("10.6.255.254"), Domain: "six.example",
			Prefix6: prefix("fd00:6::/64"), Gateway6: addr("fd00:6::1"), DNS: []netip.Addr{addr("fd00:6::53")}}},
		catalog.AddNodes{Nodes: netNodes()},
	} {
		c = change(t, c, x)
	}
	return c
}

// rendered are the files of a shipped overlay for a node of netLab.
func rendered(t *testing.T, c *catalog.Catalog, name string, node catalog.NodeName) []overlay.Rendered {
	t.Helper()
	r, err := renderAll([]*overlay.Bundle{shippedBundle(t, name)}, view(t, c, node, keys))
	if err != nil {
		t.Fatal(err)
	}
	return r.Files
}

func TestNetworkOverlaysSayWhatTheNodeIs(t *testing.T) {
	c := netLab(t)
	for _, name := range netOverlays {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			told := map[string]bool{} // what many nodes have alike stands there once
			for _, n := range netNodes() {
				fmt.Fprintf(&b, "######## %s\n", n.Name)
				for _, f := range rendered(t, c, name, n.Name) {
					s := fmt.Sprintf("== %s %s %04o %s\n%s", f.Type, f.Path, f.Mode, f.Target, f.Content)
					if !told[s] {
						b.WriteString(s)
					}
					told[s] = true
				}
			}
			golden(t, "net/"+name+".golden", b.String())
		})
	}
}

// What would be half a network is none, and the node's administrator is told of it.
func TestNetworksThatCannotBeAreTold(t *testing.T) {
	for _, x := range []struct {
		dev  catalog.NetDev
		want string
	}{
		{catalog.NetDev{Type: new("bond-slave"), Device: new("en1")}, "network device odd has no tag master"},
		{catalog.NetDev{Type: new("vlan"), Device: new("storage"), Tags: map[string]string{"parent_device": "en1"}}, "network device odd has no tag vlan_id"},
	} {
		c := change(t, netLab(t), catalog.AddNodes{Nodes: []catalog.Node{{Name: "odd", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{"odd": x.dev}}}}})
		for _, name := range []string{"NetworkManager", "ifcfg", "ifupdown", "netplan", "systemd.networkd", "wicked"} {
			if _, err := renderAll([]*overlay.Bundle{shippedBundle(t, name)}, view(t, c, "odd", keys)); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: got %v, want %q", name, err, x.want)
			}
		}
	}
}

// A node without network devices has no files that say so.
func TestNodesWithoutNetworksHaveNoFilesOfThem(t *testing.T) {
	c := change(t, netLab(t), catalog.AddNodes{Nodes: []catalog.Node{{Name: "bare"}}})
	for _, name := range netOverlays {
		for _, f := range rendered(t, c, name, "bare") {
			if f.Template != "" && f.Type == overlay.TypeFile && !slices.Contains([]string{"etc/hosts", "etc/hostname", "etc/sysconfig/network", "etc/NetworkManager/conf.d/warewulf-unmanaged.conf"}, f.Path) {
				t.Errorf("%s: %s: %s", name, f.Path, f.Content)
			}
		}
	}
}
