package dhcpd

import (
	"encoding/binary"
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxHops is how many relay agents a packet may have passed (RFC 1542 §4.1.1 says 16 at most).
const maxHops = 16

// query is what a client's packet asks. It refers to the packet's bytes, and is used again for the next one.
type query struct {
	b         []byte
	options   options
	kind      messageType
	mac       [6]byte
	firmware  boot.Firmware
	giaddr    netip.Addr // the relay agent that passed it on; invalid where there was none, as all the following
	ciaddr    netip.Addr // what the client has and uses
	requested netip.Addr // what it wants (option 50)
	server    netip.Addr // whom it speaks to (option 54)
	agent     agent      // what the relay agent added (option 82)
}

// parse reads a packet. What a client may not send is fault.Invalid.
func (q *query) parse(b []byte) error {
	if err := q.read(b, opRequest); err != nil {
		return err
	}
	switch q.kind {
	case msgDiscover, msgRequest, msgDecline, msgRelease, msgInform:
	default:
		return fault.New(fault.Invalid, "message type %d is not a client's", q.kind)
	}
	if b[offHops] > maxHops {
		return fault.New(fault.Invalid, "a DHCP packet went in a circle")
	}
	for _, a := range [...]netip.Addr{q.giaddr, q.ciaddr} {
		// An answer goes there. To a group, to everybody or to ourselves it must not go.
		if a.IsValid() && (a.IsMulticast() || a.IsLoopback() || a == broadcastAddr) {
			return fault.New(fault.Invalid, "%s cannot be a client or a relay agent", a)
		}
	}
	q.requested = optionIP(q.options.get(optRequested))
	q.agent = parseAgent(q.options.get(optAgent))
	q.firmware = classify(&q.options)
	return nil
}

// byAgent tells whether the agent asks, as the kernel of a boot does first.
func (q *query) byAgent() bool {
	return string(q.options.get(optClass)) == boot.AgentClass
}

// read reads what packets to and from servers have in common.
func (q *query) read(b []byte, op byte) error {
	if len(b) < offOptions || b[offOp] != op || b[offHLen] != 6 || [4]byte(b[offCookie:offOptions]) != [4]byte(cookie) {
		return fault.New(fault.Invalid, "not a DHCP packet of an Ethernet client")
	}
	if err := q.options.read(b); err != nil {
		return err
	}
	q.b, q.kind, q.mac = b, 0, [6]byte(b[offChaddr:])
	if kind := q.options.get(optMessageType); len(kind) == 1 {
		q.kind = messageType(kind[0])
	}
	q.giaddr, q.ciaddr = ip(b[offGiaddr:offGiaddr+4]), ip(b[offCiaddr:offCiaddr+4])
	q.server = optionIP(q.options.get(optServer))
	return nil
}

// secs is for how long the client says that it has asked (RFC 2131 §2).
func (q *query) secs() int { return int(binary.BigEndian.Uint16(q.b[offSecs:])) }

// wantsBroadcast tells whether the client asks for answers by broadcast.
func (q *query) wantsBroadcast() bool { return q.b[offFlags]&0x80 != 0 }

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ip is the address in a header field; the zero address is none.
func ip(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok || a.Unmap().IsUnspecified() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// optionIP is the address that is an option's value.
func optionIP(b []byte) netip.Addr {
	if len(b) == 4 {
		return ip(b)
	}
	return netip.Addr{}
}

// agent is what a relay agent says of where the client is (RFC 3046).
type agent struct {
	link     netip.Addr // sub-option 5: an address in the client's network, if giaddr is not (RFC 3527)
	override netip.Addr // sub-option 11: the server is to call itself so (RFC 5107)
	port     bool       // sub-option 19: the agent wants the answer at the port it sent from (RFC 8357)
	circuit  []byte     // sub-option 1: the port that the client is at; it lies in the packet
	remote   []byte     // sub-option 2: the switch; likewise
}

// parseAgent reads option 82. Sub-options that are cut short end it; what came before them counts.
func parseAgent(b []byte) agent {
	var a agent
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		code, value := b[0], b[2:2+int(b[1])]
		switch {
		case code == subLinkSelection:
			a.link = optionIP(value)
		case code == subOverride:
			a.override = optionIP(value)
		case code == subSourcePort:
			a.port = true
		case code == subCircuit:
			a.circuit = value
		case code == subRemote:
			a.remote = value
		}
		b = b[2+len(value):]
	}
	return a
}
