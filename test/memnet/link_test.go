package memnet_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

func TestLatencyIsPaidOnEveryWay(t *testing.T) {
	bubble(t, memnet.Config{Latency: 3 * time.Millisecond}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		go echo(listen(t, b, ":7"))
		c := dial(t, a, "b:7")
		ping := func() time.Duration {
			start := time.Now()
			io.WriteString(c, "x")
			io.ReadFull(c, make([]byte, 1))
			return time.Since(start)
		}
		if got, want := ping(), 6*time.Millisecond; got != want {
			t.Errorf("round trip %v, want %v", got, want)
		}
		n.SetLink("a", "b", memnet.Link{Latency: 20 * time.Millisecond})
		if got, want := ping(), 40*time.Millisecond; got != want {
			t.Errorf("round trip over a long link %v, want %v", got, want)
		}
	})
}

func TestBandwidthIsSharedByAllStreamsOfAHost(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		const size = 1 << 20
		server := n.Host("server", "10.0.0.1")
		server.SetBandwidth(size) // a stream's worth in a second
		l := listen(t, server, ":80")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					c.Write(make([]byte, size))
				}()
			}
		}()
		var done sync.WaitGroup
		start := time.Now()
		took := make(chan time.Duration, 4)
		for i := range 4 {
			c := dial(t, n.Host("client"+string(rune('0'+i)), net.IPv4(10, 0, 1, byte(i)).String()), "server:80")
			done.Go(func() {
				if got, err := io.Copy(io.Discard, c); got != size || err != nil {
					t.Errorf("read %d, %v", got, err)
				}
				took <- time.Since(start)
				c.Close()
			})
		}
		done.Wait()
		if all := time.Since(start); all < 4*time.Second || all > 4100*time.Millisecond {
			t.Errorf("four streams took %v, want 4 s", all)
		}
		if first := <-took; first < 3*time.Second {
			t.Errorf("one of four equal streams was through after %v: it got more than its share", first)
		}
		sent := n.Sent(func(f memnet.Flow) bool { return f.From == "server" && f.Port == 80 })
		if sent.Bytes != 4*size {
			t.Errorf("counted %d bytes, want %d", sent.Bytes, 4*size)
		}
	})
}

func TestCutResetsStreamsAndMakesDialsWait(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		x := n.Host("x", "10.0.0.3")
		for _, h := range []*memnet.Host{b, x} {
			go echo(listen(t, h, ":7"))
		}
		c, other := dial(t, a, "b:7"), dial(t, a, "x:7")
		n.Cut("10.0.0.2:7") // a host is also found by its address
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reading: %v", err)
		}
		if _, err := c.Write(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("writing: %v", err)
		}
		if took, err := dialAfter(a, 5*time.Second, "b:7"); !isTimeout(err) || took != 5*time.Second {
			t.Errorf("dialling: %v after %v", err, took)
		}
		io.WriteString(other, "x")
		if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
			t.Errorf("a stream between others broke: %v", err)
		}
		time.AfterFunc(2*time.Second, func() { n.Heal("b") })
		if took, err := dialAfter(a, 5*time.Second, "b:7"); err != nil || took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("dialling while it heals: %v after %v", err, took)
		}
	})
}

func TestStallIsSilentAndLosesNothing(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		c, s := join(t, a, b)
		io.WriteString(c, "before ")
		n.Stall("b")
		io.WriteString(c, "after")
		c.Close()
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := s.Read(make([]byte, 1)); !isTimeout(err) {
			t.Fatalf("reading over a stalled link: %v", err)
		}
		s.SetReadDeadline(time.Time{})
		n.Heal()
		if got, err := io.ReadAll(s); string(got) != "before after" || err != nil {
			t.Errorf("after healing: %q, %v", got, err)
		}
	})
}

func TestPartitionSeparatesGroupsOnly(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		for i, name := range []string{"a", "b", "c", "d"} {
			go echo(listen(t, n.Host(name, net.IPv4(10, 0, 0, byte(i+1)).String()), ":7"))
		}
		b := n.Host("prober", "10.0.1.1")
		n.Partition([]string{"a", "prober"}, []string{"b", "c"})
		for to, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true} {
			_, err := dialAfter(b, time.Second, to+":7")
			if got := err == nil; got != want {
				t.Errorf("reaches %s: %v, want %v (%v)", to, got, want, err)
			}
		}
		n.Heal("c")
		if _, err := dialAfter(b, time.Second, "c:7"); err != nil {
			t.Errorf("after healing c: %v", err)
		}
		if _, err := dialAfter(b, time.Second, "b:7"); err == nil {
			t.Error("healing c healed b")
		}
	})
}

func TestOneWayCutLosesPacketsOneWay(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		pa, pb := listenPacket(t, a, ":5"), listenPacket(t, b, ":5")
		go echo(listen(t, b, ":7"))
		n.CutOneWay([]string{"a"}, []string{"b"})
		pa.WriteTo([]byte("lost"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 5})
		pb.WriteTo([]byte("arrives"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5})
		if got := receive(t, pa); got != "arrives" {
			t.Errorf("a got %q", got)
		}
		if got := receive(t, pb); got != "" {
			t.Errorf("b got %q", got)
		}
		for _, h := range []*memnet.Host{a, b} {
			if _, err := dialAfter(h, time.Second, "b:7"); (err == nil) != (h == b) {
				t.Errorf("%s dials b: %v", h.Name(), err)
			}
		}
	})
}

func TestKillFreesAddressesAndResetsPeers(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		l := listen(t, b, ":7")
		listenPacket(t, b, ":7")
		c := dial(t, a, "b:7")
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		n.Kill("b")
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead read: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead accept: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer read: %v", err)
		}
		if _, err := dialAfter(a, time.Second, "b:7"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialling the dead: %v", err)
		}
		c.Close()
		if open := n.Open(); len(open) != 0 {
			t.Errorf("open: %q", open)
		}
		go echo(listen(t, b, ":7")) // restarted
		if _, err := dialAfter(a, time.Second, "b:7"); err != nil {
			t.Errorf("after the restart: %v", err)
		}
	})
}

func TestPeersOfAPowerlessMachineLearnNothingUntilItIsBack(t *testing.T) {
	bubble(t, memnet.Config{}, func(t *testing.T, n *memnet.Network) {
		c, _ := join(t, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
		n.Stall("b")
		n.Kill("b")
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Errorf("writing: %v", err)
		}
		c.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("reading: %v", err)
		}
		c.SetReadDeadline(time.Time{})
		n.Heal()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reading once it is back: %v", err)
		}
	})
}
