package dhcpd

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

const (
	// probeWait is for how long an answer to a probe is waited for. RFC 5227 has a host wait for seconds; firmware that
	// wants to boot waits for four seconds in all.
	probeWait = 300 * time.Millisecond
	// probeKeep is for how long an address that nobody answered for counts as free.
	probeKeep = time.Minute
	// probesLen bounds the addresses that are looked at. Past it they are offered as they are, as in a network that does
	// not probe.
	probesLen = 1024
	// maxProbes is how many addresses are tried for one packet of a machine.
	maxProbes = 4
)

// Prober asks whether anybody uses an address.
type Prober interface {
	// Probe asks, and does not wait.
	Probe(netip.Addr) error
	// Hear tells of all answers until Close: who has which address. The owner is nil where that is not known.
	Hear(func(a netip.Addr, owner net.HardwareAddr))
	Close() error
}

// probes are the addresses of pools that were asked for before they are offered.
type probes struct {
	mu  sync.Mutex
	all map[netip.Addr]*probed
}

// probed is what came of it.
type probed struct {
	done time.Time            // when it is known
	used bool                 // somebody uses the address who is not the machine itself
	hw   catalog.HardwareAddr // for whom it was asked
}

// probing is how far it is with an address.
type probing int

const (
	probeUnknown probing = iota
	probeUnderWay
	probeFree
	probeUsed
	probeUnable // there are too many
)

// look tells how far it is with an address for a machine.
func (p *probes) look(now time.Time, a netip.Addr, hw catalog.HardwareAddr) probing {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.all[a]
	switch {
	case e == nil && len(p.all) >= probesLen && !p.sweep(now):
		return probeUnable
	case e == nil || e.hw != hw || now.Sub(e.done) > probeKeep:
		return probeUnknown
	case e.used:
		return probeUsed
	case now.Before(e.done):
		return probeUnderWay
	}
	return probeFree
}

// begin notes that an address is asked for.
func (p *probes) begin(now time.Time, a netip.Addr, hw catalog.HardwareAddr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[netip.Addr]*probed{}
	}
	p.all[a] = &probed{done: now.Add(probeWait), hw: hw}
}

// heard takes an answer; owner may be nil. A machine's own answer is no conflict: it has the address still.
func (p *probes) heard(a netip.Addr, owner net.HardwareAddr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.all[a]; e != nil && owner.String() != string(e.hw) {
		e.used = true
	}
}

// forget has an address asked for anew.
func (p *probes) forget(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, a)
}

// sweep forgets what is old, and tells whether there was any. p.mu is held.
func (p *probes) sweep(now time.Time) bool {
	n := len(p.all)
	for a, e := range p.all {
		if now.Sub(e.done) > probeKeep {
			delete(p.all, a)
		}
	}
	return len(p.all) < n
}

// vet looks at an address of the pool before it is offered: whether somebody uses it who should not. It is asked for once
// in a while, and not where the machine itself was given it lately.
func (s *Server) vet(sit *situation, a netip.Addr) (v verdict, free bool) {
	if m, ok := s.served.Get(a); !sit.net.Probe || ok && m.hw == sit.hw {
		return verdict{}, true
	}
	now := time.Now()
	switch s.probes.look(now, a, sit.hw) {
	case probeUnderWay:
		return verdict{}, false
	case probeUnknown:
		if sit.prober == nil {
			return verdict{}, true
		}
		s.probes.begin(now, a, sit.hw)
		if err := sit.prober.Probe(a); err != nil {
			s.probes.forget(a)
			if isClosed(err) {
				return verdict{}, true
			}
			s.trouble.Set(topicProbe, fmt.Sprintf("cannot ask whether addresses of network %s are in use: %v", sit.net.Name, err))
			return verdict{}, true
		}
		s.trouble.Set(topicProbe, "")
		return verdict{again: true, after: probeWait}, false
	case probeUsed:
		s.probes.forget(a)
		s.cfg.Leases.Decline(sit.net.Name, sit.hw, a)
		return verdict{trouble: fmt.Sprintf("address %s of the pool is used by another machine; it is left out for a while", a), next: true}, false
	}
	return verdict{}, true
}
