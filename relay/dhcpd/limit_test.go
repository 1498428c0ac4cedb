package dhcpd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// flood has the server read what a sender makes up, n packets in a second.
func flood(s *Server, n int, packet func(i int) *dhcpv4.DHCPv4) {
	l := &Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.250")}, Conn: &wire{}}
	d, p, began := newDesk(1), s.pool.get(l, false), time.Now()
	for i := range n {
		p.n, p.from = copy(p.buf[:], packet(i).ToBytes()), netip.MustParseAddrPort("0.0.0.0:68")
		s.arrive(d, began.Add(time.Second*time.Duration(i)/time.Duration(n)), p)
		s.clear(d)
	}
}

func random(i int) string {
	hw := net.HardwareAddr{2, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(hw[2:], uint32(i))
	return hw.String()
}

func TestAFloodFromOnePortStarvesNobodyElse(t *testing.T) {
	port := func(name string) dhcpv4.Modifier { return generic(82, append([]byte{1, byte(len(name))}, name...)...) }
	for name, tc := range map[string]struct {
		flood   func(i int) *dhcpv4.DHCPv4
		honest  *dhcpv4.DHCPv4
		most    uint64 // packets of the flood that are looked at
		problem string
	}{
		"a machine that goes round in circles": {func(int) *dhcpv4.DHCPv4 { return message(discover, hwUnknown) },
			message(discover, "52:54:00:00:00:77"), machineRate + machineBurst, ""},
		"a node's machine that does": {func(int) *dhcpv4.DHCPv4 { return message(discover, hwKnown) },
			message(discover, hwKnown2, requested("10.1.0.9")), machineRate + machineBurst, ""},
		"made-up machines on the link": {func(i int) *dhcpv4.DHCPv4 { return message(discover, random(i)) },
			message(discover, hwKnown), strangerRate + strangerBurst, "too often on eth0"},
		"made-up machines behind a port": {func(i int) *dhcpv4.DHCPv4 { return message(discover, random(i), giaddr("10.1.0.254"), port("bad")) },
			message(discover, hwUnknown, giaddr("10.1.0.254"), port("good")), portRate + portBurst, "through agent 10.1.0.254, option 82 0103626164"},
		"made-up agents": {func(i int) *dhcpv4.DHCPv4 {
			return message(discover, random(i), giaddr(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()), port(random(i)))
		}, message(discover, hwKnown, giaddr("10.1.0.254")), strangersRate + strangersBurst, "through agent"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := newCluster(t, time.Now()).config("r1", &journal{}, nil)
			s := New(cfg)
			const n = 30_000
			flood(s, n, tc.flood)
			st := s.Stats()
			if looked := st.Received - st.Limited; looked > tc.most+1 || looked < min(tc.most, machineBurst) {
				t.Errorf("%d of %d packets were looked at, want at most %d", looked, n, tc.most)
			}
			limited := st.Limited
			flood(s, 1, func(int) *dhcpv4.DHCPv4 { return tc.honest })
			if now := s.Stats().Limited; now != limited {
				t.Error("the honest machine was not heard")
			}
			lines := strings.Join(s.Problems(), "\n")
			if tc.problem == "" && lines != "" || !strings.Contains(lines, tc.problem) {
				t.Errorf("problems %q, want %q", lines, tc.problem)
			}
		})
	}
}
