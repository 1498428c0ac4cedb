package memnet

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const maxDatagram = 65507 // bytes of payload in an IPv4 UDP datagram

// packetConn is a packet socket: a net.PacketConn and, where it was dialled, a net.Conn.
type packetConn struct {
	host    *Host
	local   netip.AddrPort
	remote  netip.AddrPort // of a dialled socket
	segment string         // "" unless bound to one

	mu     sync.Mutex // locked after net.mu
	cond   *sync.Cond
	queue  []packet // by time of arrival
	closed bool
	readBy deadline
	alarm  alarm
}

type packet struct {
	data []byte
	from netip.AddrPort
	at   time.Time
}

// ListenPacket opens a packet socket on "ip:port" or ":port"; port 0 takes a free one. A socket that is not bound to
// an address also receives the broadcasts of all segments that the host is in, and broadcasts to all of them.
func (h *Host) ListenPacket(addr string) (net.PacketConn, error) { return h.ListenPacketOn("", addr) }

// ListenPacketOn opens a packet socket that is bound to a segment, as with SO_BINDTODEVICE: broadcasts come from it
// and go to it alone, and unicast packets come if they are for an address on it.
func (h *Host) ListenPacketOn(segment, addr string) (net.PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if segment != "" && !slices.Contains(h.segments, segment) {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("setsockopt", syscall.ENODEV)}
	}
	at, err := h.bind("udp", addr, func(a netip.AddrPort) bool {
		return slices.ContainsFunc(h.packets, func(p *packetConn) bool { return p.local == a && p.segment == segment })
	})
	if err != nil {
		return nil, err
	}
	return h.openPacket(at, netip.AddrPort{}, segment), nil
}

func (h *Host) dialPacket(to netip.AddrPort) (net.Conn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	from, ok := h.source(to.Addr())
	if !ok {
		return nil, os.NewSyscallError("connect", syscall.ENETUNREACH)
	}
	return h.openPacket(netip.AddrPortFrom(from, h.ephemeral()), to, ""), nil
}

func (h *Host) openPacket(local, remote netip.AddrPort, segment string) *packetConn {
	p := &packetConn{host: h, local: local, remote: remote, segment: segment}
	p.cond = sync.NewCond(&p.mu)
	h.packets = append(h.packets, p)
	return p
}

// ReadFrom waits for a packet; what does not fit into b is lost, as with a datagram socket.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, nil, p.wrap("read", net.ErrClosed)
		case p.readBy.expired:
			return 0, nil, p.wrap("read", os.ErrDeadlineExceeded)
		}
		if len(p.queue) > 0 {
			if head := p.queue[0]; !head.at.After(time.Now()) {
				p.queue = p.queue[1:]
				return copy(b, head.data), net.UDPAddrFromAddrPort(head.from), nil
			} else {
				p.alarm.wake(head.at, p.cond)
			}
		}
		p.cond.Wait()
	}
}

// WriteTo sends a packet and never blocks. Like UDP it does not learn what became of it.
func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	ua, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, p.wrap("write", &net.AddrError{Err: "not a UDP address", Addr: addr.String()})
	}
	to := ua.AddrPort()
	return p.send(b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

func (p *packetConn) Read(b []byte) (int, error) {
	n, _, err := p.ReadFrom(b)
	return n, err
}

func (p *packetConn) Write(b []byte) (int, error) {
	if !p.remote.IsValid() {
		return 0, p.wrap("write", os.NewSyscallError("write", syscall.EDESTADDRREQ))
	}
	return p.send(b, p.remote)
}

func (p *packetConn) Close() error {
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if !p.shut() {
		return p.wrap("close", net.ErrClosed)
	}
	p.host.packets = slices.DeleteFunc(p.host.packets, func(q *packetConn) bool { return q == p })
	return nil
}

// shut ends reading and writing.
func (p *packetConn) shut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.closed, p.queue = true, nil
	p.readBy.stop()
	p.alarm.stop()
	p.cond.Broadcast()
	return true
}

func (p *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.local) }

func (p *packetConn) RemoteAddr() net.Addr {
	if !p.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(p.remote)
}

func (p *packetConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// SetWriteDeadline does nothing: a packet is sent at once.
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }

func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.wrap("set", net.ErrClosed)
	}
	p.readBy.reset(t, p.cond)
	return nil
}

func (p *packetConn) wrap(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: p.LocalAddr(), Addr: p.RemoteAddr(), Err: err}
}

// send finds the receivers under the network's lock and hands each its own copy.
func (p *packetConn) send(b []byte, to netip.AddrPort) (int, error) {
	if len(b) > maxDatagram {
		return 0, p.wrap("write", os.NewSyscallError("sendto", syscall.EMSGSIZE))
	}
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return 0, p.wrap("write", net.ErrClosed)
	}
	segments := p.broadcasts(to.Addr())
	from := p.local
	if from.Addr().IsUnspecified() {
		src, ok := p.host.source(to.Addr())
		switch {
		case ok:
			from = netip.AddrPortFrom(src, from.Port())
		case len(segments) == 0: // only a broadcast may come from a host without address, as DHCP does
			return 0, p.wrap("write", os.NewSyscallError("sendto", syscall.ENETUNREACH))
		}
	}
	if len(segments) > 0 {
		n.broadcast(p.host, segments, b, from, to)
	} else {
		n.unicast(p.host, b, from, to)
	}
	return len(b), nil
}

// broadcasts returns the segments that a packet to an address is broadcast on, none for a unicast. net.mu is held.
func (p *packetConn) broadcasts(to netip.Addr) []string {
	mine := p.host.segments
	if p.segment != "" {
		mine = []string{p.segment}
	}
	if to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return mine
	}
	for _, s := range mine {
		if to == lastOf(p.host.net.segments[s]) {
			return []string{s}
		}
	}
	return nil
}

// lastOf is a prefix's broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// broadcast hands a packet to every other host of the segments, to the sockets that are bound to no address. net.mu
// is held.
func (n *Network) broadcast(sender *Host, segments []string, b []byte, from, to netip.AddrPort) {
	for _, h := range n.hosts {
		if h == sender {
			continue
		}
		for _, s := range segments {
			if !slices.Contains(h.segments, s) {
				continue
			}
			for _, p := range h.packets {
				if p.local == netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port()) && (p.segment == "" || p.segment == s) {
					n.carry(sender, h, p, b, from, to)
				}
			}
		}
	}
}

// unicast hands a packet to the socket that fits its destination best. net.mu is held.
func (n *Network) unicast(sender *Host, b []byte, from, to netip.AddrPort) {
	h := n.addrs[to.Addr()]
	if to.Addr().IsLoopback() {
		h = sender
	}
	if h == nil {
		n.counter(Flow{From: sender.name, To: to.Addr().String(), Net: "udp", Port: to.Port()}).lost(len(b))
		return
	}
	var best *packetConn
	rank := 0
	for _, p := range h.packets {
		if r := p.rank(from, to); r > rank {
			best, rank = p, r
		}
	}
	n.carry(sender, h, best, b, from, to)
}

// rank tells how well a socket fits a unicast packet: 0 is not at all. net.mu is held.
func (p *packetConn) rank(from, to netip.AddrPort) int {
	wild := p.local.Addr().IsUnspecified()
	switch {
	case p.local.Port() != to.Port(), !wild && p.local.Addr() != to.Addr():
		return 0
	case p.segment != "" && !p.host.net.segments[p.segment].Contains(to.Addr()):
		return 0
	case p.remote.IsValid() && p.remote != from:
		return 0
	case p.remote.IsValid():
		return 4
	case !wild:
		return 3
	case p.segment != "":
		return 2
	}
	return 1
}

// carry takes a packet over the link into the queue of p, nil where nobody listens, or loses it. net.mu is held.
func (n *Network) carry(sender, h *Host, p *packetConn, b []byte, from, to netip.AddrPort) {
	c := n.counter(Flow{From: sender.name, To: h.name, Net: "udp", Port: to.Port()})
	at := n.arrival(sender, h, len(b))
	if p == nil || !n.passes(sender, h) || !n.lets(sender, h, "udp", to.Port()) || n.dice.Float64() < n.links.between(sender, h).Loss {
		c.lost(len(b))
		return
	}
	c.packets.Add(1)
	c.bytes.Add(int64(len(b)))
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) >= n.cfg.PacketQueue {
		c.dropped.Add(1)
		return
	}
	// Behind everything that comes no later, so that packets of one link keep their order.
	i, _ := slices.BinarySearchFunc(p.queue, at, func(q packet, at time.Time) int {
		if q.at.After(at) {
			return 1
		}
		return -1
	})
	p.queue = slices.Insert(p.queue, i, packet{slices.Clone(b), from, at})
	p.cond.Broadcast()
}

func (c *counter) lost(size int) {
	c.packets.Add(1)
	c.bytes.Add(int64(size))
	c.dropped.Add(1)
}
