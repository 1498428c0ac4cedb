package memnet

import (
	"maps"
	"sync/atomic"
)

// Flow is one direction of traffic between two hosts.
type Flow struct {
	From, To string // names of hosts
	Net      string // "tcp" or "udp"
	Port     uint16 // the listener's for a stream, in both directions; the destination's for a packet
}

// Count is what went through a Flow.
type Count struct {
	Bytes   int64 // payload sent, lost packets included
	Conns   int64 // connections made, counted where From dialled
	Packets int64 // packets sent
	Dropped int64 // of those, packets that did not arrive
}

type counter struct{ bytes, conns, packets, dropped atomic.Int64 }

func (c *counter) count() Count {
	return Count{Bytes: c.bytes.Load(), Conns: c.conns.Load(), Packets: c.packets.Load(), Dropped: c.dropped.Load()}
}

// Traffic returns what went through every flow since the network was made.
func (n *Network) Traffic() map[Flow]Count {
	n.mu.Lock()
	counters := maps.Clone(n.counters)
	n.mu.Unlock()
	out := make(map[Flow]Count, len(counters))
	for f, c := range counters {
		out[f] = c.count()
	}
	return out
}

// Sent adds up the flows that match.
func (n *Network) Sent(match func(Flow) bool) Count {
	var sum Count
	for f, c := range n.Traffic() {
		if match(f) {
			sum.Bytes += c.Bytes
			sum.Conns += c.Conns
			sum.Packets += c.Packets
			sum.Dropped += c.Dropped
		}
	}
	return sum
}

// counter returns the counter of a flow. n.mu is held.
func (n *Network) counter(f Flow) *counter {
	c := n.counters[f]
	if c == nil {
		c = &counter{}
		n.counters[f] = c
	}
	return c
}
