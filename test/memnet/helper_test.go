package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// bubble runs a test in virtual time and checks that it closed every socket it opened.
func bubble(t *testing.T, cfg memnet.Config, f func(t *testing.T, n *memnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(cfg)
		f(t, n)
		n.Close()
		if open := n.Open(); len(open) != 0 {
			t.Errorf("still open after Close: %q", open)
		}
	})
}

func listen(t *testing.T, h *memnet.Host, addr string) net.Listener {
	t.Helper()
	l, err := h.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func listenPacket(t *testing.T, h *memnet.Host, addr string) net.PacketConn {
	t.Helper()
	p, err := h.ListenPacket(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dial(t *testing.T, h *memnet.Host, addr string) net.Conn {
	t.Helper()
	c, err := h.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// join makes a stream from a to b, whose ends it returns in that order.
func join(t *testing.T, a, b *memnet.Host) (net.Conn, net.Conn) {
	t.Helper()
	l := listen(t, b, ":0")
	defer l.Close()
	c := dial(t, a, net.JoinHostPort(b.Name(), port(l.Addr())))
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

// dialAfter says how a dial within a time allowed ended, and after how long.
func dialAfter(h *memnet.Host, allowed time.Duration, addr string) (time.Duration, error) {
	ctx, cancel := ctxFor(allowed)
	defer cancel()
	start := time.Now()
	c, err := h.Dial(ctx, "tcp", addr)
	if err == nil {
		c.Close()
	}
	return time.Since(start), err
}

func ctxFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// echo answers every stream with what it reads, until the listener closes.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}
