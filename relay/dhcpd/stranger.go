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
	w := s.world()
	var strange *seat
	for _, n := range l.networks(w.scope, ip(b[offYiaddr:offYiaddr+4])) {
		t := s.seat(w, q.mac, boot.FirmwareNone, n)
		switch {
		case t == nil || !q.server.IsValid():
		case t.me.Addr == q.server:
			return
		case slices.Contains(t.relays, q.server):
			s.patience.serves(t.hw)
			return
		case strange == nil:
			strange = t
		}
	}
	if strange != nil {
		s.stranger(strange, q.server)
	}
}

// heed takes from a machine's own request whom it has chosen.
func (s *Server) heed(sit *situation) {
	server := sit.q.server
	if sit.q.kind != msgRequest || !server.IsValid() || sit.isMe(server) {
		return
	}
	s.patience.serves(sit.hw)
	if !sit.q.giaddr.IsValid() && !slices.Contains(sit.relays, server) { // an agent may have every server call itself as it likes
		s.stranger(sit.seat, server)
	}
}

// stranger tells of a server that is no relay and gives addresses in a network where only relays should.
func (s *Server) stranger(t *seat, server netip.Addr) {
	n, hw := t.net, t.hw
	if n.DHCP != catalog.DHCPAuthoritative {
		return
	}
	s.counters.strangers.Add(1)
	if !s.strangers.see(time.Now(), server, n.Name) {
		return
	}
	text := fmt.Sprintf("DHCP server %s, which is no relay of this cluster, answers in network %s", server, n.Name)
	s.cfg.Log.Warn("strange DHCP server", "relay", s.cfg.Relay, "hardware", hw, "err", text)
	s.cfg.Recorder.Record(boot.Event{Time: time.Now().UTC(), Hardware: hw, Stage: boot.StageDHCP, Relay: s.cfg.Relay, Error: text})
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

// see notes a stranger and tells whether to report it.
func (t *strangers) see(now time.Time, server netip.Addr, network catalog.NetworkName) bool {
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
	if !g.report.IsZero() && now.Sub(g.report) < strangerEvery {
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
			lines = append(lines, fmt.Sprintf("DHCP server %s, which is no relay of this cluster, answers in network %s", server, g.network))
		}
	}
	slices.Sort(lines)
	return lines
}
