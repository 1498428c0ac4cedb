package dhcpd

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// nowhere takes everything.
type nowhere struct{ net.PacketConn }

func (nowhere) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (nowhere) SendFrame(net.HardwareAddr, netip.AddrPort, netip.AddrPort, []byte) error {
	return nil
}

type nobody struct{}

func (nobody) Record(boot.Event) {}

// A whole DISCOVER, OFFER, REQUEST, ACK of a known PXE machine, in process: decoding, plan, answer, encoding.
func BenchmarkDORA(b *testing.B) {
	const nodes = 2000
	k := newCluster(b, time.Now())
	var add catalog.AddNodes
	k.do(time.Now(), catalog.AddNetwork{Network: catalog.Network{Name: "big", Prefix: netip.MustParsePrefix("10.64.0.0/16")}})
	for i := range nodes {
		add.Nodes = append(add.Nodes, catalog.Node{Name: catalog.NodeName(fmt.Sprintf("b%05d", i)), Settings: catalog.Settings{Image: new("debian"),
			Nets: map[string]catalog.NetDev{"default": {Hardware: new(catalog.HardwareAddr(fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255))), Address: new(netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}))}}}})
	}
	add.Nodes = add.Nodes[1:]
	k.do(time.Now(), add, catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"rack1", "big"}})
	cfg := k.config("r1", &journal{}, nil)
	cfg.Recorder = nobody{}
	s := New(cfg)
	r1, _ := k.c.Relay("r1")
	type pair struct{ discover, request []byte }
	var pairs []pair
	for i := 1; i < nodes; i++ {
		hw, at := fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255), fmt.Sprintf("10.64.%d.%d", i>>8, i&255)
		pairs = append(pairs, pair{message(discover, hw, pxe(classPXE, 7)).ToBytes(), message(request, hw, pxe(classPXE, 7), serverID(r1.Addresses[0].String()), requested(at)).ToBytes()})
	}
	l := &Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.64.255.1")}, Conn: nowhere{}, Raw: nowhere{}}
	d := newDesk(batch)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p := pairs[i%len(pairs)]
		for _, packet := range [][]byte{p.discover, p.request} {
			in := s.pool.get(l, false)
			in.n = copy(in.buf[:], packet)
			s.safely(d, in)
			in.free()
		}
	}
	s.clear(d)
	b.StopTimer()
	if st := s.Stats(); st.Offers != uint64(b.N) || st.Acks != uint64(b.N) {
		b.Fatalf("%d rounds gave %+v", b.N, st)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "DORA/s")
}

// The same without the plan: what is DHCP's own.
func BenchmarkAnswer(b *testing.B) {
	k := newCluster(b, time.Now())
	n, _ := k.c.Network("rack1")
	s := New(k.config("r1", &journal{}, nil))
	packet := message(discover, hwKnown, pxe(classPXE, 7)).ToBytes()
	b.ReportAllocs()
	var buf [maxPacket]byte
	d := newDesk(1)
	for range b.N {
		if err := d.q.parse(packet); err != nil {
			b.Fatal(err)
		}
		t := s.seat(s.world(), d.q.mac, d.q.firmware, n)
		d.sit = situation{q: &d.q, seat: t, loader: true}
		answer(&d.r, &d.sit, verdict{kind: msgOffer, addr: t.declared, term: NodeLease})
		d.r.encode(buf[:], &d.q)
	}
}

func BenchmarkPeekAtRubbish(b *testing.B) {
	packet := message(discover, hwKnown, pxe(classPXE, 7)).ToBytes()
	packet[1] = 6
	for range b.N {
		peek(packet)
	}
}
