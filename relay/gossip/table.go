package gossip

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// State says how far to rely on a member.
type State string

// The states of a member. One that is dead or left is no member.
const (
	Alive    State = "alive"
	Held     State = "held"     // it failed and is back, but not yet long enough
	Draining State = "draining" // it is about to leave
)

// Member is a relay as gossip sees it.
type Member struct {
	Name    string
	Addr    netip.AddrPort // of its gossip
	Meta    Meta           // zero when there is a Problem
	State   State
	Since   time.Time // when it was found, or came back; zero for this relay itself
	Problem string    // why what it says cannot be used; "" normally
}

// view is an immutable state of affairs.
type view struct {
	members []Member // everybody alive, sorted by name
	changed chan struct{}
}

func byName(m Member, name string) int { return strings.Compare(m.Name, name) }

const (
	maxStrangers = 128 // unadmitted members that are remembered
	maxFlaps     = 4   // after so many failures in a row the hold-down no longer grows
	calm         = 10  // a member that stayed for so many hold-downs starts afresh
)

// table is what memberlist reported, by name. memberlist calls its methods with a lock of its own held: they neither
// block nor call back.
type table struct {
	self     string
	profile  Profile
	admitted func(string) bool
	changed  chan struct{} // one slot

	mu   sync.Mutex
	seen map[string]*sighting
}

// sighting is the history of one member.
type sighting struct {
	addr  netip.AddrPort
	meta  []byte
	up    bool
	since time.Time // of being up, or away
	flaps int       // failures in a row
	held  time.Time // until when Alive does not offer it
}

func newTable(self string, p Profile, admitted func(string) bool) *table {
	return &table{self: self, profile: p, admitted: admitted, changed: make(chan struct{}, 1), seen: map[string]*sighting{}}
}

// touch has the view built anew.
func (t *table) touch() { poke(t.changed) }

// NotifyAlive refuses members that are not worth remembering: see memberlist.AliveDelegate.
func (t *table) NotifyAlive(n *memberlist.Node) error {
	if err := checkName(n.Name); err != nil {
		return err
	}
	if _, ok := netip.AddrFromSlice(n.Addr); !ok || len(n.Meta) > memberlist.MetaMaxSize {
		return fault.New(fault.Invalid, "no usable address or too much to say")
	}
	if n.Name == t.self || t.admitted(n.Name) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[n.Name] != nil {
		return nil
	}
	strangers := 0
	for name := range t.seen {
		if !t.admitted(name) {
			strangers++
		}
	}
	if strangers >= maxStrangers {
		return fault.New(fault.Full, "not admitted, and %d other strangers are here", strangers)
	}
	return nil
}

// NotifyJoin, NotifyUpdate and NotifyLeave are memberlist.EventDelegate's.
func (t *table) NotifyJoin(n *memberlist.Node) {
	t.record(n, func(s *sighting, now time.Time) { s.rise(now, t.profile.HoldDown) })
}

// NotifyUpdate takes a member's new words.
func (t *table) NotifyUpdate(n *memberlist.Node) { t.record(n, func(*sighting, time.Time) {}) }

// NotifyLeave notes a death or a departure. memberlist does not say which; a relay that departs says so before.
func (t *table) NotifyLeave(n *memberlist.Node) {
	t.record(n, func(s *sighting, now time.Time) { s.fall(now, draining(n.Meta), t.profile.HoldDown) })
}

func (t *table) record(n *memberlist.Node, change func(*sighting, time.Time)) {
	if n.Name == t.self {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.seen[n.Name]
	if s == nil {
		s = &sighting{}
		t.seen[n.Name] = s
	}
	ip, _ := netip.AddrFromSlice(n.Addr)
	s.addr, s.meta = netip.AddrPortFrom(ip.Unmap(), n.Port), slices.Clone(n.Meta)
	change(s, time.Now())
	t.touch()
}

// rise notes that the member is up. One that had failed is held down first.
func (s *sighting) rise(now time.Time, holdDown time.Duration) {
	s.up, s.since, s.held = true, now, time.Time{}
	if s.flaps > 0 {
		s.held = now.Add(holdDown << (min(s.flaps, maxFlaps) - 1))
	}
}

// fall notes that the member is away: it departed on purpose, or failed. Each failure soon after the last doubles the
// next hold-down.
func (s *sighting) fall(now time.Time, departed bool, holdDown time.Duration) {
	if departed || now.Sub(s.since) > calm*holdDown {
		s.flaps = 0
	}
	if !departed {
		s.flaps++
	}
	s.up, s.since, s.held = false, now, time.Time{}
}

// state is what to make of a member that is up, and when that changes by itself.
func (s *sighting) state(m Meta, now time.Time) (State, time.Time) {
	switch {
	case m.Draining:
		return Draining, time.Time{}
	case now.Before(s.held):
		return Held, s.held
	}
	return Alive, time.Time{}
}

func draining(sealed []byte) bool {
	body, _, err := unseal(sealed)
	if err != nil {
		return false
	}
	m, err := parseMeta(body)
	return err == nil && m.Draining
}

// copy returns all sightings and forgets those that have been away for long.
func (t *table) copy(now time.Time) map[string]sighting {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.seen, func(_ string, s *sighting) bool { return !s.up && now.Sub(s.since) > t.profile.Forget })
	all := make(map[string]sighting, len(t.seen))
	for name, s := range t.seen {
		all[name] = *s
	}
	return all
}

// here tells where the members that are up have their gossip.
func (t *table) here() map[netip.AddrPort]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	addrs := map[netip.AddrPort]bool{}
	for _, s := range t.seen {
		if s.up {
			addrs[s.addr] = true
		}
	}
	return addrs
}

// observer turns sightings into views. One goroutine uses it.
type observer struct {
	g    *Gossip
	read map[string]reading
}

// reading is a sealed Meta and what it turned out to say.
type reading struct {
	sealed  string
	meta    Meta
	problem string
}

// look publishes a new view if there is something new, and returns when to look again at the latest; zero is when
// something happens.
func (o *observer) look(now time.Time) (again time.Time) {
	seen := o.g.table.copy(now)
	maps.DeleteFunc(o.read, func(name string, _ reading) bool { _, ok := seen[name]; return !ok })
	members := []Member{o.g.self()}
	for name, s := range seen {
		if !s.up {
			again = sooner(again, s.since.Add(o.g.cfg.Profile.Forget+time.Second))
			continue
		}
		r := o.interpret(name, s.meta)
		state, until := s.state(r.meta, now)
		again = sooner(again, until)
		members = append(members, Member{Name: name, Addr: s.addr, Meta: r.meta, State: state, Since: s.since, Problem: r.problem})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	old := o.g.view.Load()
	if !slices.Equal(members, old.members) {
		o.g.view.Store(&view{members: members, changed: make(chan struct{})})
		close(old.changed)
	}
	return again
}

// interpret reads and verifies a member's words, once.
func (o *observer) interpret(name string, sealed []byte) reading {
	old, known := o.read[name]
	if known && old.sealed == string(sealed) {
		return old
	}
	r := reading{sealed: string(sealed)}
	body, signature, err := unseal(sealed)
	if err == nil && o.g.cfg.Verify != nil {
		err = o.g.cfg.Verify(name, signedMessage(o.g.cfg.Cluster, name, body), signature)
	}
	if err == nil {
		r.meta, err = parseMeta(body)
	}
	if err != nil {
		r.meta, r.problem = Meta{}, err.Error()
		if old.problem == "" { // once, however much nonsense follows
			o.g.log.Warn("what a relay gossips cannot be used", "relay", name, "err", err)
		}
	}
	o.read[name] = r
	return r
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
