// Package dhcpd answers DHCPv4 for the networks that a relay serves: addresses, and what to boot.
//
// A packet goes through: peek (is it one for us; queue.go), parse (what does it ask; query.go), classify (what kind of
// firmware asks; classify.go), the Planner (what is the answer for this machine; seat.go keeps it), decide (RFC 2131's
// state machine; decide.go), answer (a pure function to the reply; answer.go, reply.go), and the right destination
// (send.go). The goroutine that reads a link does all of it.
// Known machines get their declared address from any relay alike; the others one from the relay's lease.Book.
//
// Several relays serve one segment: the one that the plan ranks first answers at once, the others hold back and step
// in where it does not (patience.go). Servers that are no relays of the cluster are noticed and told (stranger.go).
//
// Whatever comes from the network may be hostile: everything that is kept has a bound, and a packet that cannot be
// understood is counted and never answered.
package dhcpd

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/guard"
	"github.com/wulfmesh/wulfmesh/relay/lease"
)

// How long things last.
const (
	// NodeLease is the term of a declared address. It is long: the address is the node's for ever, and a node must
	// outlive every relay of its network being away for a day.
	NodeLease = 24 * time.Hour
	// Patience is for how long each relay waits for those before it in a machine's order.
	Patience = 400 * time.Millisecond
	// unsaved is after how long a lease is looked at again that was not on disk yet.
	unsaved = 15 * time.Millisecond
)

// Planner answers what a machine is to be told. Plan is called by several goroutines at once and must not block; an
// error means that this relay has nothing to say to the machine. It fills in who is alive.
type Planner interface {
	Plan(boot.Request) (boot.Plan, error)
	// Known tells whether a node claims the machine.
	Known(catalog.HardwareAddr) bool
	// Edition is equal to an earlier one as long as Plan and Known give the same answers as then.
	Edition() any
}

// Recorder takes boot events. Record is called by several goroutines at once and must not block.
type Recorder interface {
	Record(boot.Event)
}

// Scope is what a relay serves.
type Scope struct {
	Addresses []netip.Addr        // the relay's own, as declared
	Networks  []*catalog.Network  // that it serves
	Relays    map[netip.Addr]bool // the addresses of all relays of the cluster
}

// ScopeOf is what the catalog says that a relay serves.
func ScopeOf(c *catalog.Catalog, relay catalog.RelayName) Scope {
	r, ok := c.Relay(relay)
	if !ok {
		return Scope{}
	}
	s := Scope{Addresses: r.Addresses, Relays: map[netip.Addr]bool{}}
	for other := range c.Relays() {
		for _, a := range other.Addresses {
			s.Relays[a] = true
		}
	}
	for _, name := range r.Networks {
		if n, ok := c.Network(name); ok {
			s.Networks = append(s.Networks, n)
		}
	}
	return s
}

func (sc Scope) wantsDHCP() bool {
	return slices.ContainsFunc(sc.Networks, func(n *catalog.Network) bool { return n.DHCP != catalog.DHCPOff })
}

// Config is what a Server needs.
type Config struct {
	Relay   catalog.RelayName
	Planner Planner
	Leases  *lease.Book
	Scope   func() Scope // what the relay serves now; it changes with the Planner's edition alone
	// Changed returns a channel that is closed when Scope may say something else; nil: it is looked at now and then.
	Changed   func() <-chan struct{}
	HasLoader func(name string) bool // whether the relay has the boot program; nil: all of them
	Recorder  Recorder
	Links     []Link // where to listen; none: on the interfaces of this computer that reach a served network
	Log       *slog.Logger
}

// machine is who was given an address.
type machine struct {
	node catalog.NodeName
	hw   catalog.HardwareAddr
}

// Server is a DHCP server. Make one with New.
type Server struct {
	cfg       Config
	pool      pool
	queue     *queue
	present   atomic.Pointer[world]
	limits    limits
	probes    probes
	far       atomic.Pointer[Prober] // asks for addresses behind agents; nil: nobody does
	waiting   atomic.Int64           // packets that are to come back by themselves
	serving   atomic.Bool            // it listens on a link, or nobody wants it to
	patience  patience
	strangers strangers
	served    guard.Recent[netip.Addr, machine] // who has which address
	told      guard.Teller
	trouble   guard.Trouble
	counters  counters
}

// New returns a server that does nothing before Run.
func New(cfg Config) *Server {
	if cfg.HasLoader == nil {
		cfg.HasLoader = func(string) bool { return true }
	}
	s := &Server{cfg: cfg, queue: newQueue(queueLen), limits: newLimits(), told: guard.Teller{Relay: cfg.Relay, Protocol: "dhcp", Record: cfg.Recorder.Record, Log: cfg.Log}}
	s.patience.expired = func(p *datagram) { s.push(p) }
	return s
}

// Run serves until ctx ends; it closes the links. It fails at once, with fault.Conflict, where another program holds
// the DHCP port of an interface that the relay serves.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.serving.Store(false)
	var workers, readers sync.WaitGroup
	workers.Go(s.work)
	var err error
	if len(s.cfg.Links) > 0 {
		for _, l := range s.cfg.Links {
			readers.Go(func() { s.listen(ctx, &l) })
		}
		s.serving.Store(true)
		<-ctx.Done()
	} else {
		err = s.watch(ctx)
	}
	cancel()
	readers.Wait()
	s.patience.stop()
	s.queue.close()
	workers.Wait()
	return err
}

// work handles packets that come back, until the queue is closed.
func (s *Server) work() {
	d := newDesk(1)
	for {
		p, ok := s.queue.pop()
		if !ok {
			return
		}
		s.safely(d, p)
		s.clear(d)
		p.free()
	}
}

// safely handles a packet. No packet may end the process, whatever is wrong with the code.
func (s *Server) safely(d *desk, p *datagram) {
	before := len(d.letters)
	defer func() {
		if r := recover(); r != nil {
			d.letters = d.letters[:min(before, len(d.letters))]
			s.counters.panics.Add(1)
			s.cfg.Log.Error("a DHCP packet could not be handled", "relay", s.cfg.Relay, "err", r)
		}
	}()
	s.handle(d, p)
}

// Machine tells which machine was given the address lately; node is "" for one that no node claims. In a network of mode
// proxy another server gives the addresses, so anybody may be there: it is all true, with nothing known.
func (s *Server) Machine(a netip.Addr) (node catalog.NodeName, hw catalog.HardwareAddr, ok bool) {
	if m, ok := s.served.Get(a); ok {
		return m.node, m.hw, true
	}
	for _, n := range s.world().scope.Networks {
		if n.DHCP == catalog.DHCPProxy && n.Prefix.Contains(a) {
			return "", "", true
		}
	}
	return "", "", false
}

// Serving tells whether machines are answered on any interface. It is false where all that reach networks with DHCP are down,
// or their ports another program's.
func (s *Server) Serving() bool { return s.serving.Load() }

// Problems says what a person should know, one line each.
func (s *Server) Problems() []string {
	now := time.Now()
	return slices.Concat(s.trouble.Lines(), s.strangers.lines(now), s.limits.floods.lines(now))
}
