package radvd

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/ipv6"
)

func TestWhoIsAnswered(t *testing.T) {
	asker := &net.IPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}
	good := []byte{133, 0, 0, 0, 0, 0, 0, 0}
	here := &ipv6.ControlMessage{HopLimit: 255, IfIndex: 3}
	for name, tc := range map[string]struct {
		b    []byte
		cm   *ipv6.ControlMessage
		from net.Addr
		want string
	}{
		"a machine with an address":    {good, here, asker, "fe80::1%eth0"},
		"a machine without":            {good, here, &net.IPAddr{IP: net.IPv6unspecified, Zone: "eth0"}, "ff02::1%eth0"},
		"from beyond a router":         {good, &ipv6.ControlMessage{HopLimit: 254, IfIndex: 3}, asker, ""},
		"from another interface":       {good, &ipv6.ControlMessage{HopLimit: 255, IfIndex: 4}, asker, ""},
		"another message":              {[]byte{134, 0, 0, 0, 0, 0, 0, 0}, here, asker, ""},
		"cut short":                    {good[:7], here, asker, ""},
		"a code that there is not":     {[]byte{133, 1, 0, 0, 0, 0, 0, 0}, here, asker, ""},
		"without its control message":  {good, nil, asker, ""},
		"not an address of the family": {good, here, &net.UDPAddr{}, ""},
	} {
		got := ""
		if to := answerTo(tc.b, tc.cm, tc.from, 3); to != nil {
			got = to.String()
		}
		if got != tc.want {
			t.Errorf("%s: answered to %q, want %q", name, got, tc.want)
		}
	}
}

func TestWhatIsAdvertised(t *testing.T) {
	if got, want := advertisement(nil), []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("without DHCPv6: %x, want %x", got, want)
	}
	b := advertisement([]netip.Prefix{netip.MustParsePrefix("fd00:1::5/64"), netip.MustParsePrefix("fd00:2::/80")})
	want := append([]byte{134, 0, 0, 0, 64, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		3, 4, 64, 0x80, 0, 1, 0x51, 0x80, 0, 1, 0x51, 0x80, 0, 0, 0, 0, 0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		3, 4, 80, 0x80, 0, 1, 0x51, 0x80, 0, 1, 0x51, 0x80, 0, 0, 0, 0, 0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if !bytes.Equal(b, want) {
		t.Errorf("got %x, want %x", b, want)
	}
}
