package dhcpd

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Lengths of the headers around a DHCP packet in an Ethernet frame.
const (
	etherLen = 14
	ipLen    = 20 // without options, as we send it
	udpLen   = 8
)

// frame wraps a UDP datagram for IPv4 over Ethernet (RFC 791, RFC 768).
func frame(from, to net.HardwareAddr, src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, etherLen+ipLen+udpLen+len(payload))
	copy(b[0:6], to)
	copy(b[6:12], from)
	binary.BigEndian.PutUint16(b[12:], 0x0800)

	h := b[etherLen:]
	h[0] = 0x45                                                          // version 4, five words
	h[1] = 0x10                                                          // low delay, as DHCP servers have always sent it
	binary.BigEndian.PutUint16(h[2:], uint16(ipLen+udpLen+len(payload))) // total length
	binary.BigEndian.PutUint16(h[6:], 0x4000)                            // do not fragment
	h[8] = 64                                                            // time to live
	h[9] = 17                                                            // UDP
	s, d := src.Addr().As4(), dst.Addr().As4()
	copy(h[12:], s[:])
	copy(h[16:], d[:])
	binary.BigEndian.PutUint16(h[10:], ^fold(sum(0, h[:ipLen])))

	u := h[ipLen:]
	binary.BigEndian.PutUint16(u[0:], src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udpLen+len(payload)))
	copy(u[udpLen:], payload)
	// The pseudo header: both addresses, the protocol, the length.
	check := ^fold(sum(sum(17+uint32(len(u)), h[12:20]), u))
	if check == 0 {
		check = 0xffff // 0 means no checksum
	}
	binary.BigEndian.PutUint16(u[6:], check)
	return b
}

// unframe returns the payload of a UDP datagram to the port, out of an Ethernet frame, and where it is from. It takes
// nothing that is fragmented or cut short. Checksums are not looked at: network cards fill them in late.
func unframe(b []byte, port uint16) ([]byte, netip.AddrPort, bool) {
	if len(b) < etherLen+ipLen+udpLen || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		return nil, netip.AddrPort{}, false
	}
	h := b[etherLen:]
	header, total := int(h[0]&15)*4, int(binary.BigEndian.Uint16(h[2:]))
	if h[0]>>4 != 4 || header < ipLen || total < header+udpLen || total > len(h) || h[9] != 17 || binary.BigEndian.Uint16(h[6:])&0x3fff != 0 {
		return nil, netip.AddrPort{}, false
	}
	u := h[header:total]
	length := int(binary.BigEndian.Uint16(u[4:]))
	if binary.BigEndian.Uint16(u[2:]) != port || length < udpLen || length > len(u) {
		return nil, netip.AddrPort{}, false
	}
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(h[12:16])), binary.BigEndian.Uint16(u))
	return u[udpLen:length], src, true
}

// sum adds up 16-bit words for the Internet checksum (RFC 1071).
func sum(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
