package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// What a firewall drops nobody hears of; other ports and other senders are let through, and so is everybody after Heal.
func TestABlockedPortIsSilentForThoseItIsBlockedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		defer n.Close()
		server, a, b := n.Host("server", "10.0.0.1"), n.Host("a", "10.0.0.2"), n.Host("b", "10.0.0.3")
		l, err := server.Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		p, err := server.ListenPacket(":69")
		if err != nil {
			t.Fatal(err)
		}
		n.Block([]string{"a"}, []string{"server"}, "tcp", 80)
		n.Block(nil, []string{"server"}, "udp", 69)
		dial := func(h *Host) error {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			c, err := h.Dial(ctx, "tcp", "10.0.0.1:80")
			if err == nil {
				c.Close()
				s, _ := l.Accept()
				s.Close()
			}
			return err
		}
		if err := dial(a); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a dial to a blocked port gave %v, want a timeout", err)
		}
		if err := dial(b); err != nil {
			t.Errorf("the other host is kept out: %v", err)
		}
		say := func() error {
			c, err := b.Dial(t.Context(), "udp", "10.0.0.1:69")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			p.SetReadDeadline(time.Now().Add(time.Second))
			_, _, err = p.ReadFrom(make([]byte, 10))
			return err
		}
		if err := say(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a packet to a blocked port gave %v, want silence", err)
		}
		n.Heal()
		if err := errors.Join(dial(a), say()); err != nil {
			t.Errorf("after Heal: %v", err)
		}
	})
}

// Where both ends believe in larger packets than the network carries, small writes arrive and large ones vanish.
func TestWritesLargerThanTheNetworkCarriesVanish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{})
		defer n.Close()
		server, client := n.Host("server", "10.0.0.1"), n.Host("client", "10.0.0.2")
		l, err := server.Listen(":80")
		if err != nil {
			t.Fatal(err)
		}
		send := func(size int) error {
			c, err := client.Dial(t.Context(), "tcp", "10.0.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			s.SetReadDeadline(time.Now().Add(time.Minute))
			_, err = io.ReadFull(s, make([]byte, size))
			return err
		}
		server.SetMTU(9000)
		if err := send(8000); err != nil {
			t.Errorf("only one end believes in more: %v", err)
		}
		client.SetMTU(9000)
		if err := send(1000); err != nil {
			t.Errorf("a small write: %v", err)
		}
		if err, timeout := send(8000), net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("a large write gave %v, want silence", err)
		}
	})
}
