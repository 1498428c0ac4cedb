package httpd

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bounds of what anybody can take. An agent on a large machine has a few hundred connections, so one address may have
// that many, and nobody all.
const (
	maxConns   = 8192
	maxConnsOf = 512

	eventBurst = 256 // events that a node may report at once
	eventRate  = 4   // and a second, on average
	maxMeters  = 50_000
)

// conns counts connections and closes those that are too many.
type conns struct {
	mu   sync.Mutex
	from map[net.Conn]netip.Addr
	of   map[netip.Addr]int
	last func(netip.Addr) // is told of addresses that have closed their last one
}

func newConns(last func(netip.Addr)) *conns {
	return &conns{from: map[net.Conn]netip.Addr{}, of: map[netip.Addr]int{}, last: last}
}

// state is for http.Server.ConnState.
func (c *conns) state(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !c.enter(conn) {
			conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		if a, last := c.leave(conn); last {
			c.last(a)
		}
	}
}

func (c *conns) leave(conn net.Conn) (a netip.Addr, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.from[conn]
	if !ok {
		return a, false
	}
	delete(c.from, conn)
	if c.of[a]--; c.of[a] > 0 {
		return a, false
	}
	delete(c.of, a)
	return a, true
}

func (c *conns) enter(conn net.Conn) bool {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	a := ap.Addr().Unmap()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.from) >= maxConns || c.of[a] >= maxConnsOf {
		return false
	}
	c.from[conn] = a
	c.of[a]++
	return true
}

// meters keep nodes from filling the spool: a token bucket for each.
type meters struct {
	mu sync.Mutex
	of map[catalog.NodeName]meter
}

type meter struct {
	left float64
	at   time.Time
}

func newMeters() *meters { return &meters{of: map[catalog.NodeName]meter{}} }

// take reports whether the node may report so many events now.
func (m *meters) take(node catalog.NodeName, events int) bool {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.of[node]
	if !ok {
		if len(m.of) >= maxMeters {
			clear(m.of)
		}
		b = meter{eventBurst, now}
	}
	b.left, b.at = min(eventBurst, b.left+eventRate*now.Sub(b.at).Seconds()), now
	// What is asked for when the bucket is full is allowed, however much: a batch has a bound of its own.
	allowed := b.left >= min(float64(events), eventBurst)
	if allowed {
		b.left -= float64(events)
	}
	m.of[node] = b
	return allowed
}
