package gossip_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/gossip"
)

func TestTwentyRelaysFindEachOtherAndNoticeACrash(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(20)
		t.Logf("20 relays found each other in %v", m.settle(30*time.Second, first(20)))
		m.crash(name(20))
		t.Logf("all noticed the crash within %v", m.settle(20*time.Second, first(19)))
		if m.relays[name(1)].Alive(name(20)) {
			t.Error("the crashed relay is alive")
		}
	})
}

func TestARelayThatLeavesIsGoneAtOnceAndWelcomeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(5)
		m.settle(30*time.Second, first(5))
		start := time.Now()
		m.stop(name(5))
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("leaving took %v", took)
		}
		m.settle(time.Second, first(4))
		h := m.net.Host("again", "10.0.0.55") // another address, the same name
		m.start(h, func(c *gossip.Config) { c.Name = name(5) })
		m.until(10*time.Second, func() string {
			if !m.relays[name(1)].Alive(name(5)) {
				return "a relay that left and returned is not alive"
			}
			return ""
		})
	})
}

func TestDrainingIsSeenBeforeTheRelayIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(3)
		m.settle(30*time.Second, first(3))
		watcher := m.relays[name(1)]
		m.relays[name(3)].stop()
		m.until(5*time.Second, func() string {
			for mb := range watcher.Members() {
				if mb.Name == name(3) && mb.State == gossip.Draining {
					return ""
				}
			}
			return "nobody saw it drain"
		})
		if watcher.Alive(name(3)) {
			t.Error("a draining relay is offered")
		}
		if err := <-m.relays[name(3)].done; err != nil {
			t.Error(err)
		}
		delete(m.relays, name(3))
		m.settle(time.Second, first(2))
	})
}

func TestASplitHeals(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(6)
		m.settle(30*time.Second, first(6))
		left, right := []string{"r01", "r02", "r03"}, []string{"r04", "r05", "r06"}
		m.net.Partition(left, right)
		m.until(time.Minute, func() string {
			if got := m.relays["r01"].members() + "|" + m.relays["r06"].members(); got != "r01 r02 r03|r04 r05 r06" {
				return got
			}
			return ""
		})
		time.Sleep(10 * time.Minute) // until memberlist has forgotten the dead and would not find them by itself
		m.net.Heal()
		t.Logf("whole again after %v", m.settle(time.Minute, first(6)))
	})
}

func TestARelayThatCameBackIsHeldForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(4)
		m.settle(30*time.Second, first(4))
		if !m.relays["r01"].Alive("r04") {
			t.Fatal("a relay that never failed is held")
		}
		held := func() time.Duration {
			m.net.Cut("r04")
			m.until(time.Minute, func() string {
				return map[bool]string{true: "r04 is seen"}[strings.Contains(m.relays["r01"].members(), "r04")]
			})
			m.net.Heal()
			m.until(time.Minute, func() string {
				return map[bool]string{true: "r04 is away"}[!strings.Contains(m.relays["r01"].members(), "r04")]
			})
			if m.relays["r01"].Alive("r04") {
				t.Error("offered as soon as it was back")
			}
			return m.until(time.Minute, func() string { return map[bool]string{true: "r04 is not offered"}[!m.relays["r01"].Alive("r04")] })
		}
		if got := held(); got < 4*time.Second || got > 6*time.Second {
			t.Errorf("held for %v, want 5 s", got)
		}
		if got := held(); got < 9*time.Second || got > 11*time.Second {
			t.Errorf("held for %v after the second failure, want 10 s", got)
		}
	})
}

func TestStrangersToTheKeyOrTheClusterAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(2)
		m.settle(30*time.Second, first(2))
		var warned atomic.Int64
		quiet := func(c *gossip.Config) { c.Logger = slog.New(journal{lines: &warned}) }
		m.add(1, quiet, func(c *gossip.Config) { c.Keys = [][]byte{bytes.Repeat([]byte{8}, 32)} })
		m.add(1, quiet, func(c *gossip.Config) { c.Cluster = "other" })
		time.Sleep(5 * time.Minute)
		for n, want := range map[string]string{"r01": "r01 r02", "r02": "r01 r02", "r03": "r03", "r04": "r04"} {
			if got := m.relays[n].members(); got != want {
				t.Errorf("%s sees %q, want %q", n, got, want)
			}
		}
		if got := warned.Load(); got > 40*30 {
			t.Errorf("%d warnings in five minutes: strangers can flood the log", got)
		}
	})
}

func TestKeysRotateWhileGossipGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(3)
		m.settle(30*time.Second, first(3))
		second := bytes.Repeat([]byte{9}, 16)
		for _, keys := range [][][]byte{{key, second}, {second, key}, {second}} {
			for _, r := range m.relays {
				if err := r.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
		}
		m.add(1, func(c *gossip.Config) { c.Keys = [][]byte{second} })
		m.settle(30*time.Second, first(4))
		m.add(1) // with the old key
		time.Sleep(time.Minute)
		if got := m.relays["r01"].members(); got != first(4) {
			t.Errorf("after the old key was removed r01 sees %q", got)
		}
		if err := m.relays["r01"].SetKeys([][]byte{{1}}); !errors.Is(err, fault.Invalid) {
			t.Errorf("a key of one byte: %v", err)
		}
	})
}

func TestARelayThatIsNotAdmittedIsOnlyAStranger(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.banned.Store("r03", true)
		m.add(3)
		r := m.relays["r01"]
		m.until(30*time.Second, func() string {
			if got := names(slices.Collect(r.Strangers())); got != "r03" {
				return "strangers: " + got
			}
			return ""
		})
		if got := r.members(); got != "r01 r02" || r.Alive("r03") {
			t.Errorf("members %q, r03 alive: %v", got, r.Alive("r03"))
		}
		m.banned.Delete("r03") // the catalog admits it
		if got := r.members(); got != first(3) || !r.Alive("r03") {
			t.Errorf("once admitted: %q", got)
		}
		m.banned.Store("r02", true) // and revokes another
		if got := r.members(); got != "r01 r03" || r.Alive("r02") {
			t.Errorf("once revoked: %q", got)
		}
	})
}

func TestIdleConnectionsDoNotStopGossip(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(1)
		rogue := m.net.Host("rogue", "10.9.0.1")
		var held []net.Conn
		for range 40 {
			c, err := rogue.Dial(t.Context(), "tcp", m.known()[0])
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
		}
		cut := 0
		for _, c := range held {
			c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
				cut++
			}
		}
		if want := 40 - 32; cut != want {
			t.Errorf("%d of 40 idle connections were closed at once, want %d", cut, want)
		}
		m.add(1) // joins by packets and, once the idle ones have timed out, by stream
		m.settle(30*time.Second, first(2))
		for _, c := range held {
			c.Close()
		}
	})
}

func TestUpdatesReachEverybodyAndAreRateLimited(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(5)
		m.settle(30*time.Second, first(5))
		seen := map[uint64]bool{}
		last := gossip.Meta{Role: "relay", Rack: "rack7", Zone: "z", Revision: 100, Load: 55, Fingerprint: [32]byte{1},
			Mesh: netip.MustParseAddrPort("10.0.0.2:4481"), Boot: netip.MustParseAddrPort("10.0.0.2:4480")}
		r := m.relays["r01"]
		go func() {
			for i := range 101 {
				next := last
				next.Revision = uint64(i)
				if err := m.relays["r02"].Update(next); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Millisecond) // 10 s in all
			}
		}()
		// Gossip may lose the last word; whole states are exchanged every 30 s.
		m.until(time.Minute, func() string {
			changed := r.Changed()
			for mb := range r.Members() {
				if mb.Name == "r02" {
					seen[mb.Meta.Revision] = true
					if mb.Meta == last {
						return ""
					}
				}
			}
			select {
			case <-changed:
			case <-time.After(5 * time.Second):
				return "nothing new for 5 s"
			}
			return "not all said"
		})
		if len(seen) > 14 {
			t.Errorf("r01 heard %d updates in 10 s", len(seen))
		}
		if err := r.Update(gossip.Meta{Load: 101}); !errors.Is(err, fault.Invalid) {
			t.Errorf("a load of 101: %v", err)
		}
		if err := r.Update(gossip.Meta{Rack: strings.Repeat("x", 64)}); !errors.Is(err, fault.Invalid) {
			t.Errorf("a rack of 64 letters: %v", err)
		}
	})
}

// All relays have a new revision at the same time, again and again. The more there are, the less often each says so. That it is
// unwell it says at once.
func TestRevisionsAreToldLessOftenInALargeMesh(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(20, func(c *gossip.Config) {
			c.Profile.UpdateInterval, c.Profile.GossipInterval = 10*time.Millisecond, 10*time.Millisecond
		})
		m.settle(time.Minute, first(20))
		said := gossip.Meta{Role: "relay"}
		heard := map[uint64]bool{}
		hear := func() (meta gossip.Meta) {
			for mb := range m.relays["r01"].Members() {
				if mb.Name == "r02" {
					meta = mb.Meta
				}
			}
			heard[meta.Revision] = true
			return meta
		}
		for range 2000 { // 20 s
			said.Revision++
			if err := m.relays["r02"].Update(said); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			hear()
		}
		if n := len(heard); n < 10 || n > 20*1000/400+5 {
			t.Errorf("r01 heard of %d revisions in 20 s", n)
		}
		said.Unwell = true
		if err := m.relays["r02"].Update(said); err != nil {
			t.Fatal(err)
		}
		m.until(35*time.Second, func() string {
			if hear() != said {
				return "r01 has not heard that r02 is unwell"
			}
			return ""
		})
	})
}

func TestARelayCanSpeakOnlyForItself(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		private := map[string]ed25519.PrivateKey{}
		public := map[string]ed25519.PublicKey{}
		for i := range 3 {
			pub, priv, err := ed25519.GenerateKey(nil)
			if err != nil {
				t.Fatal(err)
			}
			public[name(i+1)], private[name(i+1)] = pub, priv
		}
		private["r03"] = private["r02"] // r02's key speaks for r03
		signed := func(c *gossip.Config) {
			c.Sign = func(b []byte) ([]byte, error) { return ed25519.Sign(private[c.Name], b), nil }
			c.Verify = func(name string, b, sig []byte) error {
				if !ed25519.Verify(public[name], b, sig) {
					return errors.New("not its own signature")
				}
				return nil
			}
		}
		m.add(3, signed)
		r := m.relays["r01"]
		m.until(30*time.Second, func() string {
			strangers := slices.Collect(r.Strangers())
			if r.members() != "r01 r02" || names(strangers) != "r03" {
				return r.members() + " and " + names(strangers)
			}
			if s := strangers[0]; s.Problem != "not its own signature" || s.Meta != (gossip.Meta{}) {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		})
	})
}

func TestOnlyAllowedAddressesAreHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		only := func(c *gossip.Config) { c.Allowed = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/30")} }
		m.add(3, only)
		m.settle(30*time.Second, first(3))
		m.add(1) // 10.0.0.4 is outside
		time.Sleep(2 * time.Minute)
		if got := m.relays["r01"].members(); got != first(3) {
			t.Errorf("r01 sees %q", got)
		}
	})
}

func TestRunEndsWhenItsSocketsAreTakenAway(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		m.add(2)
		m.settle(30*time.Second, first(2))
		m.net.Kill("r02")
		if err := <-m.relays["r02"].done; err == nil {
			t.Error("no error")
		}
		delete(m.relays, "r02")
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	inBubble(t, func(t *testing.T, m *mesh) {
		h := m.net.Host("r", "10.0.0.1")
		l, _ := h.Listen(":4482")
		p, _ := h.ListenPacket(":4482")
		other, _ := h.ListenPacket(":4483")
		defer func() { l.Close(); p.Close(); other.Close() }()
		good := gossip.Config{
			Name: "r", Cluster: "c", Keys: [][]byte{key}, Listener: l, Packets: p, Dial: h.Dial,
			Advertise: netip.MustParseAddrPort("10.0.0.1:4482"), Seeds: func() []string { return nil },
			Admitted: func(string) bool { return true }, Logger: slog.New(slog.DiscardHandler),
		}
		g, err := gossip.New(good)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(slices.Collect(g.Members())); got != "r" || !g.Alive("r") {
			t.Errorf("before Run a relay sees %q", got)
		}
		for what, spoil := range map[string]func(*gossip.Config){
			"no name":             func(c *gossip.Config) { c.Name = "" },
			"name with newline":   func(c *gossip.Config) { c.Name = "a\nb" },
			"no cluster":          func(c *gossip.Config) { c.Cluster = "" },
			"no key":              func(c *gossip.Config) { c.Keys = nil },
			"short key":           func(c *gossip.Config) { c.Keys = [][]byte{key, key[:5]} },
			"no seeds":            func(c *gossip.Config) { c.Seeds = nil },
			"two ports":           func(c *gossip.Config) { c.Packets = other },
			"no address":          func(c *gossip.Config) { c.Advertise = netip.AddrPort{} },
			"unusable meta":       func(c *gossip.Config) { c.Meta.Zone = "\x1b[2J" },
			"signature too large": func(c *gossip.Config) { c.Sign = func([]byte) ([]byte, error) { return make([]byte, 256), nil } },
			"signing fails":       func(c *gossip.Config) { c.Sign = func([]byte) ([]byte, error) { return nil, errors.New("x") } },
		} {
			bad := good
			spoil(&bad)
			if _, err := gossip.New(bad); fault.KindOf(err) != fault.Invalid && what != "signing fails" || err == nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// Everything else runs in a bubble; this shows that the same code gossips over the kernel's sockets.
func TestRelaysGossipOverRealSockets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var relays []*gossip.Gossip
	var seeds []string
	done := make(chan error, 2)
	for i := range 2 {
		l, p := realSockets(t)
		seeds = append(seeds, l.Addr().String())
		g, err := gossip.New(gossip.Config{
			Name: name(i + 1), Cluster: "real", Keys: [][]byte{key}, Listener: l, Packets: p, Dial: new(net.Dialer).DialContext,
			Seeds: func() []string { return seeds[:1] }, Admitted: func(string) bool { return true },
			Logger: slog.New(slog.DiscardHandler), Profile: gossip.Profile{ProbeInterval: 100 * time.Millisecond, GossipInterval: 10 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		relays = append(relays, g)
	}
	running, stop := context.WithCancel(ctx)
	for _, g := range relays {
		go func() { done <- g.Run(running) }()
	}
	for _, g := range relays {
		for {
			changed := g.Changed()
			if names(slices.Collect(g.Members())) == "r01 r02" {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("members: %q", names(slices.Collect(g.Members())))
			}
		}
	}
	stop()
	for range relays {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// realSockets listens for both on one port of the loopback address.
func realSockets(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if p, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			return l, p
		}
		l.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}
