package tftpd

import (
	"net"
	"net/netip"
	"time"
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

// anyPort is a port over a connection of which nothing is known but that it carries packets.
type anyPort struct {
	net.PacketConn
	in  [1]packet
	buf [maxRequest + 1]byte // longer packets are cut, and seen to be too long
	out []byte
}

func (p *anyPort) until(t time.Time) error { return p.SetReadDeadline(t) }

func (p *anyPort) poll() []packet { return nil } // nobody hands requests to the only port

func (p *anyPort) receive() ([]packet, error) {
	for {
		n, from, err := p.ReadFrom(p.buf[:])
		if err != nil {
			return nil, err
		}
		if a, ok := from.(*net.UDPAddr); ok {
			at := a.AddrPort()
			p.in[0] = packet{from: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), mtu: ethernet, data: p.buf[:n]}
			return p.in[:], nil
		}
	}
}

func (p *anyPort) send(out []burst) {
	for i := range out {
		b := &out[i]
		to := net.UDPAddrFromAddrPort(b.to)
		if b.whole != nil {
			_, _ = p.WriteTo(b.whole, to)
			continue
		}
		var head [header]byte
		for j := range b.count {
			body := b.block(j, &head)
			p.out = append(append(p.out[:0], head[:]...), body...)
			_, _ = p.WriteTo(p.out, to)
		}
	}
}
