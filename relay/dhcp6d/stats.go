package dhcp6d

import (
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
