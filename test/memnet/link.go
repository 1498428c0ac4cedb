package memnet

import (
	"sync"
	"time"
)

// loopback is the latency between two sockets of one host. It is not nothing: a loop without any latency would keep
// virtual time from moving.
const loopback = 10 * time.Microsecond

// Link says how two hosts are joined, the same in both directions.
type Link struct {
	Latency time.Duration // one way
	Loss    float64       // share of packets lost, 0 to 1
}

// links holds the conditions of the network. Its lock is a leaf: nothing else is locked under it.
type links struct {
	mu      sync.RWMutex
	usual   Link
	special map[[2]*Host]Link
}

func (l *links) between(a, b *Host) Link {
	if a == b {
		return Link{Latency: loopback}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s, ok := l.special[[2]*Host{a, b}]; ok {
		return s
	}
	return l.usual
}

// SetLink gives the link between two hosts its own conditions, from now on.
func (n *Network) SetLink(a, b string, link Link) {
	n.mu.Lock()
	x, y := n.lookup(a), n.lookup(b)
	n.mu.Unlock()
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.special[[2]*Host{x, y}] = link
	n.links.special[[2]*Host{y, x}] = link
}

// SetLoss changes the share of packets lost on every link that has no conditions of its own.
func (n *Network) SetLoss(share float64) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	n.links.usual.Loss = share
}

// Cut isolates each host from all others, in both directions, and resets the connections it had with them. It panics
// on a name that is no host's; so do the other methods that take hosts, which are names or addresses.
func (n *Network) Cut(hosts ...string) { n.isolate(hosts, (*conn).reset) }

// Stall isolates each host as Cut does, but silently, as a failed switch would: connections stay open and carry
// nothing until Heal, after which what was written arrives.
func (n *Network) Stall(hosts ...string) { n.isolate(hosts, (*conn).stall) }

func (n *Network) isolate(hosts []string, act func(*conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.lookupAll(hosts) {
		n.isolated[h] = true
	}
	n.onSevered(act)
}

// Partition separates the groups: hosts of different groups no longer reach each other, and connections between them
// are reset. Hosts in no group reach everybody.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, group := range groups {
		for _, other := range groups[i+1:] {
			n.block(group, other)
			n.block(other, group)
		}
	}
	n.onSevered((*conn).reset)
}

// CutOneWay loses every packet that one of from sends to one of to; packets the other way arrive. A stream needs both
// ways, so none can be opened between them, and those that are open are reset.
func (n *Network) CutOneWay(from, to []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.block(from, to)
	n.onSevered((*conn).reset)
}

// Heal undoes every cut, stall, partition and block that touches one of the hosts; without hosts it undoes all.
func (n *Network) Heal(hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(hosts) == 0 {
		clear(n.isolated)
		clear(n.blocked)
		clear(n.filters)
	}
	for _, h := range n.lookupAll(hosts) {
		delete(n.isolated, h)
		for pair := range n.blocked {
			if pair[0] == h || pair[1] == h {
				delete(n.blocked, pair)
			}
		}
		for f := range n.filters {
			if f.from == h || f.to == h {
				delete(n.filters, f)
			}
		}
	}
	for c := range n.conns {
		if c.stalled && n.joined(c.host, c.peer.host) {
			c.resume()
		}
	}
	n.stir()
}

// Kill ends the hosts' processes, not the machines: every socket is closed at once and its address is free again, so
// the host may be started anew. Peers see a reset, unless the host is cut off: then they learn nothing before Heal.
// Cut or Stall before Kill is a machine without power.
func (n *Network) Kill(hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.lookupAll(hosts) {
		for _, l := range h.streams {
			l.shut()
		}
		for _, p := range h.packets {
			p.shut()
		}
		h.packets = nil
		clear(h.streams)
		for c := range n.conns {
			if c.host == h {
				c.kill(n.joined(h, c.peer.host))
				delete(n.conns, c)
			}
		}
	}
}

func (n *Network) block(from, to []string) {
	for _, a := range n.lookupAll(from) {
		for _, b := range n.lookupAll(to) {
			if a != b {
				n.blocked[[2]*Host{a, b}] = true
			}
		}
	}
}

// onSevered does act to both ends of every connection whose hosts no longer reach each other. n.mu is held.
func (n *Network) onSevered(act func(*conn)) {
	for c := range n.conns {
		if !n.joined(c.host, c.peer.host) {
			act(c)
		}
	}
}

// passes tells whether a packet from a reaches b, joined whether packets pass both ways. n.mu is held.
func (n *Network) passes(a, b *Host) bool {
	return a == b || !n.isolated[a] && !n.isolated[b] && !n.blocked[[2]*Host{a, b}]
}

func (n *Network) joined(a, b *Host) bool { return n.passes(a, b) && n.passes(b, a) }

// pacer is one direction of a host's interface: it says when bytes have passed. Its lock is a leaf.
type pacer struct {
	mu   sync.Mutex
	rate int64 // bytes per second; 0 is without limit
	free time.Time
}

// pass returns when n bytes that come at a time have gone through.
func (p *pacer) pass(at time.Time, n int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate <= 0 {
		return at
	}
	if p.free.After(at) {
		at = p.free
	}
	p.free = at.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return p.free
}

// limited tells whether the pacer has a limit.
func (p *pacer) limited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate > 0
}

// arrival returns when n bytes that from sends now are at to.
func (n *Network) arrival(from, to *Host, size int) time.Time {
	at := time.Now()
	link := n.links.between(from, to)
	if from == to {
		return at.Add(link.Latency)
	}
	return to.in.pass(from.out.pass(at, size).Add(link.Latency), size)
}
