package lease

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// pool is a network's pool as one relay sees it: a step function of the time, of what is known of the mesh, and of
// what machines ask. It holds at most one binding an address, so it is bounded by the pool's size.
type pool struct {
	network  catalog.NetworkName
	self     contender
	rng      catalog.Range
	reserved func(netip.Addr) bool // addresses that are somebody's already

	present    map[catalog.RelayName]time.Time // when each other relay was last held for alive; after hold it goes
	all        []contender                     // the other relays that serve the network
	usableFrom time.Time                       // until then others may still have leases in our share

	shareOf    []catalog.RelayName // the present and all relays that the share below was computed from
	share      []uint32            // the addresses that are ours to use
	homes      int                 // of those, the first that are ours whoever lives
	slots      map[uint32]*slot    // of all of them, by address
	homeTurns  turns               // those that are ours whoever lives, in the order in which they are given
	otherTurns turns               // the others

	bound       map[catalog.HardwareAddr]*binding
	byAddr      map[uint32]*binding
	quarantined map[uint32]time.Time // until when
	fullUntil   time.Time            // a machine was refused, and no address is free before that

	seq   int64 // counts the changes that have to be on disk
	saved int64 // up to which of them the disk has them
}

// binding ties an address to a machine. It stays after it has ended, so that the machine gets the address again,
// until another one needs it.
type binding struct {
	hw    catalog.HardwareAddr
	at    uint32
	until time.Time
	taken bool  // the machine asked for it, so it was more than an offer
	seq   int64 // of its making
}

func newPool(network catalog.NetworkName, self catalog.RelayName) *pool {
	return &pool{
		network:     network,
		self:        contend(self),
		present:     map[catalog.RelayName]time.Time{},
		bound:       map[catalog.HardwareAddr]*binding{},
		byAddr:      map[uint32]*binding{},
		quarantined: map[uint32]time.Time{},
	}
}

// past is what a pool knows of the relay's last run.
type past struct {
	known      bool          // the relay served the network then
	first      bool          // instead, it never served anything
	away       time.Duration // since the others last held it for alive
	usableFrom time.Time     // what it was waiting for
	present    map[catalog.RelayName]time.Time
}

// begin is the first step of a pool. It decides from when on this relay may use its share.
func (p *pool) begin(now time.Time, peers []peer, last past) {
	var self peer
	for name, seen := range last.present {
		if now.Sub(seen) < hold {
			p.present[name] = earlier(seen, now)
		}
	}
	for _, q := range peers {
		if q.name == p.self.name {
			self = q
		} else {
			// Nothing is known yet: everybody may be at work.
			p.present[q.name] = now
		}
	}
	switch {
	case last.known && (last.away < Lease || len(p.present) == 0):
		// The others hold us for alive for hold after they last saw us so, and left our share alone since then. But
		// what we were waiting for then, we have to wait for still.
		p.usableFrom = earlier(last.usableFrom, now.Add(hold))
	case last.first && len(p.present) == 0:
		// There is nobody else. (One who was removed a moment ago could still have leases; see the package comment.)
	case last.first && now.Sub(self.joined).Abs() < Lease && !slices.ContainsFunc(peers, func(q peer) bool { return q.joined.Before(self.joined) }):
		// We are the first relay that ever served here, and have not been away for as long as it takes to inherit
		// from us: nobody can have leased anything.
	default:
		p.usableFrom = now.Add(hold)
	}
}

// observe takes what is true of the mesh now: the pool, and the relays that serve the network, ourselves included.
func (p *pool) observe(now time.Time, rng catalog.Range, peers []peer, reserved func(netip.Addr) bool) {
	p.reserved = reserved
	var all []catalog.RelayName
	for _, q := range peers {
		if q.name == p.self.name {
			continue
		}
		all = append(all, q.name)
		if q.live {
			p.present[q.name] = now
		}
	}
	maps.DeleteFunc(p.present, func(_ catalog.RelayName, seen time.Time) bool { return !now.Before(seen.Add(hold)) })
	present := slices.Sorted(maps.Keys(p.present))
	slices.Sort(all)
	of := slices.Concat(present, []catalog.RelayName{""}, all)
	if rng == p.rng && slices.Equal(of, p.shareOf) {
		return
	}
	p.rng, p.shareOf, p.all = rng, of, contenders(all)
	p.divide(contenders(present))
}

func contenders(names []catalog.RelayName) []contender {
	cs := make([]contender, len(names))
	for i, n := range names {
		cs[i] = contend(n)
	}
	return cs
}

// divide computes our share anew, and forgets what lies outside of the pool.
func (p *pool) divide(present []contender) {
	p.share, p.homes, p.fullUntil = nil, 0, time.Time{}
	if p.rng.First.Is4() && p.rng.Last.Is4() && !p.rng.Last.Less(p.rng.First) {
		first, last := number(p.rng.First), number(p.rng.Last)
		p.share, p.homes = share(first, min(last, first+min(MaxPool-1, ^first)), p.self, present, p.all)
	}
	for _, b := range p.bound {
		if !p.rng.Contains(addr(b.at)) {
			p.drop(b)
		}
	}
	p.lineUp()
}

// offer reserves an address for the machine: the one that it had, or wishes, or another. The error is fault.Full
// when every address is in use, and fault.Unavailable while this relay may give none.
func (p *pool) offer(now time.Time, hw catalog.HardwareAddr, wish netip.Addr) (netip.Addr, error) {
	if now.Before(p.usableFrom) {
		return netip.Addr{}, fault.New(fault.Unavailable, "this relay gives no addresses of network %s before %s, because other relays may have leased them",
			p.network, p.usableFrom.UTC().Format(time.RFC3339))
	}
	if len(p.share) == 0 {
		return netip.Addr{}, fault.New(fault.Unavailable, "network %s has no address for unknown machines here", p.network).
			WithFix("declare the machine as a node, or give the network a pool")
	}
	if b := p.bound[hw]; b != nil {
		if p.usable(now, b.at) {
			p.extend(b, later(b.until, now.Add(offerHold)))
			return addr(b.at), nil
		}
		p.drop(b)
	}
	at, ok := uint32(0), false
	if wish.Is4() && p.free(now, number(wish)) {
		at, ok = number(wish), true
	} else {
		at, ok = p.find(now, contend(catalog.RelayName(hw)).score(0))
	}
	if !ok {
		return netip.Addr{}, fault.New(fault.Full, "every address that this relay may give in the pool of network %s is in use", p.network).
			WithFix("enlarge the pool: wulf network set %s --pool FIRST-LAST", p.network)
	}
	p.bind(hw, at, now.Add(offerHold))
	return addr(at), nil
}

// confirm grants the address that the machine asks for, or says why not: fault.Unavailable means that it is not on
// disk yet and will be soon, fault.Conflict that the machine must not use the address, and fault.NotFound that it is
// not for this relay to say.
func (p *pool) confirm(now time.Time, hw catalog.HardwareAddr, want netip.Addr) error {
	if p.reserved(want) {
		return fault.New(fault.Conflict, "%s is somebody else's", want)
	}
	if !p.rng.Contains(want) {
		// It may come from another server that the site knows of: beside a pool, only what is declared is ours.
		return fault.New(fault.NotFound, "%s is not in the pool of network %s", want, p.network)
	}
	at, b := number(want), p.bound[hw]
	switch {
	case !p.usable(now, at):
		if b != nil && b.at != at && !b.taken {
			p.drop(b) // it took what another relay offered
		}
		return fault.New(fault.NotFound, "%s is not in this relay's share", want)
	case b != nil && b.at != at:
		return fault.New(fault.Conflict, "%s has %s, not %s", hw, addr(b.at), want)
	case b == nil && !p.free(now, at):
		return fault.New(fault.Conflict, "%s is leased to %s", want, p.byAddr[at].hw)
	case b == nil:
		// It says that it has an address that is ours to give and that nobody has: we gave it, and lost the note.
		b = p.bind(hw, at, now)
	}
	p.extend(b, now.Add(Lease))
	b.taken = true
	if b.seq > p.saved {
		return fault.New(fault.Unavailable, "the lease of %s is not on disk yet", want)
	}
	return nil
}

// forget ends an offer that the machine did not take.
func (p *pool) forget(hw catalog.HardwareAddr) {
	if b := p.bound[hw]; b != nil && !b.taken {
		p.drop(b)
	}
}

// release ends a lease at the machine's wish. The address stays the machine's favourite.
func (p *pool) release(now time.Time, hw catalog.HardwareAddr, at netip.Addr) {
	if b := p.bound[hw]; b != nil && addr(b.at) == at {
		p.extend(b, now)
		p.fullUntil = time.Time{}
	}
}

// decline takes an address out of use that the machine found taken by somebody else. Only the machine that was given
// an address can do that, and at most a quarter of the share is out of use at a time: a machine that declines all
// there is cannot empty the pool.
func (p *pool) decline(now time.Time, hw catalog.HardwareAddr, at netip.Addr) bool {
	b := p.bound[hw]
	if b == nil || addr(b.at) != at {
		return false
	}
	p.drop(b)
	p.quarantined[b.at] = now.Add(quarantine)
	if len(p.quarantined) > len(p.share)/4+1 {
		first := slices.MinFunc(slices.Collect(maps.Keys(p.quarantined)), func(a, b uint32) int {
			return cmp.Or(p.quarantined[a].Compare(p.quarantined[b]), cmp.Compare(a, b))
		})
		delete(p.quarantined, first)
		p.moved(first, now) // somebody uses it: all others are tried before
	}
	p.moved(b.at, time.Time{})
	p.seq++ // to be written
	return true
}

// usable tells whether this relay may give the address to anybody.
func (p *pool) usable(now time.Time, at uint32) bool {
	if p.slots[at] == nil || now.Before(p.usableFrom) || p.reserved(addr(at)) {
		return false
	}
	until, bad := p.quarantined[at]
	if bad && !now.Before(until) {
		delete(p.quarantined, at)
		bad = false
	}
	return !bad
}

// free tells whether the address is usable and nobody's.
func (p *pool) free(now time.Time, at uint32) bool {
	b := p.byAddr[at]
	return p.usable(now, at) && (b == nil || !now.Before(b.until))
}

func (p *pool) bind(hw catalog.HardwareAddr, at uint32, until time.Time) *binding {
	if old := p.byAddr[at]; old != nil {
		p.drop(old)
	}
	p.seq++
	b := &binding{hw: hw, at: at, until: until, seq: p.seq}
	p.bound[hw], p.byAddr[at] = b, b
	p.moved(at, time.Time{})
	return b
}

// extend changes when a binding ends.
func (p *pool) extend(b *binding, until time.Time) {
	b.until = until
	p.moved(b.at, time.Time{})
}

func (p *pool) drop(b *binding) {
	delete(p.bound, b.hw)
	delete(p.byAddr, b.at)
	p.moved(b.at, time.Time{})
	p.fullUntil = time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
