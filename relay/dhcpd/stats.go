package dhcpd

import (
	"fmt"
	"sync/atomic"

	"github.com/wulfmesh/wulfmesh/relay/guard"
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

// What may go wrong besides links.
var (
	topicProbe = guard.Topic{What: "probe"}
	topicEcho  = guard.Topic{What: "echo"}
)

// sending says whether answers can be sent on a link.
func (s *Server) sending(link string, err error) {
	what := ""
	if err != nil {
		what = fmt.Sprintf("cannot send DHCP on %s: %v", link, err)
	}
	s.trouble.Set(guard.Topic{What: "send", Link: link}, what)
}

// opening says whether a link can be served.
func (s *Server) opening(link string, err error) {
	what := ""
	if err != nil {
		what = fmt.Sprintf("cannot serve DHCP on %s: %v", link, err)
	}
	s.trouble.Set(guard.Topic{What: "open", Link: link}, what)
}
