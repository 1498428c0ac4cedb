package dhcpd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// answer makes the reply. It is a pure function: any relay of the network makes the same reply to the same packet, but
// for what names the relay itself.
func answer(sit *situation, v verdict) *dhcpv4.DHCPv4 {
	q := sit.q
	m := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        q.m.HWType,
		TransactionID: q.m.TransactionID,
		Flags:         q.m.Flags & 0x8000,
		GatewayIPAddr: q.m.GatewayIPAddr,
		ClientHWAddr:  q.m.ClientHWAddr,
		Options:       make(dhcpv4.Options, 16),
	}
	put(m, dhcpv4.OptionDHCPMessageType, []byte{byte(v.kind)})
	server := sit.me.Addr
	if q.giaddr.IsValid() && q.agent.override.IsValid() {
		server = q.agent.override
	}
	put(m, dhcpv4.OptionServerIdentifier, server.AsSlice())
	copyOption(m, q.m, dhcpv4.OptionRelayAgentInformation) // RFC 3046 §2.2: echoed whole, and last
	copyOption(m, q.m, dhcpv4.OptionClientIdentifier)      // RFC 6842
	if v.kind == dhcpv4.MessageTypeNak {
		put(m, dhcpv4.OptionMessage, []byte(v.reason))
		if q.giaddr.IsValid() {
			m.SetBroadcast() // §4.3.2: the agent must not send it to an address that the client has to give up
		}
		return m
	}
	if v.kind == dhcpv4.MessageTypeAck {
		m.ClientIPAddr = q.m.ClientIPAddr // RFC 2131 table 3
	}
	if v.addr.IsValid() {
		m.YourIPAddr = v.addr.AsSlice()
	}
	if v.term > 0 {
		putSeconds(m, dhcpv4.OptionIPAddressLeaseTime, v.term)
		putSeconds(m, dhcpv4.OptionRenewTimeValue, v.term/2)
		putSeconds(m, dhcpv4.OptionRebindingTimeValue, v.term*7/8)
	}
	if sit.net.DHCP != catalog.DHCPProxy {
		putNetwork(m, sit)
	}
	putBoot(m, sit)
	fit(m, q.m)
	return m
}

// putNetwork adds what a machine has to know of the network.
func putNetwork(m *dhcpv4.DHCPv4, sit *situation) {
	n, wants := sit.net, wanted(sit.q.m)
	put(m, dhcpv4.OptionSubnetMask, net.CIDRMask(n.Prefix.Bits(), 32))
	gateway, mtu := n.Gateway, n.MTU
	if sit.declared().IsValid() {
		gateway, mtu = sit.plan.Gateway, sit.plan.MTU
	}
	putAddrs(m, dhcpv4.OptionRouter, gateway)
	if wants(dhcpv4.OptionDomainNameServer) {
		putAddrs(m, dhcpv4.OptionDomainNameServer, n.DNS...)
	}
	if wants(dhcpv4.OptionNTPServers) {
		putAddrs(m, dhcpv4.OptionNTPServers, n.NTP...)
	}
	if wants(dhcpv4.OptionHostName) && sit.plan.Hostname != "" {
		put(m, dhcpv4.OptionHostName, []byte(sit.plan.Hostname))
	}
	if wants(dhcpv4.OptionDomainName) && n.Domain != "" {
		put(m, dhcpv4.OptionDomainName, []byte(n.Domain))
	}
	if wants(dhcpv4.OptionInterfaceMTU) && mtu > 0 {
		put(m, dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(mtu)))
	}
	if wants(dhcpv4.OptionBroadcastAddress) && n.Prefix.Bits() < 31 {
		put(m, dhcpv4.OptionBroadcastAddress, lastOf(n.Prefix).AsSlice())
	}
}

// putBoot adds what to boot.
func putBoot(m *dhcpv4.DHCPv4, sit *situation) {
	file := bootFile(sit)
	if file == "" {
		return
	}
	wants := wanted(sit.q.m)
	m.ServerIPAddr = sit.me.Addr.AsSlice()
	m.BootFileName = file
	if wants(dhcpv4.OptionBootfileName) {
		put(m, dhcpv4.OptionBootfileName, []byte(file))
	}
	switch f := sit.q.firmware; {
	case f == boot.FirmwareIPXE && sit.net.DHCP == catalog.DHCPProxy:
		put(m, dhcpv4.OptionClassIdentifier, []byte(classPXE)) // by which iPXE knows a proxy's offer
	case f == boot.FirmwareIPXE:
		// no-pxedhcp: without it iPXE waits for a ProxyDHCP server that may still speak up.
		put(m, dhcpv4.OptionEtherboot, []byte{176, 1, 1})
	case f == boot.FirmwareHTTP64, f == boot.FirmwareHTTPArm64:
		// UEFI takes an offer for one of HTTP boot by this class alone, and the URL from option 67 alone.
		put(m, dhcpv4.OptionClassIdentifier, []byte(classHTTP))
		put(m, dhcpv4.OptionBootfileName, []byte(file))
	default:
		put(m, dhcpv4.OptionClassIdentifier, []byte(classPXE))
		// PXE_DISCOVERY_CONTROL = 8: take the boot file from this offer at once, no menu, no boot server discovery.
		put(m, dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255})
		if wants(dhcpv4.OptionTFTPServerName) {
			put(m, dhcpv4.OptionTFTPServerName, []byte(sit.me.Addr.String()))
		}
	}
	if id := sit.q.m.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(id) == 17 {
		put(m, dhcpv4.OptionClientMachineIdentifier, id) // PXE 2.1 table 2-3: ROMs look for their own UUID in the answer
	}
}

// bootFile is where the firmware goes on, "" if it has nowhere to go.
func bootFile(sit *situation) string {
	switch f := sit.q.firmware; {
	case f == boot.FirmwareNone:
		return ""
	case f == boot.FirmwareIPXE:
		return "http://" + sit.me.Boot() + strings.Replace(api.PathScript, "{hw}", string(sit.q.hw), 1)
	case !sit.loader:
		return ""
	case f == boot.FirmwareHTTP64, f == boot.FirmwareHTTPArm64:
		return "http://" + sit.me.Boot() + strings.Replace(api.PathLoader, "{name}", sit.plan.Loader, 1)
	}
	return sit.plan.Loader
}

// wanted tells which options the client asked for. One that asks for none gets all (RFC 2131 §3.5).
func wanted(m *dhcpv4.DHCPv4) func(dhcpv4.OptionCode) bool {
	list, ok := m.Options[dhcpv4.OptionParameterRequestList.Code()]
	return func(code dhcpv4.OptionCode) bool {
		if !ok {
			return true
		}
		for _, c := range list {
			if c == code.Code() {
				return true
			}
		}
		return false
	}
}

// expendable are the options that may be left out of a reply that is too long, the first ones first.
var expendable = []dhcpv4.OptionCode{
	dhcpv4.OptionNTPServers, dhcpv4.OptionBroadcastAddress, dhcpv4.OptionDomainName, dhcpv4.OptionHostName, dhcpv4.OptionTFTPServerName,
	dhcpv4.OptionInterfaceMTU, dhcpv4.OptionDomainNameServer, dhcpv4.OptionClientMachineIdentifier,
}

// fit keeps the reply within what the client takes: 576 bytes, or what it says in option 57, with the headers of IP and
// UDP (RFC 2131 §2, RFC 2132 §9.10).
func fit(m, request *dhcpv4.DHCPv4) {
	limit := 576
	if b := request.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(b) == 2 {
		limit = min(max(limit, int(binary.BigEndian.Uint16(b))), maxPacket)
	}
	const headers = 28
	for _, code := range expendable {
		if size(m) <= limit-headers {
			return
		}
		m.Options.Del(code)
	}
}

// size is the length of the encoded message.
func size(m *dhcpv4.DHCPv4) int {
	n := offOptions + 1
	for _, value := range m.Options {
		n += len(value) + 2*max(1, (len(value)+254)/255)
	}
	return n
}

func put(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode, value []byte) { m.Options[code.Code()] = value }

func putSeconds(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode, d time.Duration) {
	put(m, code, binary.BigEndian.AppendUint32(nil, uint32(d/time.Second)))
}

func putAddrs(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode, addrs ...netip.Addr) {
	var b []byte
	for _, a := range addrs {
		if a.Is4() {
			b = append(b, a.AsSlice()...)
		}
	}
	if len(b) > 0 {
		put(m, code, b)
	}
}

func copyOption(m, from *dhcpv4.DHCPv4, code dhcpv4.OptionCode) {
	if value, ok := from.Options[code.Code()]; ok {
		put(m, code, value)
	}
}

// lastOf is the broadcast address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | ^uint32(0)>>p.Bits()
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}
