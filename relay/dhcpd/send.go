package dhcpd

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// route is how a reply reaches its client.
type route struct {
	to    netip.AddrPort
	frame bool // in a frame to the client's hardware address, because nobody answers ARP for the address yet
	pxe   bool // from port 4011
}

// routeOf is RFC 2131 §4.1.
func routeOf(sit *situation, r *reply) route {
	q := sit.q
	switch {
	case sit.pxe:
		// PXE 2.1 §2.2.3: to the port from which the client asked, which may be 68 or 4011.
		return route{to: sit.from, pxe: true}
	case q.giaddr.IsValid():
		port := uint16(serverPort)
		if q.agent.port {
			port = sit.from.Port() // RFC 8357
		}
		return route{to: netip.AddrPortFrom(q.giaddr, port)}
	case r.kind == msgNak:
		return route{to: netip.AddrPortFrom(broadcastAddr, clientPort)}
	case q.ciaddr.IsValid() && (q.ciaddr == r.yiaddr || q.kind == msgInform && sit.net.Prefix.Contains(q.ciaddr)):
		// What a client says that it has is believed where it is what it gets, or near: an answer must not be sent anywhere.
		return route{to: netip.AddrPortFrom(q.ciaddr, clientPort)}
	case q.wantsBroadcast() || !r.yiaddr.IsValid():
		return route{to: netip.AddrPortFrom(broadcastAddr, clientPort)}
	}
	return route{to: netip.AddrPortFrom(r.yiaddr, clientPort), frame: true}
}

// letter is a reply that is to be sent, and what is to be kept in mind when it was.
type letter struct {
	link *Link
	route
	seat    *seat
	asked   messageType
	agent   bool // of a node asks, not its firmware or its system
	loader  bool
	v       verdict
	machine *catalog.Facts // what is known of one that no node claims
	n       int
	buf     [maxPacket - ipLen - udpLen]byte
}

func (l *letter) bytes() []byte { return l.buf[:l.n] }

// desk is what a goroutine needs to handle packets; all of it is used again and again.
type desk struct {
	q   query
	sit situation
	r   reply

	letters  []letter // to be sent
	messages []ipv4.Message
}

// newDesk has room for the answers to so many packets.
func newDesk(size int) *desk {
	d := &desk{letters: make([]letter, 0, size), messages: make([]ipv4.Message, size)}
	for i := range d.messages {
		d.messages[i] = ipv4.Message{Buffers: make([][]byte, 1), Addr: &net.UDPAddr{IP: make(net.IP, 4)}}
	}
	return d
}

// write adds a letter; the desk may have to be cleared for it.
func (s *Server) write(d *desk, l *Link, v verdict) {
	if len(d.letters) == cap(d.letters) {
		s.clear(d)
	}
	sit := &d.sit
	answer(&d.r, sit, v)
	d.letters = d.letters[:len(d.letters)+1]
	t := &d.letters[len(d.letters)-1]
	t.link, t.route, t.seat, t.asked, t.agent, t.loader, t.v = l, routeOf(sit, &d.r), sit.seat, sit.q.kind, sit.q.byAgent(), sit.loader, v
	t.machine = sit.facts()
	if t.frame && l.Raw == nil {
		t.to, t.frame = netip.AddrPortFrom(broadcastAddr, clientPort), false
	}
	if t.n = d.r.encode(t.buf[:], sit.q); t.n == 0 {
		d.letters = d.letters[:len(d.letters)-1]
		s.counters.unsent.Add(1)
	}
}

// clear sends all letters. Those to the same socket in a row take one system call, where it is the kernel's.
func (s *Server) clear(d *desk) {
	for i := 0; i < len(d.letters); {
		run := d.letters[i:]
		sent, err := 1, error(nil)
		switch t := &run[0]; {
		case t.frame:
			err = t.link.Raw.SendFrame(t.seat.mac, netip.AddrPortFrom(t.seat.me.Addr, serverPort), t.to, t.bytes())
		case t.link.batch != nil && !t.pxe:
			sent, err = d.sendBatch(run)
		case t.pxe:
			_, err = t.link.PXE.WriteTo(t.bytes(), net.UDPAddrFromAddrPort(t.to))
		default:
			_, err = t.link.Conn.WriteTo(t.bytes(), net.UDPAddrFromAddrPort(t.to))
		}
		if err != nil {
			if !isClosed(err) {
				s.sending(run[0].link.Name, err)
			}
			s.counters.unsent.Add(1)
			i++
			continue
		}
		s.sending(run[0].link.Name, nil)
		for k := range sent {
			s.counters.answered(run[k].v.kind)
			s.remember(&run[k])
		}
		i += sent
	}
	d.letters = d.letters[:0]
}

// sendBatch sends letters up to the first that goes another way, and returns how many. An error is that of the first.
func (d *desk) sendBatch(run []letter) (int, error) {
	link := run[0].link
	n := 0
	for n < len(run) && run[n].link == link && !run[n].frame && !run[n].pxe {
		m, to := &d.messages[n], run[n].to
		m.Buffers[0] = run[n].bytes()
		addr := m.Addr.(*net.UDPAddr)
		four := to.Addr().As4()
		copy(addr.IP, four[:])
		addr.Port = int(to.Port())
		n++
	}
	return link.batch.WriteBatch(d.messages[:n], 0)
}

// noLoader says why firmware gets no boot program.
func noLoader(t *seat) string {
	if t.loader == "" {
		return "there is no boot program for its architecture"
	}
	return "boot program " + t.loader + " is not installed on the relay"
}

// bootFile is where the firmware goes on, "" if it has nowhere to go.
func (sit *situation) bootFile() string {
	if sit.firmware != boot.FirmwareIPXE && !sit.loader {
		return ""
	}
	return sit.file
}
