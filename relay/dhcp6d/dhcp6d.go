// Package dhcp6d answers DHCPv6 (RFC 8415) for the networks of a relay that have an IPv6 prefix: an address, and what to
// boot, for firmware and boot loaders that ask by IPv6.
//
// A packet goes through: parse (is it a client's, through which agents; query.go), classify (what kind of firmware asks;
// classify.go), identify and sit (who asks, in which network, and what the plan for it is; seat.go), hold (another relay
// answers first; patience.go), and answer (a pure function to the reply; answer.go).
//
// No lease is kept. An address is the one declared for a node, or the one made of the hardware address: any relay gives
// the same one at any time. See docs/adr/0037.
//
// Whatever comes from the network may be hostile: everything that is kept has a bound, and a packet that cannot be
// understood is counted and never answered.
package dhcp6d

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/guard"
)

const (
	// Term is for how long an address is granted. It is the machine's for ever, and a node must outlive every relay of its
	// network being away for a day.
	Term = 24 * time.Hour
	// Patience is for how long each relay waits for those before it in a machine's order.
	Patience = 400 * time.Millisecond

	maxPacket = 2048 // no client says so much; longer ones are not read
	again     = time.Second
)

// Planner answers what a machine is to be told. Plan is called by several goroutines at once and must not block; an
// error means that this relay has nothing to say to the machine. It fills in who is alive.
type Planner interface {
	Plan(boot.Request) (boot.Plan, error)
}

// Link is an interface of this computer. Run closes its connection.
type Link struct {
	Name  string
	Addrs []netip.Addr   // of the interface, of both families
	Conn  net.PacketConn // of the port for servers
}

// Config is what a Server needs.
type Config struct {
	Relay     catalog.RelayName
	Cluster   string // with Relay it makes the server's DUID, which is the same after each start
	Planner   Planner
	Catalog   func() *catalog.Catalog
	Changed   func() <-chan struct{} // closes when Catalog no longer returns what it returns now; with Links it is not asked
	HasLoader func(name string) bool // whether the relay has the boot program
	Record    func(boot.Event)       // called by several goroutines at once; it must not block
	Links     []Link                 // where to listen; none: on the interfaces of this computer that reach a served network
	Log       *slog.Logger
}

// Server is a DHCPv6 server. Make one with New.
type Server struct {
	cfg      Config
	duid     dhcpv6.DUID
	limits   limits
	patience patience
	told     guard.Teller
	trouble  guard.Trouble
	counters counters
}

// New returns a server that does nothing before Run.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, duid: duidOf(cfg.Cluster, cfg.Relay), limits: newLimits(), told: guard.Teller{Relay: cfg.Relay, Protocol: "dhcpv6", Record: cfg.Record, Log: cfg.Log}}
}

// duidOf is a relay's DUID: a UUID (RFC 6355) that is made of its name, of the version for what has a form of its own.
func duidOf(cluster string, relay catalog.RelayName) dhcpv6.DUID {
	sum := sha256.Sum256([]byte("wulfmesh DHCPv6 server\x00" + cluster + "\x00" + string(relay)))
	d := &dhcpv6.DUIDUUID{UUID: [16]byte(sum[:16])}
	d.UUID[6] = d.UUID[6]&0x0f | 0x80
	d.UUID[8] = d.UUID[8]&0x3f | 0x80
	return d
}

// Run serves until ctx ends; it closes the links. Trouble with an interface is told by Problems, and ends nothing: most
// machines boot by IPv4.
func (s *Server) Run(ctx context.Context) error {
	defer s.patience.stop()
	if len(s.cfg.Links) == 0 {
		s.watch(ctx)
		return nil
	}
	var readers sync.WaitGroup
	for _, l := range s.cfg.Links {
		readers.Go(func() { s.listen(ctx, &l) })
	}
	readers.Wait()
	return nil
}

// listen answers what comes by a link, until ctx ends.
func (s *Server) listen(ctx context.Context, l *Link) {
	defer l.Conn.Close()
	defer context.AfterFunc(ctx, func() { l.Conn.Close() })()
	b := make([]byte, maxPacket+1)
	for ctx.Err() == nil {
		n, from, err := l.Conn.ReadFrom(b)
		if err != nil {
			// An interface that is down for a while comes back; an error at each read must not be a busy loop.
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
			continue
		}
		s.counters.received.Add(1)
		if a, ok := from.(*net.UDPAddr); ok {
			s.safely(l, b[:n], a.AddrPort(), false)
		}
	}
}

// safely handles a packet. No packet may end the process, whatever is wrong with the code.
func (s *Server) safely(l *Link, b []byte, from netip.AddrPort, waited bool) {
	defer func() {
		if r := recover(); r != nil {
			s.counters.panics.Add(1)
			s.cfg.Log.Error("a DHCPv6 packet could not be handled", "relay", s.cfg.Relay, "err", r)
		}
	}()
	s.handle(l, b, from, waited)
}

// Problems says what a person should know, one line each.
func (s *Server) Problems() []string { return s.trouble.Lines() }
