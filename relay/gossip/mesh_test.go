package gossip_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/relay/gossip"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

var key = bytes.Repeat([]byte{7}, 32)

// mesh is relays in a bubble. All are seeds of each other, and admitted unless they are in banned.
type mesh struct {
	t      *testing.T
	net    *memnet.Network
	relays map[string]*relay
	banned sync.Map

	mu    sync.Mutex
	seeds []string
}

type relay struct {
	*gossip.Gossip
	stop context.CancelFunc
	done chan error
}

// inBubble runs f on an empty mesh, stops what it left running, and checks that nothing stays behind: a goroutine that
// did would make synctest fail.
func inBubble(t *testing.T, f func(t *testing.T, m *mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{t: t, net: memnet.New(memnet.Config{}), relays: map[string]*relay{}}
		defer func() { // also after t.Fatal
			m.stop(slices.Collect(maps.Keys(m.relays))...)
			if open := m.net.Open(); len(open) != 0 {
				t.Errorf("left open: %q", open)
			}
		}()
		f(t, m)
	})
}

func name(i int) string { return fmt.Sprintf("r%02d", i) }

// add gives the mesh n more hosts and starts a relay on each.
func (m *mesh) add(n int, change ...func(*gossip.Config)) {
	m.t.Helper()
	for range n {
		i := len(m.known()) + 1
		h := m.net.Host(name(i), fmt.Sprintf("10.0.0.%d", i))
		m.mu.Lock()
		m.seeds = append(m.seeds, h.Addr().String()+":4482")
		m.mu.Unlock()
		m.start(h, change...)
	}
}

// known is the addresses of all relays there ever were.
func (m *mesh) known() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seeds)
}

func (m *mesh) start(h *memnet.Host, change ...func(*gossip.Config)) *relay {
	m.t.Helper()
	l, err := h.Listen(":4482")
	if err != nil {
		m.t.Fatal(err)
	}
	p, err := h.ListenPacket(":4482")
	if err != nil {
		m.t.Fatal(err)
	}
	cfg := gossip.Config{
		Name: h.Name(), Cluster: "test", Keys: [][]byte{key},
		Listener: l, Packets: p, Dial: h.Dial, Advertise: netip.AddrPortFrom(h.Addr(), 4482),
		Seeds:    m.known,
		Admitted: func(name string) bool { _, no := m.banned.Load(name); return !no },
		Meta:     gossip.Meta{Role: "relay", Rack: "rack-" + h.Name()},
		Logger:   slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	g, err := gossip.New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &relay{Gossip: g, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- g.Run(ctx) }()
	m.relays[cfg.Name] = r
	return r
}

// stop ends relays and waits for them.
func (m *mesh) stop(names ...string) {
	m.t.Helper()
	for _, n := range names {
		m.relays[n].stop()
	}
	for _, n := range names {
		if err := <-m.relays[n].done; err != nil {
			m.t.Errorf("%s ended with %v", n, err)
		}
		delete(m.relays, n)
	}
}

// crash ends relays as a power cut would: the others hear nothing of it.
func (m *mesh) crash(names ...string) {
	m.t.Helper()
	m.net.Stall(names...)
	for _, n := range names {
		m.relays[n].stop()
		<-m.relays[n].done
		delete(m.relays, n)
	}
	m.net.Kill(names...)
	m.net.Heal(names...)
}

// members is what a relay offers, as "r01 r02".
func (r *relay) members() string { return names(slices.Collect(r.Members())) }

func names(members []gossip.Member) string {
	var out []string
	for _, m := range members {
		out = append(out, m.Name)
	}
	return strings.Join(out, " ")
}

// settle waits until every relay sees want, and returns how long that took.
func (m *mesh) settle(within time.Duration, want string) time.Duration {
	m.t.Helper()
	return m.until(within, func() string {
		for _, n := range slices.Sorted(maps.Keys(m.relays)) {
			if got := m.relays[n].members(); got != want {
				return fmt.Sprintf("%s sees %q, want %q", n, got, want)
			}
		}
		return ""
	})
}

// until waits for a condition, which says what is missing.
func (m *mesh) until(within time.Duration, missing func() string) time.Duration {
	m.t.Helper()
	start := time.Now()
	for {
		what := missing()
		took := time.Since(start)
		if what == "" {
			return took
		}
		if took > within {
			m.t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// first is the names of the first n relays.
func first(n int) string {
	var out []string
	for i := range n {
		out = append(out, name(i+1))
	}
	return strings.Join(out, " ")
}

// journal counts what is logged at Warn and above.
type journal struct {
	slog.Handler
	lines *atomic.Int64
}

func (j journal) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (j journal) Handle(context.Context, slog.Record) error    { j.lines.Add(1); return nil }
