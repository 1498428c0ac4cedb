package dhcp6d

import (
	"bytes"
	"errors"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// maxHops bounds the agents that a packet came through (RFC 8415 §7.6).
const maxHops = 8

var (
	errTooLong  = errors.New("the packet is too long")
	errHops     = errors.New("the packet came through too many agents")
	errNotAsked = errors.New("the message is none of a client, or lacks what it needs")
)

// query is what a client asks.
type query struct {
	*dhcpv6.Message
	agents   []*dhcpv6.RelayMessage // that it came through, the one next to us first
	source   netip.Addr             // of the client, on its own link
	firmware boot.Firmware
	machines []catalog.HardwareAddr // what the packet says of the client's hardware address, the best word first
	uuids    []string               // see uuidsOf
}

// parse reads a packet. What it refuses is never answered.
func parse(b []byte, from netip.Addr) (*query, error) {
	if len(b) > maxPacket {
		return nil, errTooLong
	}
	outer, err := dhcpv6.FromBytes(b)
	if err != nil {
		return nil, err
	}
	q := &query{source: from.WithZone("")}
	for q.Message == nil {
		switch m := outer.(type) {
		case *dhcpv6.Message:
			q.Message = m
		case *dhcpv6.RelayMessage:
			if m.MessageType != dhcpv6.MessageTypeRelayForward {
				return nil, errNotAsked
			}
			if len(q.agents) == maxHops {
				return nil, errHops
			}
			q.agents = append(q.agents, m)
			outer = m.Options.RelayMessage()
			q.source, _ = netip.AddrFromSlice(m.PeerAddr)
		default:
			return nil, errNotAsked
		}
	}
	if !q.valid() {
		return nil, errNotAsked
	}
	q.firmware = classify(q.Message)
	q.machines = q.hardware()
	q.uuids = q.uuidsOf()
	return q, nil
}

// valid is RFC 8415 §16: which messages a server reads.
func (q *query) valid() bool {
	client, server := q.Options.ClientID() != nil, q.Options.ServerID() != nil
	switch q.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		return client && !server
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return client && server
	case dhcpv6.MessageTypeInformationRequest:
		return len(q.Options.IANA()) == 0
	}
	return false
}

// open tells whether any server may answer.
func (q *query) open() bool { return q.Options.ServerID() == nil }

// meant tells whether the client speaks to the server of that DUID.
func (q *query) meant(d dhcpv6.DUID) bool {
	id := q.Options.ServerID()
	return id == nil || bytes.Equal(id.ToBytes(), d.ToBytes())
}

// hardware lists what the packet says of the client's hardware address: the agent's word (RFC 6939), that of the client's
// own link-local address, and that of its DUID, which may be of another of its cards.
func (q *query) hardware() []catalog.HardwareAddr {
	var all []catalog.HardwareAddr
	add := func(kind iana.HWType, b []byte) {
		if kind != iana.HWTypeEthernet || len(b) != 6 {
			return
		}
		if hw, ok := hardwareOf(b); ok {
			all = append(all, hw)
		}
	}
	if n := len(q.agents); n > 0 {
		kind, b := q.agents[n-1].Options.ClientLinkLayerAddress()
		add(kind, b)
	}
	if hw, ok := catalog.Hardware6(q.source); ok && q.source.IsLinkLocalUnicast() {
		all = append(all, hw)
	}
	switch d := q.Options.ClientID().(type) {
	case *dhcpv6.DUIDLL:
		add(d.HWType, d.LinkLayerAddr)
	case *dhcpv6.DUIDLLT:
		add(d.HWType, d.LinkLayerAddr)
	}
	return all
}

// link is where the agent next to the client says that the client is; invalid if none says so, and the client is on our
// own link.
func (q *query) link() netip.Addr {
	for i := len(q.agents) - 1; i >= 0; i-- {
		if a, ok := netip.AddrFromSlice(q.agents[i].LinkAddr); ok && !a.IsUnspecified() && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// addresses are those that the client has, or asks for.
func (q *query) addresses() []netip.Addr {
	var all []netip.Addr
	for _, ia := range q.Options.IANA() {
		all = append(all, addressesOf(ia)...)
	}
	return all
}

func addressesOf(ia *dhcpv6.OptIANA) []netip.Addr {
	var all []netip.Addr
	for _, o := range ia.Options.Addresses() {
		if a, ok := netip.AddrFromSlice(o.IPv6Addr); ok {
			all = append(all, a)
		}
	}
	return all
}
