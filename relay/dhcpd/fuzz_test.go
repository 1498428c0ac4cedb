package dhcpd

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// seeds are packets of every kind.
func seeds() []*dhcpv4.DHCPv4 {
	return []*dhcpv4.DHCPv4{
		message(discover, hwKnown, pxe(classPXE, 0), broadcast),
		message(discover, hwUnknown, ipxe(featureHTTP)),
		message(request, hwKnown, pxe(classHTTP, 16), serverID("10.1.0.250"), requested("10.1.0.1")),
		message(request, hwKnown, linux, ciaddr("10.1.0.1")),
		message(request, hwUnknown, requested("10.7.0.1"), giaddr("10.1.0.254"), generic(82, 1, 1, 'x', 5, 4, 10, 2, 0, 0, 11, 4, 10, 1, 0, 9, 19, 0)),
		message(decline, hwUnknown, serverID("10.1.0.250"), requested("10.1.0.200")),
		message(release, hwUnknown, serverID("10.1.0.250"), ciaddr("10.1.0.200")),
		message(inform, hwKnown, ciaddr("10.1.0.1"), generic(57, 2, 64), generic(52, 3)),
	}
}

// Whatever comes in, the server stays up, and what goes out is a packet that a client can read, to somewhere sensible.
func FuzzAnswer(f *testing.F) {
	for _, p := range seeds() {
		f.Add(p.ToBytes(), false)
	}
	cfg := newCluster(f, time.Now()).config("r1", nil, nil)
	cfg.Recorder = nobody{}
	s, desk := New(cfg), newDesk(1)
	f.Fuzz(func(t *testing.T, b []byte, alone bool) {
		w := &wire{}
		for _, at := range []string{"10.1.0.250", "10.3.0.250"} {
			d := s.pool.get(&Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr(at)}, Conn: w, Raw: w, PXE: w}, false)
			d.n, d.from, d.unicast, d.waited = copy(d.buf[:], b), netip.MustParseAddrPort("10.1.0.1:68"), alone, true
			d.key, _ = peek(d.bytes())
			s.handle(desk, d) // not safely: a panic is to be seen
			s.clear(desk)
			s.overhear(&desk.q, d.link, b)
		}
		for _, r := range w.sent {
			if len(r.b) > 1472 {
				t.Errorf("a reply of %d bytes", len(r.b))
			}
			m, err := dhcpv4.FromBytes(r.b)
			if err != nil {
				t.Fatalf("a reply that cannot be read: %v", err)
			}
			if m.OpCode != dhcpv4.OpcodeBootReply || !bytes.Equal(m.TransactionID[:], b[4:8]) || !bytes.Equal(m.ClientHWAddr, b[28:34]) {
				t.Errorf("a reply to another packet: %s", m.Summary())
			}
			if m.MessageType() != dhcpv4.MessageTypeNak && len(m.Options.Get(dhcpv4.OptionServerIdentifier)) != 4 {
				t.Errorf("a reply without a server: %s", m.Summary())
			}
			if to := r.to.Addr(); to.IsMulticast() || to.IsLoopback() || to.IsUnspecified() {
				t.Errorf("a reply to %s", to)
			}
		}
	})
}

// peek must never take what parse then finds to be of another kind or machine, and neither may read past the end.
func FuzzPeek(f *testing.F) {
	for _, p := range seeds() {
		f.Add(p.ToBytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, ok := peek(b)
		var q query
		if err := q.parse(b); ok && err == nil && k.hw != q.mac {
			t.Errorf("peek sees %x, parse %x", k.hw, q.mac)
		}
	})
}

func FuzzAgent(f *testing.F) {
	f.Add([]byte{1, 1, 'x', 5, 4, 10, 2, 0, 0, 11, 4, 10, 1, 0, 9, 19, 0})
	f.Add([]byte{5, 4, 10})
	f.Add([]byte{5, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := parseAgent(b)
		for _, x := range []netip.Addr{a.link, a.override} {
			if x.IsValid() && !x.Is4() {
				t.Errorf("%s is no IPv4 address", x)
			}
		}
		features(b)
	})
}

func FuzzFrame(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	good := frame(mac, mac, netip.MustParseAddrPort("10.1.0.250:67"), netip.MustParseAddrPort("10.1.0.1:68"), []byte("payload"))
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		if payload, _, ok := unframe(b, clientPort); ok && len(payload) > len(b)-etherLen-ipLen-udpLen {
			t.Errorf("%d bytes of payload out of %d", len(payload), len(b))
		}
	})
}

func TestFramesCarryTheirPayload(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	src, dst := netip.MustParseAddrPort("10.1.0.250:67"), netip.MustParseAddrPort("10.1.0.1:68")
	for _, payload := range []string{"", "x", "even", "an odd length"} {
		b := frame(mac, mac, src, dst, []byte(payload))
		got, from, ok := unframe(b, clientPort)
		if !ok || string(got) != payload || from != src {
			t.Errorf("%q came out as %q from %s, %t", payload, got, from, ok)
		}
		// A checksum over what includes it is all ones (RFC 1071 §1).
		h := b[etherLen:]
		u := h[ipLen:]
		if s := fold(sum(0, h[:ipLen])); s != 0xffff {
			t.Errorf("%q: header sum %04x", payload, s)
		}
		if s := fold(sum(sum(17+uint32(len(u)), h[12:20]), u)); s != 0xffff {
			t.Errorf("%q: UDP sum %04x", payload, s)
		}
	}
}
