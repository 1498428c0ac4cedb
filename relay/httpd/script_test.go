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
	for name, tc := range map[string]struct {
		plan boot.Plan
		from netip.Addr
		want bool
	}{
		"the node":                           {plan(catalog.DHCPAuthoritative, "10.1.0.1/24"), own, true},
		"a machine that was just claimed":    {plan(catalog.DHCPAuthoritative, "10.1.0.1/24"), netip.MustParseAddr("10.1.0.205"), true},
		"its neighbour":                      {plan(catalog.DHCPAuthoritative, "10.1.0.1/24"), netip.MustParseAddr("10.1.0.2"), false},
		"a node without a declared address":  {plan(catalog.DHCPAuthoritative, ""), own, true},
		"where another DHCP gives addresses": {plan(catalog.DHCPProxy, "10.1.0.1/24"), netip.MustParseAddr("10.1.0.77"), true},
	} {
		if got := atHome(&tc.plan, tc.from); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
