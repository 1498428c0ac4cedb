package dhcpd

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// situation is everything that an answer depends on.
type situation struct {
	q       *query
	net     *catalog.Network
	plan    boot.Plan
	me      boot.Relay // this relay as the machine sees it
	rank    int        // of this relay in the machine's order
	from    netip.AddrPort
	unicast bool // the packet was sent to us alone
	pxe     bool // it came to port 4011
	loader  bool // the boot program that the plan names is here
}

// handle answers a packet, or does not.
func (s *Server) handle(p *datagram) {
	q, err := parse(p.bytes())
	if err != nil {
		s.counters.malformed.Add(1)
		return
	}
	sit, ok := s.situate(q, p)
	if !ok {
		s.counters.foreign.Add(1)
		return
	}
	s.heed(sit)
	if s.patience.holds(time.Now(), p, sit) {
		return
	}
	v := s.decide(sit)
	switch {
	case v.again && p.tries < maxTries:
		s.later(p)
		return
	case v.trouble != "":
		s.report(sit, v.trouble)
	}
	if v.kind == 0 {
		s.counters.silent.Add(1)
		return
	}
	out := answer(sit, v)
	if err := send(p.link, sit, out); err != nil {
		s.trouble.sending(p.link.Name, err)
		s.counters.unsent.Add(1)
		return
	}
	s.trouble.sent(p.link.Name)
	s.counters.answered(v.kind)
	s.remember(sit, v)
}

// maxTries bounds how often a packet comes back because its lease was not on disk.
const maxTries = 40

// later has the packet come back when its lease may be on disk.
func (s *Server) later(p *datagram) {
	again := p.clone()
	again.tries++
	time.AfterFunc(unsaved, func() { s.push(again) })
}

// situate finds the network in which the machine asks, and the plan for it. False means that it is none of ours.
func (s *Server) situate(q *query, p *datagram) (*situation, bool) {
	nets := s.networks(q, p)
	var best *situation
	for _, n := range nets {
		plan, err := s.cfg.Planner.Plan(boot.Request{Hardware: q.hw, Firmware: q.firmware, Network: n.Name, Relay: s.cfg.Relay})
		if err != nil {
			continue
		}
		rank := plan.Rank(s.cfg.Relay)
		if rank < 0 {
			continue
		}
		sit := &situation{q: q, net: n, plan: plan, me: plan.Relays[rank], rank: rank, from: p.from, unicast: p.unicast, pxe: p.pxe,
			loader: plan.Loader != "" && s.cfg.HasLoader(plan.Loader)}
		if sit.declared().IsValid() {
			return sit, true
		}
		// Several networks on one interface: a machine with no address of its own goes where there is a pool.
		if best == nil || !best.net.Pool.First.IsValid() && n.Pool.First.IsValid() {
			best = sit
		}
	}
	return best, best != nil
}

// networks lists the networks that the packet may be from, the likeliest first.
func (s *Server) networks(q *query, p *datagram) []*catalog.Network {
	sc := s.cfg.Scope()
	// RFC 3527 §3: what the agent says of the client's network is worth more than where the agent itself stands.
	for _, a := range []netip.Addr{q.agent.link, q.giaddr} {
		if q.giaddr.IsValid() && a.IsValid() {
			return containing(sc, a)
		}
	}
	// A lease is renewed with the server alone, through routers: the client's address says where it is (RFC 2131
	// §4.3.2). What is broadcast comes from the link, whatever address the client believes to have.
	if q.ciaddr.IsValid() && p.unicast {
		return containing(sc, q.ciaddr)
	}
	return p.link.networks(sc, q.ciaddr, q.requested)
}

func containing(sc Scope, a netip.Addr) []*catalog.Network {
	for _, n := range sc.Networks {
		if n.Prefix.Contains(a) && n.DHCP != catalog.DHCPOff {
			return []*catalog.Network{n}
		}
	}
	return nil
}

// declared is the address that the catalog gives the machine in this network; invalid if it gives none.
func (sit *situation) declared() netip.Addr {
	if a := sit.plan.Address; sit.plan.Known() && a.IsValid() && sit.net.Prefix.Contains(a.Addr()) {
		return a.Addr()
	}
	return netip.Addr{}
}

// isMe tells whether the client speaks to this relay.
func (sit *situation) isMe(server netip.Addr) bool {
	return server == sit.me.Addr || sit.q.giaddr.IsValid() && sit.q.agent.override.IsValid() && server == sit.q.agent.override
}

// remember keeps what an answer says about who is where, and records the event of a handshake that is complete.
func (s *Server) remember(sit *situation, v verdict) {
	proxied := sit.net.DHCP == catalog.DHCPProxy
	if v.kind != dhcpv4.MessageTypeAck && !proxied {
		return
	}
	if v.addr.IsValid() {
		s.served.put(v.addr, machine{sit.plan.Node, sit.q.hw})
	}
	if v.addr.IsValid() && sit.plan.Known() && sit.q.byAgent() {
		e := sit.event()
		e.Stage, e.Address, e.Message = boot.StageKernel, v.addr.String(), boot.AgentAsks
		s.record(e)
	}
	// Only firmware begins a boot; a system that renews its lease is told of by others.
	if sit.q.firmware == boot.FirmwareNone || sit.q.kind == dhcpv4.MessageTypeInform {
		return
	}
	e := sit.event()
	if v.addr.IsValid() {
		e.Address = v.addr.String()
	}
	switch {
	case sit.plan.Problem != nil:
		e.Message = sit.plan.Problem.Error()
	case proxied:
		e.Message = "another server gives the address"
	}
	if sit.wantsLoader() && !sit.loader {
		e.Error = noLoader(sit)
	}
	s.record(e)
}

// wantsLoader tells whether the firmware is one that fetches a boot program.
func (sit *situation) wantsLoader() bool {
	return sit.q.firmware != boot.FirmwareNone && sit.q.firmware != boot.FirmwareIPXE
}

func noLoader(sit *situation) string {
	if sit.plan.Loader == "" {
		return "there is no boot program for its architecture"
	}
	return "boot program " + sit.plan.Loader + " is not installed on the relay"
}

// report records what keeps a machine from being served.
func (s *Server) report(sit *situation, trouble string) {
	e := sit.event()
	e.Error = trouble
	s.record(e)
}

func (sit *situation) event() boot.Event {
	return boot.Event{Node: sit.plan.Node, Hardware: sit.q.hw, Stage: boot.StageDHCP, Revision: sit.plan.Revision, Firmware: sit.q.firmware}
}

// record passes an event on, unless the same was told of the machine a moment ago: firmware asks several times.
func (s *Server) record(e boot.Event) {
	e.Time, e.Relay = time.Now().UTC(), s.cfg.Relay
	t := telling{e.Firmware, e.Address, e.Error, e.Time}
	if last, ok := s.told.get(e.Hardware); ok && last.same(t) && e.Time.Sub(last.at) < tellEvery {
		return
	}
	s.told.put(e.Hardware, t)
	s.cfg.Recorder.Record(e)
	if e.Error != "" {
		s.cfg.Log.Warn("dhcp", "relay", s.cfg.Relay, "node", e.Node, "hardware", e.Hardware, "stage", e.Stage, "revision", e.Revision, "err", e.Error)
		return
	}
	s.cfg.Log.Info("dhcp", "relay", s.cfg.Relay, "node", e.Node, "hardware", e.Hardware, "stage", e.Stage, "revision", e.Revision,
		"firmware", e.Firmware, "address", e.Address)
}
