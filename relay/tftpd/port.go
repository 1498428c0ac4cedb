package tftpd

import (
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv6"
)

// packet is one that came.
type packet struct {
	from netip.AddrPort
	to   netip.Addr // the address of this computer that it was sent to; invalid: not known
	mtu  int        // of the interface that it came by
	data []byte     // until the next one is read
}

// port is a socket for packets.
type port interface {
	// receive waits for packets and returns at least one, or an error: os.ErrDeadlineExceeded after the time that
	// until set.
	receive() ([]packet, error)
	// poll returns what is there already, whatever until has set.
	poll() []packet
	// send sends what it can. What it cannot send is lost, as it may be on the wire.
	send([]burst)
	// until sets a time for receive to return; none if it is zero. It may be called at any time.
	until(time.Time) error
	Close() error
}

// anyPort is a port over a connection of which nothing is known but that it carries packets, and over one of IPv6.
type anyPort struct {
	net.PacketConn
	six *ipv6.PacketConn // the same, if it speaks IPv6
	in  [1]packet
	buf [maxRequest + 1]byte // longer packets are cut, and seen to be too long
	out []byte
}

// inner is how much longer the header of IPv6 is than that of IPv4.
const inner = 20

func newAnyPort(c net.PacketConn) *anyPort {
	p := &anyPort{PacketConn: c}
	if udp, ok := c.(*net.UDPConn); ok {
		// Of a socket for IPv4 it fails. The address that a client asks is the one that it looks for answers from.
		if six := ipv6.NewPacketConn(udp); six.SetControlMessage(ipv6.FlagDst, true) == nil {
			p.six = six
		}
	}
	return p
}

// read is ReadFrom, and tells to which of this computer's addresses a packet came.
func (p *anyPort) read() (n int, from net.Addr, to netip.Addr, err error) {
	if p.six == nil {
		n, from, err = p.ReadFrom(p.buf[:])
		return n, from, to, err
	}
	n, note, from, err := p.six.ReadFrom(p.buf[:])
	if note != nil {
		to, _ = netip.AddrFromSlice(note.Dst)
	}
	return n, from, to, err
}

// write is WriteTo, from one of this computer's addresses.
func (p *anyPort) write(b []byte, from netip.Addr, to net.Addr) {
	if p.six == nil || !from.IsValid() {
		_, _ = p.WriteTo(b, to)
		return
	}
	_, _ = p.six.WriteTo(b, &ipv6.ControlMessage{Src: from.AsSlice()}, to)
}

func (p *anyPort) until(t time.Time) error { return p.SetReadDeadline(t) }

func (p *anyPort) poll() []packet { return nil } // nobody hands requests to the only port

func (p *anyPort) receive() ([]packet, error) {
	for {
		n, from, to, err := p.read()
		if err != nil {
			return nil, err
		}
		a, ok := from.(*net.UDPAddr)
		if !ok || to.IsMulticast() { // a server ignores those (RFC 1123 §4.2.3.5)
			continue
		}
		at := a.AddrPort()
		p.in[0] = packet{from: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), to: to, mtu: ethernet, data: p.buf[:n]}
		if p.six != nil {
			p.in[0].mtu -= inner
		}
		return p.in[:], nil
	}
}

func (p *anyPort) send(out []burst) {
	for i := range out {
		b := &out[i]
		to := net.UDPAddrFromAddrPort(b.to)
		if b.whole != nil {
			p.write(b.whole, b.from, to)
			continue
		}
		var head [header]byte
		for j := range b.count {
			body := b.block(j, &head)
			p.out = append(append(p.out[:0], head[:]...), body...)
			p.write(p.out, b.from, to)
		}
	}
}
