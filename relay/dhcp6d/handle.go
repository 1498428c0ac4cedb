package dhcp6d

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/guard"
)

// handle answers a packet, or does not.
func (s *Server) handle(l *Link, b []byte, from netip.AddrPort, waited bool) {
	q, err := parse(b, from.Addr())
	if err != nil {
		s.counters.malformed.Add(1)
		return
	}
	if !waited && !s.limits.admits(time.Now(), s.cfg.Catalog(), q) { // before a plan is made
		s.counters.limited.Add(1)
		return
	}
	t := s.sit(q, l)
	if t == nil {
		s.counters.foreign.Add(1)
		return
	}
	if !q.meant(s.duid) {
		s.patience.serves(t.hw)
		s.counters.foreign.Add(1)
		return
	}
	if !waited && q.open() && s.patience.holds(q, t, l, b, from, s) {
		return
	}
	r := answer(q, t, s.duid)
	if r == nil {
		s.counters.silent.Add(1)
		return
	}
	if !s.send(l, q, r, from) {
		return
	}
	s.heed(q, t, l, r)
}

// send sends a reply back to where the question came from, to the port where clients listen, or agents do.
func (s *Server) send(l *Link, q *query, r *dhcpv6.Message, from netip.AddrPort) bool {
	to := net.UDPAddrFromAddrPort(from)
	switch {
	case len(q.agents) == 0:
		to.Port = dhcpv6.DefaultClientPort
	case q.agents[0].Options.RelayPort() == nil: // RFC 8357: one that listens elsewhere says so
		to.Port = dhcpv6.DefaultServerPort
	}
	if _, err := l.Conn.WriteTo(wrap(r, q).ToBytes(), to); err != nil {
		s.counters.unsent.Add(1)
		if !errors.Is(err, net.ErrClosed) { // what was held for a link that is closed is no trouble
			s.trouble.Set(guard.Topic{What: "send", Link: l.Name}, fmt.Sprintf("cannot send DHCPv6 on %s: %v", l.Name, err))
		}
		return false
	}
	s.trouble.Set(guard.Topic{What: "send", Link: l.Name}, "")
	s.counters.answered(r.MessageType)
	return true
}

// heed records what an answer says of a machine's boot. Only firmware begins one. That iPXE lacks something is not told: it
// asks by both families at once, and mostly needs but one.
func (s *Server) heed(q *query, t *seat, l *Link, r *dhcpv6.Message) {
	e := boot.Event{Node: t.plan.Node, Hardware: t.hw, Stage: boot.StageDHCP, Revision: t.plan.Revision, Firmware: q.firmware}
	if q.MessageType == dhcpv6.MessageTypeDecline {
		if slices.Contains(q.addresses(), t.plan.Address6) {
			e.Error = fmt.Sprintf("its address %s is used by another machine already", t.plan.Address6)
			if t.plan.Known() {
				e.Fix = fmt.Sprintf("find the other machine, or give %[1]s another address: wulf node set %[1]s --ipaddr6 ADDRESS", t.plan.Node)
			}
			e.Machine = q.facts(t)
			s.told.Tell(e)
		}
		return
	}
	if q.firmware == boot.FirmwareNone {
		return
	}
	if t.plan.Address6.IsValid() && q.MessageType != dhcpv6.MessageTypeInformationRequest {
		e.Address = t.plan.Address6.String()
	}
	s.trouble.Set(guard.Topic{What: "address", Link: l.Name}, t.unreached(l))
	if q.firmware != boot.FirmwareIPXE {
		e.Error, e.Fix = s.lack(q, t, l)
	}
	if e.Error == "" {
		if r.MessageType != dhcpv6.MessageTypeReply || t.file == "" || !begins(q.MessageType) {
			return // it has only been offered, or it has long begun
		}
		if t.plan.Problem != nil {
			e.Message = t.plan.Problem.Error()
		}
	}
	e.Machine = q.facts(t)
	s.told.Tell(e)
}

// begins tells whether a message is of a machine that starts.
func begins(kind dhcpv6.MessageType) bool {
	return kind == dhcpv6.MessageTypeSolicit || kind == dhcpv6.MessageTypeRequest || kind == dhcpv6.MessageTypeInformationRequest
}

// unreached says that machines which boot by IPv6 do not reach this relay; "" if they do.
func (t *seat) unreached(l *Link) string {
	if t.me.IsValid() {
		return ""
	}
	return fmt.Sprintf("machines boot by IPv6 on %s, where this relay has no IPv6 address in %s, network %s; give it one", l.Name, t.net.Prefix6, t.net.Name)
}

// lack is what firmware lacks to go on by IPv6, and what would mend it.
func (s *Server) lack(q *query, t *seat, l *Link) (what, fix string) {
	switch {
	case !t.me.IsValid():
		return fmt.Sprintf("it gets no boot program by IPv6: relay %s has no IPv6 address in %s on %s", s.cfg.Relay, t.net.Prefix6, l.Name),
			fmt.Sprintf("give %s of relay %s an address in %s", l.Name, s.cfg.Relay, t.net.Prefix6)
	case t.plan.Loader == "":
		return "there is no boot program for its architecture", ""
	case t.file == "":
		return "boot program " + t.plan.Loader + " is not installed on the relay", ""
	case t.plan.Address6.IsValid() || q.MessageType == dhcpv6.MessageTypeInformationRequest:
		return "", ""
	case fault.KindOf(t.plan.Problem) == fault.Conflict: // it is plugged in elsewhere
		return "it gets no IPv6 address: " + t.plan.Problem.Error(), fault.Fix(t.plan.Problem)
	case t.plan.Known():
		return fmt.Sprintf("it gets no IPv6 address: none is declared for it in network %s, and none can be made of its hardware address", t.net.Name),
			fmt.Sprintf("wulf node set %s --ipaddr6 ADDRESS", t.plan.Node)
	case t.net.Prefix6.Bits() > 64:
		return fmt.Sprintf("it gets no IPv6 address: no node claims it, and %s of network %s leaves no room to make one", t.net.Prefix6, t.net.Name), ""
	}
	return fmt.Sprintf("it gets no IPv6 address: no node claims it, and network %s has no pool for unknown machines", t.net.Name), ""
}

// facts is what a packet of an unknown machine says of it, and of where it is plugged in; nil for one that a node claims.
func (q *query) facts(t *seat) *catalog.Facts {
	if t.plan.Known() {
		return nil
	}
	f := catalog.Facts{Network: t.net.Name}
	if len(q.uuids) > 0 {
		f.UUID = q.uuids[0]
	}
	if n := len(q.agents); n > 0 {
		agent := q.agents[n-1]
		f.Agent, f.Port = q.link().String(), catalog.FactOf(agent.Options.InterfaceID())
		if id := agent.Options.RemoteID(); id != nil {
			f.Switch = catalog.FactOf(id.RemoteID)
		}
	}
	f = f.Clean()
	return &f
}
