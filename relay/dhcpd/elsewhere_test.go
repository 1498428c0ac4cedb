package dhcpd

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// On one cable there may be networks whose addresses other servers give: what is theirs is none of ours to refuse, and
// those servers are no strangers there.
func TestMachinesOfOtherNetworksOnTheLinkAreLeftAlone(t *testing.T) {
	shared := func(p *datagram) {
		for _, a := range []string{"10.3.0.250", "10.4.0.250"} {
			p.link.Addrs = append(p.link.Addrs, netip.MustParseAddr(a))
		}
	}
	for _, tc := range []struct {
		name    string
		packet  *dhcpv4.DHCPv4
		how     []func(*datagram)
		want    dhcpv4.MessageType // 0: silence
		strange bool
	}{
		{"off, INIT-REBOOT", message(request, hwUnknown, linux, requested("10.4.0.77")), nil, 0, false},
		{"off, REBINDING", message(request, hwUnknown, linux, ciaddr("10.4.0.77")), nil, 0, false},
		{"off, SELECTING", message(request, hwUnknown, linux, requested("10.4.0.77"), serverID("10.4.0.5")), nil, 0, false},
		{"off, DISCOVER of its last address", message(discover, hwUnknown, linux, requested("10.4.0.77")), nil, 0, false},
		{"proxy, INIT-REBOOT", message(request, hwUnknown, linux, requested("10.3.0.77")), nil, 0, false},
		{"proxy, REBINDING", message(request, hwUnknown, linux, ciaddr("10.3.0.77")), nil, 0, false},
		{"proxy, SELECTING", message(request, hwUnknown, linux, requested("10.3.0.77"), serverID("10.3.0.5")), nil, 0, false},
		{"proxy, firmware that had an address", message(discover, hwUnknown, pxe(classPXE, 7), requested("10.3.0.77")), nil, dhcpv4.MessageTypeOffer, false},
		{"proxy, port 4011", message(request, hwUnknown, pxe(classPXE, 7), ciaddr("10.3.0.77")), []func(*datagram){toPXE, from("10.3.0.77:4011")}, dhcpv4.MessageTypeAck, false},
		{"an address of nowhere", message(request, hwUnknown, linux, requested("10.7.0.77")), nil, dhcpv4.MessageTypeNak, false},
		{"a node that has its address here", message(request, hwKnown, linux, requested("10.4.0.77")), nil, dhcpv4.MessageTypeNak, false},
		{"a node that is served by the other server", message(request, hwKnown, linux, requested("10.4.0.77"), serverID("10.4.0.5")), nil, 0, true},
		{"a stranger in ours", message(request, hwUnknown, linux, requested("10.1.0.77"), serverID("10.1.0.66")), nil, 0, true},
		{"nothing asked for", message(discover, hwUnknown, linux), nil, dhcpv4.MessageTypeOffer, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(newCluster(t, time.Now()).config("r1", &journal{}, nil))
			var got dhcpv4.MessageType
			for _, r := range ask(s, tc.packet, append(tc.how, shared)...) {
				p, err := dhcpv4.FromBytes(r.b)
				if err != nil {
					t.Fatal(err)
				}
				got = p.MessageType()
			}
			if got != tc.want {
				t.Errorf("answered %s, want %s", got, tc.want)
			}
			if strange := len(s.Problems()) > 0; strange != tc.strange {
				t.Errorf("problems %q", s.Problems())
			}
		})
	}
	s := New(newCluster(t, time.Now()).config("r1", &journal{}, nil))
	p := &datagram{link: &Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.250")}}}
	shared(p)
	var q query
	for _, prefix := range []string{"10.3.0", "10.4.0"} {
		s.overhear(&q, p.link, offered(hwUnknown, prefix+".5", prefix+".77"))
	}
	if lines := s.Problems(); len(lines) != 0 {
		t.Errorf("problems %q, of servers that belong there", lines)
	}
	s.overhear(&q, p.link, offered(hwUnknown, "10.1.0.66", "10.1.0.77"))
	if lines := s.Problems(); len(lines) != 1 {
		t.Errorf("problems %q, want the stranger", lines)
	}
}
