package relay_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay"
	"github.com/wulfmesh/wulfmesh/relay/dhcpd"
)

// serving has a relay serve DHCP on the segment.
func (w *world) serving(name string) func(*relay.Config) {
	return func(cfg *relay.Config) {
		host := w.hosts[name]
		listen := func(port string) net.PacketConn {
			conn, err := host.ListenPacketOn("rack", port)
			if err != nil {
				w.t.Fatal(err)
			}
			return conn
		}
		cfg.DHCP, cfg.Links = true, []dhcpd.Link{{Name: "eth0", Addrs: []netip.Addr{host.Addr()}, Conn: listen(":67"), Snoop: listen(":68")}}
	}
}

// packet is a DHCP packet (RFC 2131 §2) of or to the machine 52:54:00:00:00:i: op, kind of message, more options.
func packet(op, i, kind byte, options ...byte) []byte {
	b := make([]byte, 300)
	copy(b, []byte{op, 1, 6, 0, 0, 0, 0, i, 0, 0, 0x80}) // answers by broadcast
	copy(b[28:], []byte{0x52, 0x54, 0, 0, 0, i})
	copy(b[236:], append([]byte{99, 130, 83, 99, 53, 1, kind}, append(options, 255)...))
	return b
}

// Somebody's laptop gives addresses in the rack: controllers know within ten seconds, in the relay's status, which wulf
// relay list and show print, and in the journal; and some time after it is gone it is no problem any more.
func TestARogueServerIsKnownWithinTenSeconds(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.join(1, dir)
		w.run(1, dir, w.serving("r1"))
		time.Sleep(time.Minute)
		rogue, err := w.host("laptop", "10.1.99.99").ListenPacketOn("rack", ":67")
		if err != nil {
			t.Fatal(err)
		}
		defer rogue.Close()
		offer := packet(2, 1, 2, 54, 4, 10, 1, 99, 99)
		copy(offer[16:], []byte{10, 1, 99, 1})
		if _, err := rogue.WriteTo(offer, &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		told := func() bool {
			return slices.ContainsFunc(w.heard("r1").Problems, func(p string) bool { return strings.Contains(p, "DHCP server 10.1.99.99") })
		}
		if !told() {
			t.Errorf("the controller was told %q, without the strange server", w.heard("r1").Problems)
		}
		if !slices.ContainsFunc(w.seen(boot.StageDHCP), func(e boot.Event) bool { return strings.Contains(e.Error, "DHCP server 10.1.99.99") }) {
			t.Errorf("no event of the strange server among %+v", w.seen(boot.StageDHCP))
		}
		if m := w.machine(50).get("http://" + w.hosts["r1"].Addr().String() + ":4480/metrics"); !bytes.Contains(m.body, []byte("\nwulf_relay_dhcp_strangers_total 1\n")) {
			t.Errorf("the metrics do not count it:\n%s", m.body)
		}
		time.Sleep(10*time.Minute + 10*time.Second)
		if told() {
			t.Errorf("long after, the controller is told %q", w.heard("r1").Problems)
		}
	})
}

// Where a relay serves no DHCP, machines do not wait for it, and unknown ones get what was its share of the pool.
func TestARelayWithoutDHCPIsNotWaitedFor(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	inWorld(t, func(w *world) {
		w.join(2, two)
		w.join(1, one)
		r1, _ := w.run(1, one, w.serving("r1"))
		w.run(2, two)
		const nodes = 16
		w.image("debian")
		w.overlays()
		for i := range nodes {
			w.node(1+i, catalog.Settings{})
		}
		time.Sleep(6 * time.Minute)
		if n := len(r1.Status().Members); n != 2 {
			t.Fatalf("%d relays have met", n)
		}
		machine := w.host("machine", "10.1.77.77")
		conn, err := machine.ListenPacketOn("rack", ":68")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var b [1500]byte
		offered := func(i byte) bool {
			if _, err := conn.WriteTo(packet(1, i, 1), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			for {
				n, _, err := conn.ReadFrom(b[:])
				if err != nil {
					return false
				}
				if n > 240 && b[0] == 2 && b[33] == i && bytes.Contains(b[236:n], []byte{53, 1, 2}) {
					return true
				}
			}
		}
		for i := range byte(nodes) {
			if !offered(1 + i) {
				t.Errorf("node n%d waits", 1+i)
			}
		}
		for i := range byte(99) { // as many as the pool has
			if !offered(100 + i) {
				t.Fatalf("unknown machine %d gets no address", i)
			}
		}
	})
}
