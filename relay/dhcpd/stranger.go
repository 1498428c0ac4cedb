package dhcpd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

const (
	// strangersLen bounds the strange servers that are remembered.
	strangersLen = 64
	// strangerEvery is how often one of them is reported.
	strangerEvery = time.Minute
	// strangerFor is for how long it counts as a problem after it was last seen.
	strangerFor = 10 * time.Minute
	// strangersTold bounds the lines about them.
	strangersTold = 8
)

// snoop hears what servers answer on the link, until its connection is closed.
func (s *Server) snoop(ctx context.Context, l *Link) {
	var buf [maxPacket]byte
	var q query
	for {
		n, _, err := l.Snoop.ReadFrom(buf[:])
		if err != nil {
			if !s.retry(ctx, l, err) {
				return
			}
			continue
		}
		s.overhear(&q, l, buf[:n])
	}
}

// overhear takes the answer of some server to some machine.
func (s *Server) overhear(q *query, l *Link, b []byte) {
	defer func() {
		if r := recover(); r != nil {
			s.counters.panics.Add(1)
		}
	}()
	if err := q.read(b, opReply); err != nil {
		return
	}
	switch q.kind {
	case msgOffer, msgAck, msgNak:
	default:
		return
	}
	w, now := s.world(), time.Now()
	switch {
	case !q.server.IsValid(), slices.Contains(w.scope.Addresses, q.server):
		return
	case w.scope.Relays[q.server]:
		s.patience.serves(q.mac)
		return
	case !s.limits.foreign.Take([]byte(l.Name), now):
		s.counters.limited.Add(1)
		return
	}
	at := ip(b[offYiaddr : offYiaddr+4])
	if nets := l.networks(w.scope, at); len(nets) > 0 && l.elsewhere(w.scope, at) == nil {
		s.stranger(now, nets[0], hardware(q.mac), q.server)
	}
}

// heed takes from a machine's own request whom it has chosen.
func (s *Server) heed(sit *situation) {
	server := sit.q.server
	if sit.q.kind != msgRequest || !server.IsValid() || sit.isMe(server) {
		return
	}
	s.patience.serves(sit.q.mac)
	if !sit.q.giaddr.IsValid() && !s.world().scope.Relays[server] { // an agent may have every server call itself as it likes
		s.stranger(time.Now(), sit.net, sit.hw, server)
	}
}

// stranger tells of a server that is no relay and gives addresses in a network where only relays should.
func (s *Server) stranger(now time.Time, n *catalog.Network, hw catalog.HardwareAddr, server netip.Addr) {
	if n.DHCP != catalog.DHCPAuthoritative {
		return
	}
	s.counters.strangers.Add(1)
	if !s.strangers.see(now, server, n.Name, func() bool { return s.limits.reports.Take(nil, now) }) {
		return
	}
	text := strangeServer(server, n.Name)
	s.cfg.Log.Warn("strange DHCP server", "relay", s.cfg.Relay, "hardware", hw, "err", text)
	s.cfg.Recorder.Record(boot.Event{Time: now.UTC(), Hardware: hw, Stage: boot.StageDHCP, Relay: s.cfg.Relay, Error: text})
}

func strangeServer(server netip.Addr, network catalog.NetworkName) string {
	return fmt.Sprintf("DHCP server %s, which is no relay of this cluster, answers in network %s", server, network)
}

// strangers are the servers that do not belong here.
type strangers struct {
	mu   sync.Mutex
	seen map[netip.Addr]*sighting
}

type sighting struct {
	network      catalog.NetworkName
	last, report time.Time
}

// see notes a stranger and tells whether to report it, if it may be.
func (t *strangers) see(now time.Time, server netip.Addr, network catalog.NetworkName, may func() bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.seen[server]
	if g == nil {
		if t.seen == nil {
			t.seen = map[netip.Addr]*sighting{}
		}
		for other, o := range t.seen {
			if len(t.seen) >= strangersLen || now.Sub(o.last) > strangerFor {
				delete(t.seen, other)
			}
		}
		g = &sighting{network: network}
		t.seen[server] = g
	}
	g.last = now
	if !g.report.IsZero() && now.Sub(g.report) < strangerEvery || !may() {
		return false
	}
	g.report = now
	return true
}

func (t *strangers) lines(now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for server, g := range t.seen {
		if now.Sub(g.last) < strangerFor {
			lines = append(lines, strangeServer(server, g.network))
		}
	}
	slices.Sort(lines)
	if more := len(lines) - strangersTold; more > 0 {
		lines = append(lines[:strangersTold], fmt.Sprintf("%d more DHCP servers, which are no relays of this cluster, answer: it seems that somebody forges them", more))
	}
	return lines
}
