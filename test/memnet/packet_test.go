package memnet_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// receive returns the next packet, "" when none comes within a second.
func receive(t *testing.T, p net.PacketConn) string {
	t.Helper()
	got, _ := receiveFrom(t, p)
	return got
}

func receiveFrom(t *testing.T, p net.PacketConn) (string, string) {
	t.Helper()
	b := make([]byte, 2000)
	p.SetReadDeadline(time.Now().Add(time.Second))
	n, from, err := p.ReadFrom(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), from.String()
}

func send(t *testing.T, p net.PacketConn, text, to string) {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteTo([]byte(text), addr); err != nil {
		t.Fatal(err)
	}
}

func TestPacketsKeepTheirOrderAndSource(t *testing.T) {
	bubble(t, memnet.Config{Latency: time.Millisecond}, func(t *testing.T, n *memnet.Network) {
		a := listenPacket(t, n.Host("a", "10.0.0.1"), ":68")
		b := listenPacket(t, n.Host("b", "10.0.0.2"), "10.0.0.2:67")
		start := time.Now()
		for i := range 10 {
			send(t, a, fmt.Sprint(i), "10.0.0.2:67")
		}
		for i := range 10 {
			got, from := receiveFrom(t, b)
			if got != fmt.Sprint(i) || from != "10.0.0.1:68" {
				t.Fatalf("packet %d is %q from %s", i, got, from)
			}
		}
		if took := time.Since(start); took != time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestAFullQueueDropsAndNeverBlocks(t *testing.T) {
	bubble(t, memnet.Config{PacketQueue: 3}, func(t *testing.T, n *memnet.Network) {
		a := listenPacket(t, n.Host("a", "10.0.0.1"), ":0")
		b := listenPacket(t, n.Host("b", "10.0.0.2"), ":67")
		for i := range 10 {
			send(t, a, fmt.Sprint(i), "10.0.0.2:67")
		}
		send(t, a, "x", "10.0.0.2:1") // nobody listens
		send(t, a, "x", "10.9.9.9:1") // nobody is there
		for _, want := range []string{"0", "1", "2", ""} {
			if got := receive(t, b); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		flow := memnet.Flow{From: "a", To: "b", Net: "udp", Port: 67}
		if got, want := n.Traffic()[flow], (memnet.Count{Bytes: 10, Packets: 10, Dropped: 7}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

func TestLossTakesItsShare(t *testing.T) {
	bubble(t, memnet.Config{Loss: 0.25, PacketQueue: 2000, Seed: 1}, func(t *testing.T, n *memnet.Network) {
		a := listenPacket(t, n.Host("a", "10.0.0.1"), ":0")
		listenPacket(t, n.Host("b", "10.0.0.2"), ":67")
		for range 1000 {
			send(t, a, "x", "10.0.0.2:67")
		}
		sent := n.Sent(func(memnet.Flow) bool { return true })
		if sent.Packets != 1000 || sent.Dropped < 200 || sent.Dropped > 300 {
			t.Errorf("lost %d of %d", sent.Dropped, sent.Packets)
		}
	})
}

func TestBroadcastReachesTheSegmentAlone(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		n.Segment("rack1", "10.1.0.0/24")
		n.Segment("rack2", "10.2.0.0/24")
		relay1 := listenPacket(t, n.Host("relay1", "10.1.0.1").Join("rack1"), ":67")
		relay2 := listenPacket(t, n.Host("relay2", "10.1.0.2").Join("rack1"), ":67")
		far := listenPacket(t, n.Host("far", "10.2.0.1").Join("rack2"), ":67")
		machine := n.Host("machine").Join("rack1") // has no address yet
		other := listenPacket(t, n.Host("other").Join("rack1"), ":68")
		client := listenPacket(t, machine, ":68")

		send(t, client, "discover", "255.255.255.255:67")
		for name, p := range map[string]net.PacketConn{"relay1": relay1, "relay2": relay2} {
			if got, from := receiveFrom(t, p); got != "discover" || from != "0.0.0.0:68" {
				t.Errorf("%s got %q from %s", name, got, from)
			}
		}
		if got := receive(t, far); got != "" {
			t.Errorf("the broadcast left its segment: %q", got)
		}
		send(t, relay1, "offer", "255.255.255.255:68")
		for name, p := range map[string]net.PacketConn{"machine": client, "other": other} {
			if got, from := receiveFrom(t, p); got != "offer" || from != "10.1.0.1:67" {
				t.Errorf("%s got %q from %s", name, got, from)
			}
		}
		send(t, relay1, "directed", "10.1.0.255:68")
		if got := receive(t, other); got != "directed" {
			t.Errorf("broadcast to the segment's last address: %q", got)
		}
		receive(t, client)

		if err := machine.SetAddrs("10.1.0.50"); err != nil {
			t.Fatal(err)
		}
		send(t, relay1, "ack", "10.1.0.50:68")
		if got := receive(t, client); got != "ack" {
			t.Errorf("unicast to the new address: %q", got)
		}
	})
}

func TestASocketBoundToASegmentHearsItAlone(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		n.Segment("rack1", "10.1.0.0/24")
		n.Segment("rack2", "10.2.0.0/24")
		relay := n.Host("relay", "10.1.0.1", "10.2.0.1").Join("rack1", "rack2")
		socket := map[string]net.PacketConn{}
		for _, s := range []string{"rack1", "rack2"} {
			p, err := relay.ListenPacketOn(s, ":67")
			if err != nil {
				t.Fatal(err)
			}
			socket[s] = p
		}
		c1 := listenPacket(t, n.Host("n1").Join("rack1"), ":68")
		c2 := listenPacket(t, n.Host("n2", "10.2.0.9").Join("rack2"), ":68")
		send(t, c1, "one", "255.255.255.255:67")
		send(t, c2, "two", "10.2.0.1:67")
		if got := receive(t, socket["rack1"]); got != "one" {
			t.Errorf("rack1 got %q", got)
		}
		if got := receive(t, socket["rack2"]); got != "two" {
			t.Errorf("rack2 got %q", got)
		}
		send(t, socket["rack1"], "offer", "255.255.255.255:68")
		if got, from := receiveFrom(t, c1); got != "offer" || from != "10.1.0.1:67" {
			t.Errorf("n1 got %q from %s", got, from)
		}
		if got := receive(t, c2); got != "" {
			t.Errorf("n2 got %q", got)
		}
	})
}

func TestAHostWithoutAddressOnlyBroadcasts(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		n.Host("b", "10.0.0.2")
		p := listenPacket(t, n.Host("a"), ":68")
		_, err := p.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 67})
		if !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDialledPacketSocketHearsItsPeerAlone(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a := n.Host("a", "10.0.0.1")
		server := listenPacket(t, n.Host("b", "10.0.0.2"), ":69")
		stranger := listenPacket(t, n.Host("x", "10.0.0.3"), ":69")
		c, err := a.Dial(t.Context(), "udp", "b:69")
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("read"))
		got, from := receiveFrom(t, server)
		if got != "read" || from != c.LocalAddr().String() {
			t.Fatalf("the server got %q from %s", got, from)
		}
		send(t, stranger, "forged", from)
		send(t, server, "data", from)
		b := make([]byte, 10)
		k, err := c.Read(b)
		if err != nil || string(b[:k]) != "data" {
			t.Errorf("read %q, %v", b[:k], err)
		}
	})
}

func TestClosingAPacketSocketEndsItsRead(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		p := listenPacket(t, n.Host("a", "10.0.0.1"), ":1")
		ended := make(chan error)
		go func() {
			_, _, err := p.ReadFrom(make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		p.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if _, err := p.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing: %v", err)
		}
	})
}
