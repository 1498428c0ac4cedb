package relay_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
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
		offer := make([]byte, 300) // RFC 2131 §2: a reply to 52:54:00:00:00:01 with the address 10.1.99.1
		copy(offer, []byte{2, 1, 6})
		copy(offer[16:], []byte{10, 1, 99, 1})
		copy(offer[28:], []byte{0x52, 0x54, 0, 0, 0, 1})
		copy(offer[236:], []byte{99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 1, 99, 99, 255})
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
		time.Sleep(10*time.Minute + 10*time.Second)
		if told() {
			t.Errorf("long after, the controller is told %q", w.heard("r1").Problems)
		}
	})
}
