package dhcp6d

import (
	"net"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// atOnce is the preference at which a client takes an offer without waiting for others (RFC 8415 §18.2.1): relays take
// turns, so that the first to answer is the right one.
const atOnce = 255

// answer makes the reply; nil is silence. It is a pure function: any relay of the network makes the same reply to the same
// message, but for what names the relay itself.
func answer(q *query, t *seat, server dhcpv6.DUID) *dhcpv6.Message {
	r := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: q.TransactionID}
	if id := q.Options.ClientID(); id != nil {
		r.AddOption(dhcpv6.OptClientID(id))
	}
	r.AddOption(dhcpv6.OptServerID(server))
	switch q.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if q.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			r.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			r.MessageType = dhcpv6.MessageTypeAdvertise
			r.AddOption(dhcpv6.OptPreference(atOnce))
		}
		putAddresses(r, q, t, grant)
	case dhcpv6.MessageTypeRequest:
		putAddresses(r, q, t, request)
	case dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		putAddresses(r, q, t, renew)
	case dhcpv6.MessageTypeConfirm:
		all := q.addresses()
		if len(all) == 0 {
			return nil // §18.3.3
		}
		code := iana.StatusSuccess
		if slices.ContainsFunc(all, func(a netip.Addr) bool { return !t.net.Prefix6.Contains(a) }) {
			code = iana.StatusNotOnLink
		}
		r.AddOption(&dhcpv6.OptStatusCode{StatusCode: code})
		return r
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		r.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess}) // nothing was kept that could be forgotten
		return r
	}
	putNetwork(r, q, t)
	putBoot(r, q, t)
	return r
}

// grants is what becomes of an identity association.
type grants func(q *dhcpv6.OptIANA, t *seat, addr netip.Addr) []dhcpv6.Option

// putAddresses answers each identity association. A machine has one address in a network: it goes to the first.
func putAddresses(r *dhcpv6.Message, q *query, t *seat, g grants) {
	for i, ia := range q.Options.IANA() {
		addr := t.plan.Address6
		if i > 0 {
			addr = netip.Addr{}
		}
		o := &dhcpv6.OptIANA{IaId: ia.IaId, Options: dhcpv6.IdentityOptions{Options: g(ia, t, addr)}}
		if a := o.Options.OneAddress(); a != nil && a.ValidLifetime > 0 {
			o.T1, o.T2 = Term/2, Term*7/8
		}
		r.AddOption(o)
	}
}

// grant answers who has no address yet.
func grant(_ *dhcpv6.OptIANA, t *seat, addr netip.Addr) []dhcpv6.Option {
	if !addr.IsValid() {
		return status(iana.StatusNoAddrsAvail, "network "+string(t.net.Name)+" has no address for this machine")
	}
	return []dhcpv6.Option{given(addr)}
}

// request answers who chose this server's offer; what it wants may be of another network, where it was before.
func request(ia *dhcpv6.OptIANA, t *seat, addr netip.Addr) []dhcpv6.Option {
	if slices.ContainsFunc(addressesOf(ia), func(a netip.Addr) bool { return !t.net.Prefix6.Contains(a) }) {
		return status(iana.StatusNotOnLink, "the address is not of network "+string(t.net.Name))
	}
	return grant(ia, t, addr)
}

// renew answers who has an address. One that is no longer its own ends now, and what it has instead comes along.
func renew(ia *dhcpv6.OptIANA, t *seat, addr netip.Addr) []dhcpv6.Option {
	var all []dhcpv6.Option
	if addr.IsValid() {
		all = append(all, given(addr))
	}
	for _, a := range addressesOf(ia) {
		if a != addr {
			all = append(all, &dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice()})
		}
	}
	if len(all) == 0 {
		return status(iana.StatusNoBinding, "network "+string(t.net.Name)+" has no address for this machine")
	}
	return all
}

func given(a netip.Addr) *dhcpv6.OptIAAddress {
	return &dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice(), PreferredLifetime: Term, ValidLifetime: Term}
}

func status(code iana.StatusCode, why string) []dhcpv6.Option {
	return []dhcpv6.Option{&dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: why}}
}

// putNetwork adds what a machine wants to know of the network. That the rest of it is on the link, routers say, and radvd.
func putNetwork(r *dhcpv6.Message, q *query, t *seat) {
	var servers []net.IP
	for _, a := range t.net.DNS {
		if a.Is6() {
			servers = append(servers, a.AsSlice())
		}
	}
	if len(servers) > 0 && q.IsOptionRequested(dhcpv6.OptionDNSRecursiveNameServer) {
		r.AddOption(dhcpv6.OptDNS(servers...))
	}
	if t.net.Domain != "" && q.IsOptionRequested(dhcpv6.OptionDomainSearchList) {
		r.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{t.net.Domain}}))
	}
}

// putBoot adds what to boot. Firmware takes the URL whether it asks for it or not, and some does not ask.
//
// UEFI takes an answer for one of HTTP boot by its class alone, under the number of the enterprise that the firmware named.
// Of PXE it must not be there: EDK2 would ask a boot server then for what it has been told.
func putBoot(r *dhcpv6.Message, q *query, t *seat) {
	if t.file == "" {
		return
	}
	r.AddOption(dhcpv6.OptBootFileURL(t.file))
	if class := classOf(q.Message); class != nil && (q.firmware == boot.FirmwareHTTP64 || q.firmware == boot.FirmwareHTTPArm64) {
		r.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: class.EnterpriseNumber, Data: [][]byte{[]byte(classHTTP)}})
	}
}

// wrap puts a reply into one message for each agent that the question came through, the outermost last (RFC 8415 §19.3).
func wrap(r *dhcpv6.Message, q *query) dhcpv6.DHCPv6 {
	var out dhcpv6.DHCPv6 = r
	for i := len(q.agents) - 1; i >= 0; i-- {
		a := q.agents[i]
		w := &dhcpv6.RelayMessage{MessageType: dhcpv6.MessageTypeRelayReply, HopCount: a.HopCount, LinkAddr: a.LinkAddr, PeerAddr: a.PeerAddr}
		if id := a.Options.InterfaceID(); id != nil {
			w.AddOption(dhcpv6.OptInterfaceID(id))
		}
		if port := a.Options.RelayPort(); port != nil {
			w.AddOption(port)
		}
		w.AddOption(dhcpv6.OptRelayMessage(out))
		out = w
	}
	return out
}
