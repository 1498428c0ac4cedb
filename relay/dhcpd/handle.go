package dhcpd

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// situation is everything that an answer depends on.
type situation struct {
	*seat
	q       *query
	from    netip.AddrPort
	unicast bool   // the packet was sent to us alone
	pxe     bool   // it came to port 4011
	loader  bool   // the boot program that the plan names is here
	prober  Prober // asks whether an address is in use where the machine is; nil: nobody can
}

// handle answers a packet, or does not. Answers stay on the desk until it is cleared.
func (s *Server) handle(d *desk, p *datagram) {
	if err := d.q.parse(p.bytes()); err != nil {
		s.counters.malformed.Add(1)
		return
	}
	if !s.situate(d, p) {
		s.counters.foreign.Add(1)
		return
	}
	sit := &d.sit
	s.heed(sit)
	if s.patience.holds(p, sit) {
		return
	}
	v := s.decide(sit)
	for tries := 1; v.next && tries < maxProbes; tries++ {
		s.report(sit, v.trouble)
		v = s.decide(sit)
	}
	switch {
	case v.again && p.tries < maxTries:
		s.later(p, cmp.Or(v.after, unsaved))
		return
	case v.trouble != "":
		s.report(sit, v.trouble)
	}
	if v.kind == 0 {
		s.counters.silent.Add(1)
		return
	}
	s.write(d, p.link, v)
}

// maxTries bounds how often a packet comes back because its lease was not on disk.
const maxTries = 40

// later has the packet come back, unless too many are to.
func (s *Server) later(p *datagram, after time.Duration) {
	if s.waiting.Add(1) > queueLen {
		s.waiting.Add(-1)
		s.counters.dropped.Add(1)
		return
	}
	again := p.clone()
	again.tries++
	time.AfterFunc(after, func() {
		s.waiting.Add(-1)
		s.push(again)
	})
}

// situate finds the network in which the machine asks, and what is known of it there. False means that it is none of
// ours.
func (s *Server) situate(d *desk, p *datagram) bool {
	w, q := s.world(), &d.q
	var best *seat
	for _, n := range networksOf(w.scope, q, p) {
		t := s.seat(w, q.mac, q.firmware, n)
		if t == nil {
			continue
		}
		if t.declared.IsValid() {
			best = t
			break
		}
		// Several networks on one interface: a machine with no address of its own goes where there is a pool.
		if best == nil || !best.net.Pool.First.IsValid() && n.Pool.First.IsValid() {
			best = t
		}
	}
	if best != nil && !best.declared.IsValid() && q.onLink(p) {
		if n := p.link.elsewhere(w.scope, q.near()); n != nil {
			best = nil
			if n.DHCP != catalog.DHCPOff {
				best = s.seat(w, q.mac, q.firmware, n)
			}
		}
	}
	if best == nil {
		return false
	}
	d.sit = situation{seat: best, q: q, from: p.from, unicast: p.unicast, pxe: p.pxe, loader: best.loader != "" && s.cfg.HasLoader(best.loader), prober: p.link.ARP}
	if q.giaddr.IsValid() {
		d.sit.prober = nil
		if far := s.far.Load(); far != nil {
			d.sit.prober = *far
		}
	}
	return true
}

// networksOf lists the networks that the packet may be from, the likeliest first.
func networksOf(sc Scope, q *query, p *datagram) []*catalog.Network {
	// RFC 3527 §3: what the agent says of the client's network is worth more than where the agent itself stands.
	for _, a := range [...]netip.Addr{q.agent.link, q.giaddr} {
		if q.giaddr.IsValid() && a.IsValid() {
			return containing(sc, a)
		}
	}
	if !q.onLink(p) {
		return containing(sc, q.ciaddr)
	}
	return p.link.networks(sc, q.near())
}

// onLink tells whether a packet comes from the link. A lease is renewed with the server alone, through routers: then the
// client's address says where it is (RFC 2131 §4.3.2). What is broadcast comes from the link, whatever address the client
// believes to have.
func (q *query) onLink(p *datagram) bool {
	return !q.giaddr.IsValid() && !(q.ciaddr.IsValid() && p.unicast)
}

// near is the address that the machine has, or wants; invalid if it names none.
func (q *query) near() netip.Addr {
	if q.ciaddr.IsValid() {
		return q.ciaddr
	}
	return q.requested
}

func containing(sc Scope, a netip.Addr) []*catalog.Network {
	for _, n := range sc.Networks {
		if n.Prefix.Contains(a) && n.DHCP != catalog.DHCPOff {
			return []*catalog.Network{n}
		}
	}
	return nil
}

// isMe tells whether the client speaks to this relay.
func (sit *situation) isMe(server netip.Addr) bool {
	return server == sit.me.Addr || sit.q.giaddr.IsValid() && sit.q.agent.override.IsValid() && server == sit.q.agent.override
}

// remember keeps what an answer says about who is where, and records the event of a handshake that is complete.
func (s *Server) remember(l *letter) {
	t, proxied := l.seat, l.seat.net.DHCP == catalog.DHCPProxy
	if l.v.kind == msgOffer && t.wantsLoader() && !l.loader { // firmware takes no offer that it cannot boot from
		e := t.event(l.machine)
		e.Error = noLoader(t)
		if l.v.addr.IsValid() {
			e.Address = l.v.addr.String()
		}
		s.told.Tell(e)
	}
	if l.v.kind != msgAck && !proxied {
		return
	}
	if l.v.addr.IsValid() {
		s.served.Put(l.v.addr, machine{t.node, t.hw})
	}
	if l.v.addr.IsValid() && t.node != "" && l.agent {
		e := t.event(l.machine)
		e.Stage, e.Address, e.Message = boot.StageKernel, l.v.addr.String(), boot.AgentAsks
		s.told.Tell(e)
	}
	// Only firmware begins a boot; a system that renews its lease is told of by others.
	if t.firmware == boot.FirmwareNone || l.asked == msgInform {
		return
	}
	e := t.event(l.machine)
	if l.v.addr.IsValid() {
		e.Address = l.v.addr.String()
	}
	switch {
	case t.problem != nil:
		e.Message = t.problem.Error()
	case proxied:
		e.Message = "another server gives the address"
	}
	if t.wantsLoader() && !l.loader {
		e.Error = noLoader(t)
	}
	s.told.Tell(e)
}

// report records what keeps a machine from being served.
func (s *Server) report(sit *situation, trouble string) {
	e := sit.event(sit.facts())
	e.Error = trouble
	s.told.Tell(e)
}

func (t *seat) event(machine *catalog.Facts) boot.Event {
	return boot.Event{Node: t.node, Hardware: t.hw, Stage: boot.StageDHCP, Revision: t.revision, Firmware: t.firmware, Machine: machine}
}
