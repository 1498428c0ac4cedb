package catalog

import (
	"net"
	"net/netip"
)

// derivable is the longest prefix in which an address can be made of a hardware address.
const derivable = 64

// Derived6 is the IPv6 address in the network that is made of a hardware address (RFC 4291 appendix A), as machines make
// their own. It is the machine's for ever, and every relay knows it without a word to the others. It is invalid where the
// network has no IPv6 prefix, or one that leaves no room.
func (n *Network) Derived6(hw HardwareAddr) netip.Addr {
	mac, err := net.ParseMAC(string(hw))
	if err != nil || len(mac) != 6 || !n.Prefix6.IsValid() || n.Prefix6.Bits() > derivable {
		return netip.Addr{}
	}
	a := n.Prefix6.Masked().Addr().As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a)
}

// Hardware6 is the hardware address of which an IPv6 address was made; false if it was made otherwise.
func Hardware6(a netip.Addr) (HardwareAddr, bool) {
	b := a.As16()
	if !a.Is6() || a.Is4In6() || b[11] != 0xff || b[12] != 0xfe {
		return "", false
	}
	hw, err := ParseHardwareAddr(net.HardwareAddr{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}.String())
	return hw, err == nil
}
