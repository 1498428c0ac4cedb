package dhcpd

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// What this package reads is what another codec reads, and where that one refuses, this one does.
func FuzzOptions(f *testing.F) {
	for _, p := range seeds() {
		f.Add(p.ToBytes())
	}
	parts := message(discover, hwKnown, generic(43, bytes.Repeat([]byte("part"), 100)...)).ToBytes()
	f.Add(parts)
	f.Fuzz(func(t *testing.T, b []byte) {
		var q query
		err := q.read(b, opRequest)
		if len(b) >= offOptions && b[offOp] == opRequest && b[offHLen] == 6 && len(b) <= maxPacket {
			m, other := dhcpv4.FromBytes(b)
			if err == nil && other != nil {
				t.Fatalf("read, where the other codec says: %v", other)
			}
			if err == nil && !q.options.has(optOverload) { // which the other one does not follow
				for code := range 256 {
					want, ok := m.Options[uint8(code)]
					if q.options.has(byte(code)) != ok || !bytes.Equal(q.options.get(byte(code)), want) {
						t.Errorf("option %d is %x, the other codec says %x", code, q.options.get(byte(code)), want)
					}
				}
			}
		}
	})
}

func TestOptionsGoOnInOverloadedFields(t *testing.T) {
	for name, tc := range map[string]struct {
		overload byte
		want     string // of option 60
	}{
		"neither": {0, "in options"},
		"file":    {1, "in options, in file"},
		"sname":   {2, "in options, in sname"},
		"both":    {3, "in options, in file, in sname"},
	} {
		p := message(discover, hwKnown, generic(optClass, []byte("in options")...))
		if tc.overload != 0 {
			generic(optOverload, tc.overload)(p)
		}
		b := p.ToBytes()
		more := func(at int, text string) {
			b[at], b[at+1] = optClass, byte(len(text))
			b[at+2+copy(b[at+2:], text)] = optEnd
		}
		more(offFile, ", in file")
		more(offSname, ", in sname")
		var q query
		if err := q.parse(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := string(q.options.get(optClass)); got != tc.want {
			t.Errorf("%s overloaded: option 60 is %q, want %q", name, got, tc.want)
		}
	}
}

func TestManyPartsOfOptionsAreRefused(t *testing.T) {
	b := message(discover, hwKnown).ToBytes()[:offOptions]
	for len(b) < maxPacket-20 {
		b = append(b, 60, 4, 'a', 'b', 'c', 'd', 77, 4, 'e', 'f', 'g', 'h')
	}
	b = append(b, optMessageType, 1, byte(msgDiscover), optEnd)
	var q query
	if err := q.parse(b); err == nil {
		t.Errorf("read, and put together %d bytes", len(q.options.joined))
	}
}

// A reply whose options are longer than one can be comes in parts that another codec puts together.
func TestLongOptionsComeInParts(t *testing.T) {
	var q query
	if err := q.parse(message(discover, hwKnown, giaddr("10.1.0.254"), generic(82, bytes.Repeat([]byte{1, 8, 'c', 'i', 'r', 'c', 'u', 'i', 't', '1'}, 40)...)).ToBytes()); err != nil {
		t.Fatal(err)
	}
	var r reply
	r.begin(msgOffer)
	r.echo(optAgent, &q)
	r.putText(optDomainName, strings.Repeat("x", 255))
	r.putSeconds(optLeaseTime, time.Hour)
	r.putAddrs(optDNS, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.2"))
	r.yiaddr, r.file = netip.MustParseAddr("10.1.0.1"), "snponly.efi"
	var b [maxPacket]byte
	n := r.encode(b[:], &q)
	m, err := dhcpv4.FromBytes(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Options[82]; !bytes.Equal(got, q.options.get(82)) {
		t.Errorf("option 82 came out as %x", got)
	}
	if len(m.DNS()) != 2 || m.IPAddressLeaseTime(0) != time.Hour || m.DomainName() != strings.Repeat("x", 255) || m.BootFileName != "snponly.efi" || m.YourIPAddr.String() != "10.1.0.1" {
		t.Errorf("came out as %s", m.Summary())
	}
	if !bytes.Equal(m.ToBytes(), b[:n]) {
		t.Errorf("the other codec writes it as\n%x, this one as\n%x", m.ToBytes(), b[:n])
	}
	if r.encode(b[:300], &q) != 0 {
		t.Error("it fits into 300 bytes")
	}
}
