package dhcpd

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Stats counts what the server did since it was made.
type Stats struct {
	Received  uint64 // packets from the wire
	Malformed uint64 // of those, not a client's message, or not understood
	Limited   uint64 // from senders that ask too often
	Repeated  uint64 // the same again, while the first was waiting
	Dropped   uint64 // the oldest, because too many waited
	Foreign   uint64 // from no network that this relay serves, or for another relay alone
	Silent    uint64 // understood, and not to be answered
	Offers    uint64
	Acks      uint64
	Naks      uint64
	Unsent    uint64 // answers that could not be sent
	Strangers uint64 // signs of servers that are no relays
	Panics    uint64 // packets on which the code failed
}

type counters struct {
	received, malformed, limited, repeated, dropped, foreign, silent, offers, acks, naks, unsent, strangers, panics atomic.Uint64
}

func (c *counters) answered(kind messageType) {
	switch kind {
	case msgOffer:
		c.offers.Add(1)
	case msgAck:
		c.acks.Add(1)
	case msgNak:
		c.naks.Add(1)
	}
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	c := &s.counters
	return Stats{
		Received: c.received.Load(), Malformed: c.malformed.Load(), Limited: c.limited.Load(), Repeated: c.repeated.Load(), Dropped: c.dropped.Load(),
		Foreign: c.foreign.Load(), Silent: c.silent.Load(), Offers: c.offers.Load(), Acks: c.acks.Load(), Naks: c.naks.Load(),
		Unsent: c.unsent.Load(), Strangers: c.strangers.Load(), Panics: c.panics.Load(),
	}
}

// trouble is what goes wrong, for as long as it does.
type trouble struct {
	mu   sync.Mutex
	what map[topic]string
}

// topic is what may go wrong, and on which link; "" where that is none's.
type topic struct{ what, link string }

var (
	topicProbe = topic{what: "probe"}
	topicEcho  = topic{what: "echo"}
)

func (t *trouble) sending(link string, err error) {
	t.set(topic{"send", link}, fmt.Sprintf("cannot send DHCP on %s: %v", link, err))
}
func (t *trouble) sent(link string) { t.set(topic{"send", link}, "") }

func (t *trouble) opening(link string, err error) {
	what := ""
	if err != nil {
		what = fmt.Sprintf("cannot serve DHCP on %s: %v", link, err)
	}
	t.set(topic{"open", link}, what)
}

func (t *trouble) set(at topic, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.what[at] == what:
	case what == "":
		delete(t.what, at)
	default:
		if t.what == nil {
			t.what = map[topic]string{}
		}
		t.what[at] = what
	}
}

// keep forgets what went wrong on links that are not to be served any more.
func (t *trouble) keep(served func(link string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.what, func(at topic, _ string) bool { return at.link != "" && !served(at.link) })
}

func (t *trouble) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Values(t.what))
}
