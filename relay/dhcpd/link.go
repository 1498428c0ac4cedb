package dhcpd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Ports of DHCP (RFC 2131 §4.1) and of PXE's own requests (PXE 2.1 §2.2.3).
const (
	serverPort = 67
	clientPort = 68
	pxePort    = 4011
)

// Link is a network interface on which machines, or their relay agents, are heard.
type Link struct {
	Name  string       // of the interface, for messages
	Addrs []netip.Addr // the relay's addresses on it, by which its networks are found

	// Conn is bound to port 67 of the interface. It sends to 255.255.255.255 there.
	Conn net.PacketConn
	// PXE, if there is one, is bound to port 4011: where PXE ROMs ask for more in networks of mode proxy.
	PXE net.PacketConn
	// Snoop, if there is one, hears what other servers answer on the interface (packets to port 68).
	Snoop net.PacketConn
	// Raw, if there is one, reaches machines that have no address yet. Without it they are answered by broadcast.
	Raw FrameSender

	// ARP, if there is one, asks who has an address on the interface.
	ARP Prober

	batch *ipv4.PacketConn // Conn, if it is the kernel's: it takes many answers in one system call
}

// FrameSender sends a UDP datagram in a frame of its own to a hardware address, without asking who has the IP address.
type FrameSender interface {
	SendFrame(to net.HardwareAddr, src, dst netip.AddrPort, payload []byte) error
}

// networks lists those of the scope that are reached on the link and have DHCP, those that hold near first: a machine
// that says what address it has means the network of that address.
func (l *Link) networks(sc Scope, near netip.Addr) []*catalog.Network {
	var nets []*catalog.Network
	for _, n := range sc.Networks {
		if n.DHCP != catalog.DHCPOff && slices.ContainsFunc(l.Addrs, n.Prefix.Contains) {
			nets = append(nets, n)
		}
	}
	if near.IsValid() && len(nets) > 1 {
		slices.SortStableFunc(nets, func(a, b *catalog.Network) int {
			switch {
			case a.Prefix.Contains(near) == b.Prefix.Contains(near):
				return 0
			case a.Prefix.Contains(near):
				return -1
			}
			return 1
		})
	}
	return nets
}

// elsewhere is the network on the link in which an address lies, if other servers give the addresses there, or nobody
// does; nil if it is none such. Whoever has or wants that address is theirs.
func (l *Link) elsewhere(sc Scope, a netip.Addr) *catalog.Network {
	for _, n := range sc.Networks {
		if n.DHCP != catalog.DHCPAuthoritative && n.Prefix.Contains(a) && slices.ContainsFunc(l.Addrs, n.Prefix.Contains) {
			return n
		}
	}
	return nil
}

// close closes what the link has open.
func (l *Link) close() {
	for _, c := range []net.PacketConn{l.Conn, l.PXE, l.Snoop} {
		if c != nil {
			c.Close()
		}
	}
	if l.ARP != nil {
		l.ARP.Close()
	}
}

// isClosed tells whether an error says that the socket was closed. What was held back for a link that is gone by then is
// no trouble.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EBADF)
}

// listen reads from the link until ctx ends, and closes it. When it returns, the ports are free for the next link on the
// interface.
func (s *Server) listen(ctx context.Context, l *Link) {
	if udp, ok := l.Conn.(*net.UDPConn); ok {
		l.batch = ipv4.NewPacketConn(udp)
	}
	var readers sync.WaitGroup
	readers.Go(func() { s.read(ctx, l, l.Conn, false) })
	if l.PXE != nil {
		readers.Go(func() { s.read(ctx, l, l.PXE, true) })
	}
	if l.Snoop != nil {
		readers.Go(func() { s.snoop(ctx, l) })
	}
	if l.ARP != nil {
		readers.Go(func() { l.ARP.Hear(s.probes.heard) })
	}
	<-ctx.Done()
	l.close()
	readers.Wait()
}

const (
	// batch is how many packets one system call reads at most: it is what lets one core take a storm.
	batch = 64
	// rest is for how long the next packets may gather after some were answered. To be woken for each one costs more than
	// to answer it; the machine whose packet waits does not notice.
	rest = 300 * time.Microsecond
	// errorRest is the pause after an error of a socket.
	errorRest = 200 * time.Millisecond
)

// read answers packets until the connection is closed. One goroutine does it all, from the wire to the wire: to pass
// packets on costs more than to answer them. What it does not keep up with waits in the socket's buffer.
func (s *Server) read(ctx context.Context, l *Link, conn net.PacketConn, pxe bool) {
	if udp, kernel := conn.(*net.UDPConn); kernel {
		s.readBatches(ctx, l, ipv4.NewPacketConn(udp), pxe)
		return
	}
	d, p := newDesk(1), s.pool.get(l, pxe)
	for {
		n, from, err := conn.ReadFrom(p.buf[:])
		if err != nil {
			if !s.retry(ctx, l, err) {
				return
			}
			continue
		}
		p.n, p.from = n, addrPort(from)
		s.arrive(d, time.Now(), p)
		s.clear(d)
	}
}

func (s *Server) readBatches(ctx context.Context, l *Link, in *ipv4.PacketConn, pxe bool) {
	d := newDesk(batch)
	packets, messages := make([]*datagram, batch), make([]ipv4.Message, batch)
	for i := range messages {
		packets[i] = s.pool.get(l, pxe)
		messages[i].Buffers = [][]byte{packets[i].buf[:]}
		messages[i].OOB = make([]byte, 64)
	}
	for {
		n, err := in.ReadBatch(messages, 0)
		if err != nil {
			if !s.retry(ctx, l, err) {
				return
			}
			continue
		}
		now := time.Now()
		for i := range n {
			p, m := packets[i], &messages[i]
			p.n, p.from, p.unicast = m.N, addrPort(m.Addr), toUsAlone(m.OOB[:m.NN])
			s.arrive(d, now, p)
		}
		s.clear(d)
		if n < batch {
			time.Sleep(rest)
		}
	}
}

// arrive handles a packet from the wire.
func (s *Server) arrive(d *desk, now time.Time, p *datagram) {
	s.counters.received.Add(1)
	k, ok := peek(p.bytes())
	if !ok {
		s.counters.malformed.Add(1)
		return
	}
	k.pxe = p.pxe
	p.key = k
	if !s.limits.admits(now, &p.key, p, s.isKnown(s.world(), k.hw)) {
		s.counters.limited.Add(1)
		return
	}
	s.safely(d, p)
}

// retry tells whether to go on reading after an error, and waits a little: an interface may be down for a while.
func (s *Server) retry(ctx context.Context, l *Link, err error) bool {
	if ctx.Err() != nil || isClosed(err) {
		return false
	}
	s.cfg.Log.Warn("cannot read DHCP", "relay", s.cfg.Relay, "link", l.Name, "err", err)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(errorRest):
		return true
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
