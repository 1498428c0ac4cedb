package dhcp6d

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Stats counts what the server did since it was made.
type Stats struct {
	Received   uint64 // packets from the wire
	Malformed  uint64 // of those, not a client's message, or not understood
	Limited    uint64 // from machines that ask too often
	Foreign    uint64 // from no network that this relay serves, of nobody, or for another server alone
	Silent     uint64 // understood, and not to be answered
	Advertises uint64
	Replies    uint64
	Unsent     uint64 // answers that could not be sent
	Panics     uint64 // packets on which the code failed
}

type counters struct {
	received, malformed, limited, foreign, silent, advertises, replies, unsent, panics atomic.Uint64
}

func (c *counters) answered(kind dhcpv6.MessageType) {
	if kind == dhcpv6.MessageTypeAdvertise {
		c.advertises.Add(1)
		return
	}
	c.replies.Add(1)
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	c := &s.counters
	return Stats{
		Received: c.received.Load(), Malformed: c.malformed.Load(), Limited: c.limited.Load(), Foreign: c.foreign.Load(), Silent: c.silent.Load(),
		Advertises: c.advertises.Load(), Replies: c.replies.Load(), Unsent: c.unsent.Load(), Panics: c.panics.Load(),
	}
}

// trouble is what goes wrong, for as long as it does.
type trouble struct {
	mu   sync.Mutex
	what map[topic]string
}

// topic is what may go wrong on a link.
type topic struct{ what, link string }

func (t *trouble) set(at topic, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if what == "" {
		delete(t.what, at)
		return
	}
	if t.what == nil {
		t.what = map[topic]string{}
	}
	t.what[at] = what
}

// keep forgets what went wrong on links that are not to be served any more.
func (t *trouble) keep(served func(link string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.what, func(at topic, _ string) bool { return !served(at.link) })
}

func (t *trouble) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Values(t.what))
}
