package dhcpd

import (
	"bytes"
	"net/netip"
	"sync"
)

// queueLen is how many packets that come back wait at most: what a core answers in a tenth of a second. What waits
// longer its sender has given up on.
const queueLen = 2048

// datagram is a packet on its way through the server.
type datagram struct {
	home    *pool
	link    *Link
	from    netip.AddrPort
	n       int
	unicast bool // it was sent to an address of ours, not broadcast; false also where that is not known
	pxe     bool // it came to port 4011
	waited  bool // it was held back for those relays before us
	tries   int  // how often the lease was not on disk yet
	key     key  // what it asks
	buf     [maxPacket]byte
}

// pool keeps datagrams that were handled, for the next ones. The zero value is ready for use.
type pool struct{ p sync.Pool }

func (o *pool) get(l *Link, pxe bool) *datagram {
	p, ok := o.p.Get().(*datagram)
	if !ok {
		p = &datagram{home: o}
	}
	p.link, p.pxe = l, pxe
	p.from, p.n, p.unicast, p.waited, p.tries = netip.AddrPort{}, 0, false, false, 0
	return p
}

func (p *datagram) free()         { p.home.p.Put(p) }
func (p *datagram) bytes() []byte { return p.buf[:p.n] }

// clone is a copy that lives on when the datagram was handled.
func (p *datagram) clone() *datagram {
	c := p.home.get(p.link, p.pxe)
	c.from, c.n, c.unicast, c.waited, c.tries, c.key = p.from, p.n, p.unicast, p.waited, p.tries, p.key
	copy(c.buf[:], p.bytes())
	return c
}

// key names what a packet asks: a retransmission has the same one.
type key struct {
	hw, giaddr [6]byte // giaddr in the first four
	kind       byte
	pxe        bool
	waited     bool
}

// peek looks at a packet just long enough to know whether it is a client's message to a server, and what it asks.
// Everything that is dropped here costs next to nothing.
func peek(b []byte) (key, bool) {
	if len(b) < offOptions+3 || b[offOp] != opRequest || b[offHType] != 1 || b[offHLen] != 6 || !bytes.Equal(b[offCookie:offOptions], cookie) {
		return key{}, false
	}
	var k key
	copy(k.hw[:], b[offChaddr:])
	copy(k.giaddr[:4], b[offGiaddr:])
	// A group address cannot be a sender, and no address at all is nobody.
	if k.hw[0]&1 != 0 || k.hw == [6]byte{} {
		return key{}, false
	}
	for o := b[offOptions:]; len(o) >= 2 && o[0] != optEnd; {
		if o[0] == optPad {
			o = o[1:]
			continue
		}
		if len(o) < 2+int(o[1]) {
			return key{}, false
		}
		if o[0] == optMessageType && o[1] == 1 {
			k.kind = o[2]
			return k, true
		}
		o = o[2+int(o[1]):]
	}
	return key{}, false
}

// push queues a packet that comes back: it was held for the relays before us, or for the disk.
func (s *Server) push(p *datagram) {
	switch s.queue.push(p) {
	case pushReplaced:
		s.counters.repeated.Add(1)
	case pushDropped:
		s.counters.dropped.Add(1)
	}
}

// queue holds packets that come back. When it is full the oldest goes; a packet that asks the same as one that is
// waiting takes its place, so that a machine that repeats itself gets no more than one answer.
type queue struct {
	mu      sync.Mutex
	ready   *sync.Cond
	slots   []slot
	first   uint64 // number of the oldest packet
	next    uint64 // number of the packet to come
	waiting map[key]uint64
	closed  bool
}

type slot struct {
	p *datagram
	k key
}

func newQueue(size int) *queue {
	q := &queue{slots: make([]slot, size), waiting: make(map[key]uint64, size)}
	q.ready = sync.NewCond(&q.mu)
	return q
}

type pushed int

const (
	pushQueued   pushed = iota
	pushReplaced        // another one that asked the same
	pushDropped         // the oldest one
)

// push takes the packet over.
func (q *queue) push(p *datagram) pushed {
	k := p.key
	k.waited = p.waited || p.tries > 0
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		p.free()
		return pushQueued
	}
	size := uint64(len(q.slots))
	if at, ok := q.waiting[k]; ok {
		old := &q.slots[at%size]
		old.p.free()
		old.p = p
		return pushReplaced
	}
	result := pushQueued
	if q.next-q.first == size {
		q.take().free()
		result = pushDropped
	}
	q.slots[q.next%size], q.waiting[k] = slot{p, k}, q.next
	q.next++
	q.ready.Signal()
	return result
}

// pop waits for a packet; false means that the queue is closed.
func (q *queue) pop() (*datagram, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.first == q.next && !q.closed {
		q.ready.Wait()
	}
	if q.closed {
		return nil, false
	}
	return q.take(), true
}

// take removes the oldest packet. q.mu is held, and there is one.
func (q *queue) take() *datagram {
	s := &q.slots[q.first%uint64(len(q.slots))]
	p := s.p
	delete(q.waiting, s.k)
	s.p = nil
	q.first++
	return p
}

// close ends all waiting.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.first != q.next {
		q.take().free()
	}
	q.ready.Broadcast()
}
