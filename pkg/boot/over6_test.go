package boot_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// sixes are networks with IPv6: one with a pool, and one without.
func sixes(t *testing.T) *catalog.Catalog {
	t.Helper()
	node := func(name, hw, ip6 string) catalog.Node {
		d := catalog.NetDev{Hardware: new(catalog.HardwareAddr(hw))}
		if ip6 != "" {
			d.Address6 = new(netip.MustParseAddr(ip6))
		}
		return catalog.Node{Name: catalog.NodeName(name), Settings: catalog.Settings{Image: new("debian"), Nets: map[string]catalog.NetDev{catalog.DefaultNet: d}}}
	}
	return lab(t, append([]catalog.Change{
		catalog.AddNetwork{Network: catalog.Network{Name: "open", Prefix: netip.MustParsePrefix("10.6.0.0/24"), Prefix6: netip.MustParsePrefix("fd00:6::/64"),
			Pool: catalog.Range{First: netip.MustParseAddr("10.6.0.100"), Last: netip.MustParseAddr("10.6.0.200")}}},
		catalog.AddNetwork{Network: catalog.Network{Name: "closed", Prefix: netip.MustParsePrefix("10.7.0.0/24"), Prefix6: netip.MustParsePrefix("fd00:7::/64")}},
		catalog.AddNodes{Nodes: []catalog.Node{
			node("s1", "52:54:06:00:00:01", "fd00:6::1"),
			node("s2", "52:54:06:00:00:02", ""),
			node("s3", "52:54:06:00:00:03", "fd00:6::5054:6ff:fe00:ff"), // what another machine would make
		}},
	}, relays(t, place{"six", "10.6.0.250 10.7.0.250", "", "", []catalog.NetworkName{"open", "closed"}}, place{"seven", "10.6.0.251", "", "", []catalog.NetworkName{"open"}})...)...)
}

func TestTheIPv6AddressIsDeclaredOrMadeOfTheHardwareAddress(t *testing.T) {
	c := sixes(t)
	for name, tc := range map[string]struct {
		hw      catalog.HardwareAddr
		network catalog.NetworkName
		want    string
	}{
		"declared":                            {"52:54:06:00:00:01", "open", "fd00:6::1"},
		"a node without one":                  {"52:54:06:00:00:02", "open", "fd00:6::5054:6ff:fe00:2"},
		"a node without one, no pool":         {"52:54:06:00:00:02", "closed", "fd00:7::5054:6ff:fe00:2"},
		"a node that is at home elsewhere":    {"52:54:06:00:00:01", "closed", ""},
		"unknown where they are welcome":      {"52:54:06:00:00:fe", "open", "fd00:6::5054:6ff:fe00:fe"},
		"unknown where they are not":          {"52:54:06:00:00:fe", "closed", ""},
		"what it would make is another's own": {"52:54:06:00:00:ff", "open", ""},
	} {
		p := plan(t, c, boot.Request{Hardware: tc.hw, Network: tc.network, Relay: "six"})
		got := ""
		if p.Address6.IsValid() {
			got = p.Address6.String()
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestAScriptThatIsAskedForByIPv6FetchesByIPv6First(t *testing.T) {
	p := plan(t, sixes(t), boot.Request{Hardware: "52:54:06:00:00:01", Network: "open", Relay: "six"})
	p.Over6("six", netip.MustParseAddr("fd00:6::250"))
	var b strings.Builder
	if err := p.WriteScript(&b, boot.Session{Boot: "b"}); err != nil {
		t.Fatal(err)
	}
	first, second := strings.Index(b.String(), "set base http://[fd00:6::250]:4480\n"), strings.Index(b.String(), "set base http://10.6.0.251:4480\n")
	if first < 0 || second < first {
		t.Errorf("the script is\n%s", &b)
	}
	// The agent has DHCPv4, and so only the relays' IPv4 addresses.
	if !strings.Contains(b.String(), "wulf.relays=10.6.0.250:4481,10.6.0.251:4481 ") {
		t.Errorf("the agent is told of\n%s", &b)
	}
	p.Over6("nobody", netip.MustParseAddr("fd00:6::251"))
	if p.Relays[0].Name != "six" {
		t.Error("a relay that does not serve the machine changed the order")
	}
}

func TestTheScreenOfAnUnknownMachineAsksOnByIPv6(t *testing.T) {
	p := plan(t, sixes(t), boot.Request{Hardware: "52:54:06:00:00:fe", Network: "open", Relay: "six"})
	p.Over6("six", netip.MustParseAddr("fe80::1%eth0"))
	var b strings.Builder
	if err := p.WriteScript(&b, boot.Session{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "--replace http://[fe80::1]:4480/boot/52:54:06:00:00:fe/script?") {
		t.Errorf("the script is\n%s", &b)
	}
}
