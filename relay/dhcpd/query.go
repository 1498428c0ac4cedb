package dhcpd

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxHops is how many relay agents a packet may have passed (RFC 1542 §4.1.1 says 16 at most).
const maxHops = 16

// query is what a client's packet asks.
type query struct {
	m         *dhcpv4.DHCPv4
	kind      dhcpv4.MessageType
	hw        catalog.HardwareAddr
	firmware  boot.Firmware
	giaddr    netip.Addr // the relay agent that passed it on; invalid where there was none, as all the following
	ciaddr    netip.Addr // what the client has and uses
	requested netip.Addr // what it wants (option 50)
	server    netip.Addr // whom it speaks to (option 54)
	agent     agent      // what the relay agent added (option 82)
}

// parse reads a packet. What a client may not send is fault.Invalid.
func parse(b []byte) (*query, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "DHCP packet")
	}
	q := &query{m: m, kind: m.MessageType(), giaddr: ip(m.GatewayIPAddr), ciaddr: ip(m.ClientIPAddr)}
	switch q.kind {
	case dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeInform:
	default:
		return nil, fault.New(fault.Invalid, "message type %d is not a client's", q.kind)
	}
	if m.OpCode != dhcpv4.OpcodeBootRequest || len(m.ClientHWAddr) != 6 || m.HopCount > maxHops {
		return nil, fault.New(fault.Invalid, "not a request of an Ethernet client, or it went in a circle")
	}
	for _, a := range []netip.Addr{q.giaddr, q.ciaddr} {
		// An answer goes there. To a group, to everybody or to ourselves it must not go.
		if a.IsValid() && (a.IsMulticast() || a.IsLoopback() || a == broadcastAddr) {
			return nil, fault.New(fault.Invalid, "%s cannot be a client or a relay agent", a)
		}
	}
	q.hw = catalog.HardwareAddr(m.ClientHWAddr.String())
	q.requested = optionIP(m, dhcpv4.OptionRequestedIPAddress)
	q.server = optionIP(m, dhcpv4.OptionServerIdentifier)
	q.agent = parseAgent(m.Options.Get(dhcpv4.OptionRelayAgentInformation))
	q.firmware = classify(m)
	return q, nil
}

// byAgent tells whether the agent asks, as the kernel of a boot does first.
func (q *query) byAgent() bool {
	return string(q.m.Options.Get(dhcpv4.OptionClassIdentifier)) == boot.AgentClass
}

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ip is the address in a header field; the zero address is none.
func ip(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok || a.Unmap().IsUnspecified() {
		return netip.Addr{}
	}
	return a.Unmap()
}

func optionIP(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode) netip.Addr {
	if b := m.Options.Get(code); len(b) == 4 {
		return ip(b)
	}
	return netip.Addr{}
}

// agent is what a relay agent says of where the client is (RFC 3046).
type agent struct {
	link     netip.Addr // sub-option 5: an address in the client's network, if giaddr is not (RFC 3527)
	override netip.Addr // sub-option 11: the server is to call itself so (RFC 5107)
	port     bool       // sub-option 19: the agent wants the answer at the port it sent from (RFC 8357)
}

// parseAgent reads option 82. Sub-options that are cut short end it; what came before them counts.
func parseAgent(b []byte) agent {
	var a agent
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		code, value := b[0], b[2:2+int(b[1])]
		switch {
		case code == 5 && len(value) == 4:
			a.link = ip(value)
		case code == 11 && len(value) == 4:
			a.override = ip(value)
		case code == 19:
			a.port = true
		}
		b = b[2+len(value):]
	}
	return a
}
