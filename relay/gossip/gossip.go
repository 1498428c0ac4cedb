// Package gossip tells a relay which other relays are alive, where they are, which revision they hold and how busy
// they are. It owns hashicorp/memberlist.
//
// Everything learnt here is a hint that makes the mesh fast. What must be true is in the catalog: a relay that gossip
// finds but the catalog does not admit is never offered by Members or Alive. The gossip of a cluster is encrypted with
// the cluster's gossip keys and labelled with its name; holders of the keys can still lie, about themselves only when
// Config.Verify is set.
package gossip

import (
	"context"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Config is what a Gossip needs. Name, Cluster, Keys, Listener, Packets, Dial, Seeds, Admitted and Logger are required.
type Config struct {
	Name    string   // of this relay, as in the catalog
	Cluster string   // what is said in another cluster is not heard
	Keys    [][]byte // 16, 24 or 32 bytes each; the first encrypts, all decrypt

	Listener  net.Listener   // for whole-state exchanges; Run closes it
	Packets   net.PacketConn // for everything else, on the same port; Run closes it
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	Advertise netip.AddrPort // where others reach Listener and Packets; zero: the address they listen on
	Allowed   []netip.Prefix // the only addresses heard and spoken to; nil: all

	// Seeds returns "ip:port" of relays that may be up, this one or dead ones among them. It is asked again and again,
	// so that a split mesh finds together whenever it can. Other forms than ip:port are skipped.
	Seeds func() []string
	// Admitted tells whether the catalog has a relay of that name, and it is not revoked. It is called often and from
	// several goroutines, and must neither block nor call into this Gossip.
	Admitted func(name string) bool

	Meta Meta // what this relay says of itself until Update says otherwise
	// Sign signs what this relay says, with the key of its certificate; Verify checks the signature of a relay by
	// name. Without Verify any holder of a gossip key may speak for any relay. Both may be nil.
	Sign   func(message []byte) (signature []byte, err error)
	Verify func(name string, message, signature []byte) error

	Profile Profile
	Logger  *slog.Logger
}

// Profile holds the timings; a zero field takes its value from LAN.
type Profile struct {
	ProbeInterval  time.Duration // one member is probed in each
	ProbeTimeout   time.Duration // after which others are asked to probe it
	GossipInterval time.Duration // news is passed on at this pace
	PushPull       time.Duration // whole states are exchanged with a random member
	Stream         time.Duration // allowed for such an exchange
	SuspicionMult  int           // a suspect has this × log10(members) probe intervals to object
	Rejoin         time.Duration // seeds that are not members are tried at this pace
	UpdateInterval time.Duration // Updates are told at most this often; in a large mesh the revision alone less often
	HoldDown       time.Duration // for which a member that failed must be back before Alive offers it
	Forget         time.Duration // a member is forgotten after being away so long
}

// LAN suits relays in one data centre: 20 of them see a crash within about 10 s.
func LAN() Profile {
	return Profile{
		ProbeInterval: time.Second, ProbeTimeout: 500 * time.Millisecond, GossipInterval: 200 * time.Millisecond,
		PushPull: 30 * time.Second, Stream: 5 * time.Second, SuspicionMult: 4, Rejoin: 15 * time.Second,
		UpdateInterval: time.Second, HoldDown: 5 * time.Second, Forget: 10 * time.Minute,
	}
}

func (p Profile) orLAN() Profile {
	lan := LAN()
	for _, d := range []struct{ v, usual *time.Duration }{
		{&p.ProbeInterval, &lan.ProbeInterval}, {&p.ProbeTimeout, &lan.ProbeTimeout}, {&p.GossipInterval, &lan.GossipInterval},
		{&p.PushPull, &lan.PushPull}, {&p.Stream, &lan.Stream}, {&p.Rejoin, &lan.Rejoin},
		{&p.UpdateInterval, &lan.UpdateInterval}, {&p.HoldDown, &lan.HoldDown}, {&p.Forget, &lan.Forget},
	} {
		if *d.v <= 0 {
			*d.v = *d.usual
		}
	}
	if p.SuspicionMult <= 0 {
		p.SuspicionMult = lan.SuspicionMult
	}
	return p
}

// Gossip is this relay's part in the mesh's gossip. Its methods may be called by any number of goroutines, before,
// during and after Run; none of them blocks.
type Gossip struct {
	cfg       Config
	advertise netip.AddrPort
	ring      *memberlist.Keyring
	keys      sync.Mutex // serialises SetKeys
	log       *slog.Logger

	table *table
	view  atomic.Pointer[view]

	said    atomic.Pointer[statement] // by this relay
	unsaid  chan struct{}             // said has changed; one slot
	leaving atomic.Bool               // this relay drains, whatever Update says
}

// statement is a Meta and the form in which it travels.
type statement struct {
	meta    Meta
	encoded []byte
}

// New checks the configuration and starts nothing. Errors are fault.Invalid.
func New(cfg Config) (*Gossip, error) {
	if err := checkName(cfg.Name); err != nil {
		return nil, err
	}
	if cfg.Cluster == "" || len(cfg.Cluster) > memberlist.LabelMaxSize {
		return nil, fault.New(fault.Invalid, "gossip needs the cluster's name, of at most %d bytes", memberlist.LabelMaxSize)
	}
	if cfg.Listener == nil || cfg.Packets == nil || cfg.Dial == nil || cfg.Seeds == nil || cfg.Admitted == nil || cfg.Logger == nil {
		return nil, fault.New(fault.Invalid, "gossip needs Listener, Packets, Dial, Seeds, Admitted and Logger")
	}
	advertise, err := advertised(cfg)
	if err != nil {
		return nil, err
	}
	if err := checkKeys(cfg.Keys); err != nil {
		return nil, err
	}
	ring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "gossip keys")
	}
	cfg.Profile = cfg.Profile.orLAN()
	g := &Gossip{cfg: cfg, advertise: advertise, ring: ring, log: cfg.Logger, unsaid: make(chan struct{}, 1)}
	g.table = newTable(cfg.Name, cfg.Profile, cfg.Admitted)
	if err := g.state(cfg.Meta); err != nil {
		return nil, err
	}
	g.view.Store(&view{members: []Member{g.self()}, changed: make(chan struct{})})
	return g, nil
}

// advertised is the address that other relays are given.
func advertised(cfg Config) (netip.AddrPort, error) {
	stream, err := netip.ParseAddrPort(cfg.Listener.Addr().String())
	if err != nil {
		return netip.AddrPort{}, fault.Wrap(fault.Invalid, err, "gossip listener")
	}
	packets, err := netip.ParseAddrPort(cfg.Packets.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}, fault.Wrap(fault.Invalid, err, "gossip packets")
	}
	if stream.Port() != packets.Port() {
		return netip.AddrPort{}, fault.New(fault.Invalid, "gossip listens for streams on port %d and for packets on port %d; they must be one",
			stream.Port(), packets.Port())
	}
	at := cfg.Advertise
	if !at.IsValid() {
		at = stream
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if at.Addr().IsUnspecified() || at.Port() == 0 {
		return netip.AddrPort{}, fault.New(fault.Invalid, "gossip listens on %s, which others cannot dial", at).
			WithFix("say with Advertise which address they reach it at")
	}
	return at, nil
}

// Members yields the relays that gossip knows to be alive and the catalog admits, this one included, sorted by name.
// Some may be Held or Draining: see Member.State.
func (g *Gossip) Members() iter.Seq[Member] {
	return g.those(func(m *Member) bool { return g.offered(m) })
}

// Strangers yields the members that are alive but not admitted, or whose word cannot be trusted: for diagnosis only.
func (g *Gossip) Strangers() iter.Seq[Member] {
	return g.those(func(m *Member) bool { return !g.offered(m) })
}

func (g *Gossip) those(want func(*Member) bool) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		members := g.view.Load().members
		for i := range members {
			if want(&members[i]) && !yield(members[i]) {
				return
			}
		}
	}
}

// offered tells whether a member is this relay, or admitted and trusted. The catalog is asked every time, so that a
// revocation counts at once.
func (g *Gossip) offered(m *Member) bool {
	return m.Name == g.cfg.Name || m.Problem == "" && g.cfg.Admitted(m.Name)
}

// Alive tells whether to rely on a relay now: it is admitted, alive, not draining, and not one that failed and came
// back a moment ago.
func (g *Gossip) Alive(name string) bool {
	members := g.view.Load().members
	i, found := slices.BinarySearchFunc(members, name, byName)
	return found && members[i].State == Alive && g.offered(&members[i])
}

// Changed returns a channel that is closed when gossip learns something new. To miss nothing, call it before Members,
// and again after it was closed. What the catalog admits is not gossip's news.
func (g *Gossip) Changed() <-chan struct{} { return g.view.Load().changed }

// Update replaces what this relay says of itself. It is told to the others at most once in Profile.UpdateInterval, the
// latest word only. A Meta that does not fit is fault.Invalid.
func (g *Gossip) Update(m Meta) error {
	if m == g.said.Load().meta {
		return nil
	}
	return g.state(m)
}

// state signs and encodes m and has it told.
func (g *Gossip) state(m Meta) error {
	m.Draining = m.Draining || g.leaving.Load()
	body, err := m.encode()
	if err != nil {
		return err
	}
	var signature []byte
	if g.cfg.Sign != nil {
		if signature, err = g.cfg.Sign(signedMessage(g.cfg.Cluster, g.cfg.Name, body)); err != nil {
			return fault.Wrap(fault.Internal, err, "signing this relay's gossip")
		}
	}
	encoded, err := seal(body, signature)
	if err != nil {
		return err
	}
	g.said.Store(&statement{m, encoded})
	poke(g.unsaid)
	g.table.touch()
	return nil
}

// self is how this relay appears among the members.
func (g *Gossip) self() Member {
	return Member{Name: g.cfg.Name, Addr: g.advertise, Meta: g.said.Load().meta, State: Alive}
}

// poke puts a token into a channel of one slot, unless one is there.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
