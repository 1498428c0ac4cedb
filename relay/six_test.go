package relay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func TestAnAddressThatIsMadeOfAHardwareAddressTellsWhoseItIs(t *testing.T) {
	c := new(catalog.Catalog)
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	hw := catalog.HardwareAddr("52:54:00:00:00:01")
	for _, change := range []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "open", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Prefix6: netip.MustParsePrefix("fd00:1::/64"),
			Pool: catalog.Range{First: netip.MustParseAddr("10.1.0.100"), Last: netip.MustParseAddr("10.1.0.200")}}},
		catalog.AddNetwork{Network: catalog.Network{Name: "closed", Prefix: netip.MustParsePrefix("10.2.0.0/24"), Prefix6: netip.MustParsePrefix("fd00:2::/64")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "other", Prefix: netip.MustParsePrefix("10.3.0.0/24"), Prefix6: netip.MustParsePrefix("fd00:3::/64")}},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: &hw}}}}}},
	} {
		b, err := catalog.Entry{By: "test", At: at, Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	self := &catalog.Relay{Name: "r1", Networks: []catalog.NetworkName{"open", "closed"}}
	for name, tc := range map[string]struct {
		address string
		node    catalog.NodeName
		ok      bool
	}{
		"a node's":                       {"fd00:2::5054:ff:fe00:1", "n1", true},
		"a node's on the link":           {"fe80::5054:ff:fe00:1", "n1", true},
		"unknown where they are welcome": {"fd00:1::5054:ff:fe00:ff", "", true},
		"unknown where they are not":     {"fd00:2::5054:ff:fe00:ff", "", false},
		"unknown on the link":            {"fe80::5054:ff:fe00:ff", "", false},
		"of a network that others serve": {"fd00:3::5054:ff:fe00:1", "", false},
		"of no network at all":           {"fd00:4::5054:ff:fe00:1", "", false},
	} {
		a := netip.MustParseAddr(tc.address)
		made, _ := catalog.Hardware6(a)
		if node, _, ok := madeOf(c, self, a, made); node != tc.node || ok != tc.ok {
			t.Errorf("%s: %q, %t", name, node, ok)
		}
	}
}
