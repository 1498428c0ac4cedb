package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// The suite that the Go project holds net.Conn implementations to; it runs in real time.
func TestStreamPassesTheConformanceSuiteOfNetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		n := memnet.New(memnet.Config{Latency: -1})
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		l, err := b.Listen(":1")
		if err != nil {
			return nil, nil, nil, err
		}
		c, err := a.Dial(context.Background(), "tcp", "b:1")
		if err != nil {
			return nil, nil, nil, err
		}
		s, err := l.Accept()
		return c, s, n.Close, err
	})
}

func TestStreamIsBufferedUpToItsWindow(t *testing.T) {
	bubble(t, memnet.Config{Window: 1000}, func(t *testing.T, n *memnet.Network) {
		c, s := join(t, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
		if got, err := c.Write(make([]byte, 1000)); got != 1000 || err != nil {
			t.Fatalf("writing a window that nobody reads: %d, %v", got, err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		start := time.Now()
		got, err := c.Write([]byte("more"))
		if got != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Fatalf("writing into a full window: %d, %v after %v", got, err, time.Since(start))
		}
		c.SetWriteDeadline(time.Time{})
		go func() {
			time.Sleep(time.Second)
			io.ReadFull(s, make([]byte, 4))
		}()
		start = time.Now()
		if got, err := c.Write([]byte("more")); got != 4 || err != nil || time.Since(start) != time.Second {
			t.Fatalf("writing once there is room: %d, %v after %v", got, err, time.Since(start))
		}
	})
}

func TestStreamCarriesEveryByteInOrder(t *testing.T) {
	bubble(t, memnet.Config{Window: 777}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		b.SetBandwidth(1 << 20)
		c, s := join(t, a, b)
		want := make([]byte, 100_000)
		for i := range want {
			want[i] = byte(i * i >> 3)
		}
		go func() {
			for rest := want; len(rest) > 0; {
				k := min(len(rest), 1+len(rest)%1500)
				c.Write(rest[:k])
				rest = rest[k:]
			}
			c.Close()
		}()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes, %v; equal: %v", len(got), err, bytes.Equal(got, want))
		}
	})
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		c, s := join(t, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
		io.WriteString(c, "question")
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "more"); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("writing after CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(s); string(got) != "question" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		io.WriteString(s, "answer")
		s.Close()
		if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		if _, err := s.Read(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading a closed end: %v", err)
		}
		c.Close()
		if open := n.Open(); len(open) != 0 {
			t.Errorf("open: %q", open)
		}
	})
}

func TestWritingToAClosedPeerFails(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		c, s := join(t, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
		s.Close()
		if _, err := io.WriteString(c, "x"); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAddressesAreRealOnes(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		n.Segment("rack", "10.2.0.0/16")
		a := n.Host("a", "10.1.0.1", "10.2.0.1").Join("rack")
		b := n.Host("b", "10.2.0.2").Join("rack")
		l := listen(t, b, ":4480")
		c := dial(t, a, "10.2.0.2:4480")
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.RemoteAddr().(*net.TCPAddr).IP; !got.Equal(net.IPv4(10, 2, 0, 1)) {
			t.Errorf("the server sees %v; want the client's address on the same segment", got)
		}
		if got, want := s.LocalAddr().String(), "10.2.0.2:4480"; got != want {
			t.Errorf("accepted on %s, want %s", got, want)
		}
		if c.LocalAddr().String() != s.RemoteAddr().String() || c.RemoteAddr().String() != s.LocalAddr().String() {
			t.Errorf("the ends disagree: %v %v, %v %v", c.LocalAddr(), c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr())
		}
		if got, want := l.Addr().String(), "0.0.0.0:4480"; got != want {
			t.Errorf("listens on %s, want %s", got, want)
		}
		if _, err := a.Dial(t.Context(), "tcp", "nobody:1"); !isNotFound(err) {
			t.Errorf("dialling an unknown name: %v", err)
		}
	})
}

func isNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

func TestListenRefusesATakenOrForeignAddress(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a := n.Host("a", "10.0.0.1")
		l := listen(t, a, "10.0.0.1:80")
		if _, err := a.Listen("10.0.0.1:80"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listening twice: %v", err)
		}
		if _, err := a.Listen("10.0.0.2:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("listening on a foreign address: %v", err)
		}
		l.Close()
		listen(t, a, "10.0.0.1:80").Close()
		if err := n.Host("b").SetAddrs("10.0.0.1"); err == nil {
			t.Error("two hosts have one address")
		}
	})
}

func TestDialToADeadPortIsRefusedAfterARoundTrip(t *testing.T) {
	bubble(t, memnet.Config{Latency: 5 * time.Millisecond}, func(t *testing.T, n *memnet.Network) {
		a := n.Host("a", "10.0.0.1")
		n.Host("b", "10.0.0.2")
		took, err := dialAfter(a, time.Minute, "10.0.0.2:80")
		if !errors.Is(err, syscall.ECONNREFUSED) || took != 10*time.Millisecond {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

func TestDialToNobodyWaitsThenTimesOut(t *testing.T) {
	bubble(t, memnet.Config{DialTimeout: 20 * time.Second}, func(t *testing.T, n *memnet.Network) {
		a := n.Host("a", "10.0.0.1")
		if took, err := dialAfter(a, 3*time.Second, "10.0.0.9:80"); !isTimeout(err) || took != 3*time.Second {
			t.Errorf("with 3 s allowed: %v after %v", err, took)
		}
		if took, err := dialAfter(a, time.Hour, "10.0.0.9:80"); !isTimeout(err) || took != 20*time.Second {
			t.Errorf("with an hour allowed: %v after %v", err, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := a.Dial(ctx, "tcp", "10.0.0.9:80"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestDialWaitsForRoomInTheBacklog(t *testing.T) {
	bubble(t, memnet.Config{Backlog: 2}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		l := listen(t, b, ":80")
		dial(t, a, "b:80")
		dial(t, a, "b:80")
		if _, err := dialAfter(a, 5*time.Second, "b:80"); !isTimeout(err) {
			t.Fatalf("third dial: %v", err)
		}
		time.AfterFunc(2*time.Second, func() { l.Accept() })
		if took, err := dialAfter(a, 10*time.Second, "b:80"); err != nil || took < 2*time.Second {
			t.Fatalf("after one was accepted: %v in %v", err, took)
		}
	})
}

func TestClosingAListenerResetsWhatItNeverAccepted(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		l := listen(t, b, ":80")
		c := dial(t, a, "b:80")
		accepted := make(chan error)
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					accepted <- err
					return
				}
			}
		}()
		synctest.Wait()
		second := listen(t, b, ":81")
		d := dial(t, a, "b:81")
		second.Close()
		if _, err := d.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reading from a listener that went away: %v", err)
		}
		l.Close()
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("closing the listener touched an accepted stream: %v", err)
		}
	})
}

func TestConcurrentWritesAreNotMixed(t *testing.T) {
	bubble(t, memnet.Config{Window: 10}, func(t *testing.T, n *memnet.Network) {
		c, s := join(t, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
		for _, letter := range []byte{'x', 'y', 'z'} {
			go c.Write(bytes.Repeat([]byte{letter}, 100))
		}
		got := make([]byte, 300)
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < 300; i += 100 {
			if run := got[i : i+100]; bytes.Count(run, run[:1]) != 100 {
				t.Fatalf("bytes %d to %d are of several writes: %s", i, i+100, run)
			}
		}
	})
}

func TestReadDeadlineInThePastEndsABlockedRead(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		c, _ := join(t, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
}
