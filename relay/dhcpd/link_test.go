package dhcpd

import (
	"context"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// lame is a socket of an interface that is down, and takes its time to be closed.
type lame struct {
	net.PacketConn
	closed bool
}

func (l *lame) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, syscall.ENETDOWN }
func (l *lame) Close() error {
	time.Sleep(time.Second)
	l.closed = true
	return nil
}

// The next socket on the interface can be bound only when the last one is closed.
func TestALinkIsClosedWhenItIsServedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(newCluster(t, time.Now()).config("r1", &journal{}, nil))
		ctx, cancel := context.WithCancel(t.Context())
		conn, done := &lame{}, make(chan struct{})
		go func() {
			defer close(done)
			s.listen(ctx, &Link{Name: "eth0", Conn: conn})
		}()
		time.Sleep(time.Minute)
		cancel()
		<-done
		if !conn.closed {
			t.Error("listening ended before the socket was closed")
		}
	})
}

// A packet that was held back while its interface changed is answered on a socket that is closed. Nothing is wrong with
// the interface then.
func TestAnswersOnALinkThatIsGoneAreNoTrouble(t *testing.T) {
	s := New(newCluster(t, time.Now()).config("r1", &journal{}, nil))
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	asks := message(discover, hwKnown, broadcast)
	ask(s, asks, func(p *datagram) { p.link.Conn = conn })
	if lines := s.Problems(); len(lines) != 0 || s.Stats().Unsent != 1 {
		t.Errorf("problems %q, and %d answers not sent, want one and no word of it", lines, s.Stats().Unsent)
	}
	ask(s, asks, func(p *datagram) { p.link.Conn = failing{} })
	if lines := s.Problems(); len(lines) != 1 {
		t.Errorf("problems %q, want one of the interface that is down", lines)
	}
	s.trouble.Keep(func(link string) bool { return link != "eth0" })
	if lines := s.Problems(); len(lines) != 0 {
		t.Errorf("problems %q of an interface that is not served any more", lines)
	}
}

type failing struct{ net.PacketConn }

func (failing) WriteTo([]byte, net.Addr) (int, error) { return 0, syscall.ENETDOWN }

// The field in which a client says what address it has is not checked by anybody: no answer goes where it points to
// unless that is the client's own address.
func TestAnswersGoToNoAddressThatIsNotTheClients(t *testing.T) {
	for _, tc := range []struct {
		name   string
		packet *dhcpv4.DHCPv4
		to     string
	}{
		{"renewing", message(request, hwKnown, ciaddr("10.1.0.1")), "10.1.0.1:68"},
		{"selecting, with an address elsewhere", message(request, hwKnown, ciaddr("8.8.8.8"), requested("10.1.0.1")), "10.1.0.1:68"},
		{"selecting by broadcast, with an address elsewhere", message(request, hwKnown, ciaddr("8.8.8.8"), requested("10.1.0.1"), broadcast), "255.255.255.255:68"},
		{"informing", message(inform, hwKnown, ciaddr("10.1.0.1")), "10.1.0.1:68"},
		{"informing from elsewhere", message(inform, hwKnown, ciaddr("8.8.8.8")), ""},
	} {
		var to string
		for _, r := range ask(New(newCluster(t, time.Now()).config("r1", &journal{}, nil)), tc.packet) {
			to = r.to.String()
		}
		if to != tc.to {
			t.Errorf("%s: answered to %q, want %q", tc.name, to, tc.to)
		}
	}
}
