package catalog

import (
	"net/netip"
	"testing"
)

func TestAnIPv6AddressIsMadeOfAHardwareAddressAndTellsIt(t *testing.T) {
	for prefix, want := range map[string]string{
		"fd00:1::/64": "fd00:1::5054:ff:fe00:1",
		"fd00:1::/48": "fd00:1::5054:ff:fe00:1",
		"fd00:1::/96": "", // no room
		"":            "",
	} {
		var n Network
		if prefix != "" {
			n.Prefix6 = netip.MustParsePrefix(prefix)
		}
		got := n.Derived6("52:54:00:00:00:01")
		if want == "" {
			if got.IsValid() {
				t.Errorf("in %q: got %s, want none", prefix, got)
			}
			continue
		}
		if got.String() != want {
			t.Errorf("in %q: got %s, want %s", prefix, got, want)
		}
		if hw, ok := Hardware6(got); !ok || hw != "52:54:00:00:00:01" {
			t.Errorf("%s tells of %q", got, hw)
		}
	}
	for _, a := range []string{"10.1.0.1", "fd00:1::1", "::ffff:10.255.254.1"} {
		if hw, ok := Hardware6(netip.MustParseAddr(a)); ok {
			t.Errorf("%s is made of %s", a, hw)
		}
	}
	var n Network
	n.Prefix6 = netip.MustParsePrefix("fd00:1::/64")
	if a := n.Derived6("not one"); a.IsValid() {
		t.Errorf("made %s of nothing", a)
	}
}
