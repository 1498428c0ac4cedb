package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Config is what a Book needs.
type Config struct {
	Relay   catalog.RelayName          // the relay that gives the addresses
	Catalog func() *catalog.Catalog    // the current one; never nil
	Live    func() []catalog.RelayName // relays that are held for alive and give addresses; nil, or a nil result: all of them
	Serves  func() bool                // whether this relay gives addresses, as the others are told; nil: it does
	Path    string                     // file that keeps the leases over a restart; "" keeps them in memory alone
	FS      durable.FS                 // where the file is; the zero value is the machine's own
	Log     *slog.Logger
}

// Book keeps the leases of one relay in all networks that it serves. Its methods may be called by any number of
// goroutines and never wait for the disk; only Run writes.
type Book struct {
	cfg   Config
	dirty chan struct{} // one token: there is something to write

	mu      sync.Mutex
	catalog *catalog.Catalog // that the pools were last held against
	looked  time.Time        // when they were
	serves  bool             // whether this relay gave addresses then
	started time.Time        // when they first were
	pools   map[catalog.NetworkName]*pool
	record  record // what the last run left
	fresh   bool   // there was no file: this relay never served before
	problem string // why the file cannot be written; "" if it can
}

// New reads the file, if there is one. A file that is damaged is as good as none of its leases: it is reported, and
// the relay waits until every lease has ended that it could have held. Nothing runs before Run.
func New(cfg Config) (*Book, error) {
	b := &Book{cfg: cfg, dirty: make(chan struct{}, 1), pools: map[catalog.NetworkName]*pool{}}
	if cfg.Path == "" {
		b.fresh = true
		return b, nil
	}
	data, err := os.ReadFile(cfg.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		b.fresh = true
		return b, nil
	case err != nil:
		return nil, err
	}
	if b.record, err = decode(data, cfg.Relay); err != nil {
		cfg.Log.Error("the leases of the last run are lost", "relay", cfg.Relay, "file", cfg.Path, "err", err)
	}
	return b, nil
}

// Offer reserves an address of the network's pool for the machine, if it can the one that it wishes (which may be
// the zero Addr). It fails with fault.Full when all are in use, with fault.Unavailable while this relay may give
// none, and with fault.NotFound if it does not serve the network.
func (b *Book) Offer(network catalog.NetworkName, hw catalog.HardwareAddr, wish netip.Addr) (netip.Addr, error) {
	w := b.world()
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.pool(w, network)
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := p.offer(w.now, hw, wish)
	b.settle(p)
	return a, err
}

// Confirm grants the address to the machine for Lease. It fails with fault.Unavailable while the lease is not on
// disk yet (ask again after some milliseconds), with fault.Conflict if the machine must not use the address, and
// with fault.NotFound if another relay has to say.
func (b *Book) Confirm(network catalog.NetworkName, hw catalog.HardwareAddr, at netip.Addr) error {
	w := b.world()
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.pool(w, network)
	if err != nil {
		return err
	}
	defer b.settle(p)
	return p.confirm(w.now, hw, at)
}

// Forget ends an offer that the machine did not take.
func (b *Book) Forget(network catalog.NetworkName, hw catalog.HardwareAddr) {
	b.change(network, func(_ time.Time, p *pool) { p.forget(hw) })
}

// Release ends a lease at the machine's wish.
func (b *Book) Release(network catalog.NetworkName, hw catalog.HardwareAddr, at netip.Addr) {
	b.change(network, func(now time.Time, p *pool) { p.release(now, hw, at) })
}

// Decline takes an address out of use for an hour that the machine was given and found taken by somebody else. It
// tells whether it did: the address of another machine is left alone.
func (b *Book) Decline(network catalog.NetworkName, hw catalog.HardwareAddr, at netip.Addr) bool {
	done := false
	b.change(network, func(now time.Time, p *pool) { done = p.decline(now, hw, at) })
	return done
}

func (b *Book) change(network catalog.NetworkName, f func(time.Time, *pool)) {
	w := b.world()
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, err := b.pool(w, network); err == nil {
		f(w.now, p)
		b.settle(p)
	}
}

// Problems says what a person should know, one line each.
func (b *Book) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var lines []string
	for name, p := range b.pools {
		if now.Before(p.usableFrom) && p.rng.First.IsValid() {
			lines = append(lines, fmt.Sprintf("unknown machines in network %s get no address from this relay before %s: others may have leased them",
				name, p.usableFrom.UTC().Format(time.TimeOnly)))
		}
		if now.Before(p.fullUntil) {
			lines = append(lines, "the pool of network "+string(name)+" is used up: unknown machines get no address")
		}
	}
	slices.Sort(lines)
	if b.problem != "" {
		lines = append(lines, b.problem)
	}
	return lines
}

// world is what is true outside of the book at one moment.
type world struct {
	now     time.Time
	catalog *catalog.Catalog
	live    []catalog.RelayName // nil: all
	serves  bool
}

// world asks for it, with no lock held.
func (b *Book) world() world {
	w := world{now: time.Now(), catalog: b.cfg.Catalog(), serves: b.cfg.Serves == nil || b.cfg.Serves()}
	if b.cfg.Live != nil {
		w.live = b.cfg.Live()
	}
	return w
}

// pool returns the network's pool, held against what is true now. b.mu is held.
func (b *Book) pool(w world, network catalog.NetworkName) (*pool, error) {
	// Two callers may have asked for the world in another order than they come here: never go back.
	if b.catalog == nil || w.catalog.Revision > b.catalog.Revision || w.serves != b.serves || w.now.Sub(b.looked) >= time.Second {
		b.look(w)
	}
	p := b.pools[network]
	if p == nil {
		return nil, fault.New(fault.NotFound, "relay %s does not serve network %s", b.cfg.Relay, network)
	}
	return p, nil
}

// look holds all pools against the catalog and the members that are alive. b.mu is held.
func (b *Book) look(w world) {
	now, c := w.now, w.catalog
	b.catalog, b.looked, b.serves = c, now, w.serves
	if !w.serves {
		b.rest(now)
		return
	}
	if b.started.IsZero() {
		b.started = now
	}
	var serves []catalog.NetworkName
	if self, ok := c.Relay(b.cfg.Relay); ok {
		serves = self.Networks
	}
	for name := range b.pools {
		if !slices.Contains(serves, name) {
			delete(b.pools, name)
		}
	}
	for _, name := range serves {
		n, ok := c.Network(name)
		if !ok {
			continue
		}
		peers := peersOf(c, name, w.live)
		p := b.pools[name]
		if p == nil {
			p = newPool(name, b.cfg.Relay)
			if b.cfg.Path == "" {
				p.saved = math.MaxInt64 // there is no disk to wait for
			}
			p.begin(now, peers, b.past(now, name))
			b.pools[name] = p
		}
		p.observe(now, n.Pool, peers, reservedIn(c, n))
		b.restore(now, p)
	}
	if len(serves) > 0 {
		b.fresh = false // what it is to serve later on, others may have served before
	}
}

// rest ends the run of a relay that goes on without giving addresses: the others inherit from it as if it had died, and
// should it give some again, that is its next run. b.mu is held.
func (b *Book) rest(now time.Time) {
	if len(b.pools) == 0 {
		return
	}
	b.record = *snapshot(b.cfg.Relay, now, b.alive(now), b.pools)
	b.started = time.Time{}
	clear(b.pools)
}

// past is what is known of the last run in the network. b.mu is held.
func (b *Book) past(now time.Time, network catalog.NetworkName) past {
	n, known := b.record.network(network)
	away := max(0, now.Sub(b.record.Alive))
	if b.record.Alive.Sub(now) > Grace {
		away = hold // the clock has gone back, so nothing tells for how long
	}
	last := past{known: known, first: b.fresh, away: away, usableFrom: n.UsableFrom, present: map[catalog.RelayName]time.Time{}}
	for _, r := range n.Present {
		last.present[r.Name] = r.Seen
	}
	return last
}

// alive is when the other relays surely held this one for alive: now, once it has been up for as long as they take
// to notice, and until then what the last run knew. b.mu is held.
func (b *Book) alive(now time.Time) time.Time {
	if !b.started.IsZero() && now.Sub(b.started) >= Grace {
		return now
	}
	return b.record.Alive
}

// restore puts the leases of the last run into a pool that has just been made. b.mu is held.
func (b *Book) restore(now time.Time, p *pool) {
	n, ok := b.record.network(p.network)
	if !ok {
		return
	}
	b.record.Networks = slices.DeleteFunc(b.record.Networks, func(m networkRecord) bool { return m.Name == p.network })
	// A renewal is not written by itself, so any lease may have been renewed until the next write would have come.
	ends := b.record.Written.Add(stampEvery + Grace + Lease)
	for _, l := range n.Leases {
		if l.Address.Is4() && p.rng.Contains(l.Address) && p.bound[l.Hardware] == nil && p.byAddr[number(l.Address)] == nil {
			p.bind(l.Hardware, number(l.Address), later(l.Until, ends)).taken = true
		}
	}
	for _, q := range n.Quarantined {
		if q.Address.Is4() && now.Before(q.Until) && q.Until.Before(now.Add(2*quarantine)) {
			p.quarantined[number(q.Address)] = q.Until
			p.moved(number(q.Address), time.Time{})
		}
	}
	p.saved = max(p.saved, p.seq)
}

// settle asks for the disk where the pool has something new. b.mu is held.
func (b *Book) settle(p *pool) {
	if p.saved < p.seq {
		select {
		case b.dirty <- struct{}{}:
		default:
		}
	}
}

// Run writes the leases to the file until ctx ends, and once more then. A file that cannot be written is reported
// by Problems and tried again; until then no new lease is granted.
func (b *Book) Run(ctx context.Context) error {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	stamped := time.Time{}
	for {
		write := false
		select {
		case <-ctx.Done():
			_ = b.write() // what could not be written was said, and is no reason for a relay not to end well
			return nil
		case <-b.dirty:
			write = true
		case <-look.C:
			w := b.world()
			b.mu.Lock()
			b.look(w)
			write = len(b.pools) > 0 && time.Since(stamped) >= stampEvery
			b.mu.Unlock()
		}
		if !write || b.cfg.Path == "" {
			continue
		}
		start := time.Now()
		if err := b.write(); err == nil {
			stamped = start
		}
		// A storm of unknown machines is written in few large steps, and the disk rests most of the time.
		rest := time.NewTimer(max(5*time.Millisecond, 3*time.Since(start)))
		select {
		case <-ctx.Done():
		case <-rest.C:
		}
		rest.Stop()
	}
}

// write makes everything durable that was there when it began.
func (b *Book) write() error {
	if b.cfg.Path == "" {
		return nil
	}
	b.mu.Lock()
	if len(b.pools) == 0 { // the catalog has not come yet, and the file knows more than we
		b.mu.Unlock()
		return nil
	}
	now := time.Now()
	kept := snapshot(b.cfg.Relay, now, b.alive(now), b.pools)
	upTo := make(map[*pool]int64, len(b.pools))
	for _, p := range b.pools {
		upTo[p] = p.seq
	}
	b.mu.Unlock()
	err := b.cfg.FS.WriteFile(b.cfg.Path, kept.encode(), 0o600)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if b.problem == "" {
			b.cfg.Log.Error("leases cannot be written, so unknown machines get no new ones", "relay", b.cfg.Relay, "err", err)
		}
		b.problem = "leases cannot be written, so unknown machines get no new ones: " + strings.TrimSpace(err.Error())
		return err
	}
	b.problem = ""
	for p, seq := range upTo {
		p.saved = max(p.saved, seq)
	}
	return nil
}

// peersOf lists the relays that serve the network.
func peersOf(c *catalog.Catalog, network catalog.NetworkName, live []catalog.RelayName) []peer {
	var peers []peer
	for r := range c.Relays() {
		if slices.Contains(r.Networks, network) {
			peers = append(peers, peer{r.Name, r.Joined, live == nil || slices.Contains(live, r.Name)})
		}
	}
	return peers
}

// reservedIn tells which addresses of the network are somebody's: a node's, the network's own machinery's, a relay's.
func reservedIn(c *catalog.Catalog, n *catalog.Network) func(netip.Addr) bool {
	own := []netip.Addr{n.Gateway}
	own = append(append(own, n.DNS...), n.NTP...)
	for r := range c.Relays() {
		own = append(own, r.Addresses...)
	}
	if n.Prefix.Bits() < 31 {
		size := uint32(1) << (32 - n.Prefix.Bits())
		base := number(n.Prefix.Masked().Addr())
		own = append(own, addr(base), addr(base+size-1))
	}
	own = slices.DeleteFunc(own, func(a netip.Addr) bool { return !n.Prefix.Contains(a) })
	return func(a netip.Addr) bool {
		if slices.Contains(own, a) {
			return true
		}
		_, declared := c.NodeByAddress(a)
		return declared
	}
}
