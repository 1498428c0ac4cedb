package dhcpd

import (
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// route is how a reply reaches its client.
type route struct {
	to    netip.AddrPort
	frame bool // in a frame to the client's hardware address, because nobody answers ARP for the address yet
	pxe   bool // from port 4011
}

// routeOf is RFC 2131 §4.1.
func routeOf(sit *situation, m *dhcpv4.DHCPv4) route {
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
	case m.MessageType() == dhcpv4.MessageTypeNak:
		return route{to: netip.AddrPortFrom(broadcastAddr, clientPort)}
	case q.ciaddr.IsValid() && q.kind != dhcpv4.MessageTypeDiscover: // decide has seen to it that it is in the network
		return route{to: netip.AddrPortFrom(q.ciaddr, clientPort)}
	case m.IsBroadcast() || len(m.YourIPAddr) == 0:
		return route{to: netip.AddrPortFrom(broadcastAddr, clientPort)}
	}
	return route{to: netip.AddrPortFrom(ip(m.YourIPAddr), clientPort), frame: true}
}

// send puts the reply on the wire.
func send(l *Link, sit *situation, m *dhcpv4.DHCPv4) error {
	b := m.ToBytes()
	r := routeOf(sit, m)
	if r.frame && l.Raw != nil {
		return l.Raw.SendFrame(m.ClientHWAddr, netip.AddrPortFrom(sit.me.Addr, serverPort), r.to, b)
	}
	if r.frame {
		r.to = netip.AddrPortFrom(broadcastAddr, clientPort)
	}
	conn := l.Conn
	if r.pxe {
		conn = l.PXE
	}
	_, err := conn.WriteTo(b, net.UDPAddrFromAddrPort(r.to))
	return err
}
