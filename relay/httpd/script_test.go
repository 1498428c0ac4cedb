package httpd

import (
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func TestOnlyTheNodeItselfGetsATicket(t *testing.T) {
	own := netip.MustParseAddr("10.1.0.1")
	plan := func(mode string, address string) boot.Plan {
		p := boot.Plan{Network: &catalog.Network{DHCP: mode, Pool: catalog.Range{First: netip.MustParseAddr("10.1.0.200"), Last: netip.MustParseAddr("10.1.0.210")}}}
		if address != "" {
			p.Address = netip.MustParsePrefix(address)
		}
		return p
	}
	six := plan(catalog.DHCPAuthoritative, "10.1.0.1/24")
	six.Network.Prefix6, six.Address6, six.BootHardware = netip.MustParsePrefix("fd00:1::/64"), netip.MustParseAddr("fd00:1::1"), "52:54:00:00:00:01"
	for name, tc := range map[string]struct {
		plan boot.Plan
		from netip.Addr
		want bool
	}{
		"the node":                           {plan(catalog.DHCPAuthoritative, "10.1.0.1/24"), own, true},
		"a machine that was just claimed":    {plan(catalog.DHCPAuthoritative, "10.1.0.1/24"), netip.MustParseAddr("10.1.0.205"), true},
		"its neighbour":                      {plan(catalog.DHCPAuthoritative, "10.1.0.1/24"), netip.MustParseAddr("10.1.0.2"), false},
		"a node without a declared address":  {plan(catalog.DHCPAuthoritative, ""), own, true},
		"the node, by IPv6":                  {six, netip.MustParseAddr("fd00:1::1"), true},
		"by an address that it made itself":  {six, netip.MustParseAddr("fd00:1::5054:ff:fe00:1"), true},
		"without an address yet":             {six, netip.MustParseAddr("fe80::5054:ff:fe00:1%eth0"), true},
		"its neighbour, by IPv6":             {six, netip.MustParseAddr("fd00:1::2"), false},
		"its neighbour, without an address":  {six, netip.MustParseAddr("fe80::5054:ff:fe00:2%eth0"), false},
		"from another network":               {six, netip.MustParseAddr("fd00:2::5054:ff:fe00:1"), false},
		"where another DHCP gives addresses": {plan(catalog.DHCPProxy, "10.1.0.1/24"), netip.MustParseAddr("10.1.0.77"), true},
	} {
		if got := atHome(&tc.plan, tc.from); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
