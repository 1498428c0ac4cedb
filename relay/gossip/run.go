package gossip

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	seedsAtOnce  = 3                     // tried in one round
	firstRetry   = time.Second           // after a round that found nobody; doubles
	slowestRetry = 5 * time.Second       // while this relay is alone
	sayTimeout   = 2 * time.Second       // for an update to be passed to anybody
	perMember    = 20 * time.Millisecond // between two words of a relay of its revision: all have a new one at the same time
	reclaim      = 5 * time.Second       // for which the name of a dead relay belongs to its old address
)

// Run takes part in the gossip until ctx ends, then says good-bye, which takes a few seconds, and returns nil.
// It keeps trying the seeds that are not members, so that a relay that started alone, or a mesh that was split,
// joins as soon as it can. It returns an error when it cannot start or a listener fails. Run may be called once; it
// closes Listener and Packets.
func (g *Gossip) Run(ctx context.Context) error {
	t := newTransport(g.cfg, g.advertise)
	t.start()
	told := g.said.Load().meta
	m, err := memberlist.Create(g.memberlistConfig(t))
	if err != nil {
		t.Shutdown()
		return fault.Wrap(fault.Internal, err, "starting gossip")
	}
	g.log.Info("gossip started", "relay", g.cfg.Name, "addr", g.advertise)

	live, cancel := context.WithCancel(ctx)
	defer cancel()
	var telling, rest sync.WaitGroup
	telling.Go(func() { g.tell(live, m, told) })
	rest.Go(func() { g.join(live, m) })
	rest.Go(func() { g.observe(live) })

	select {
	case <-ctx.Done():
	case err = <-t.failed:
	}
	cancel()
	t.hangUp()
	telling.Wait() // memberlist's UpdateNode is not made for two callers
	g.leave(m)
	m.Shutdown() // always nil
	rest.Wait()
	// A probe under way cannot be cancelled and ends only when its time is over, which grows with the health score.
	time.Sleep(g.cfg.Profile.ProbeInterval * time.Duration(1+m.GetHealthScore()))
	return err
}

func (g *Gossip) memberlistConfig(t *transport) *memberlist.Config {
	p := g.cfg.Profile
	c := memberlist.DefaultLANConfig()
	c.Name = g.cfg.Name
	c.Label = g.cfg.Cluster
	c.Keyring = g.ring
	c.Transport = t
	c.BindAddr, c.BindPort = g.advertise.Addr().String(), int(g.advertise.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Delegate, c.Events, c.Alive = voice{g}, g.table, g.table
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = p.ProbeInterval, p.ProbeTimeout, p.SuspicionMult
	c.GossipInterval, c.PushPullInterval, c.TCPTimeout = p.GossipInterval, p.PushPull, p.Stream
	c.DeadNodeReclaimTime = reclaim // a relay that died may come back with another address
	c.EnableCompression = false     // what is said is small, and LZW is one parser more
	c.Logger = newLogger(g.log)
	for _, a := range g.cfg.Allowed {
		c.CIDRsAllowed = append(c.CIDRsAllowed, net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())})
	}
	return c
}

// tell passes on what this relay says of itself since it was told, at the pace of the profile.
func (g *Gossip) tell(ctx context.Context, m *memberlist.Memberlist, told Meta) {
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.unsaid:
		}
		next := time.Now()
		if rest := g.rest(m.NumMembers(), told); rest > g.cfg.Profile.UpdateInterval {
			next = next.Add(max(rand.N(rest), time.Until(last.Add(rest)))) // the others have something to say, too
		}
		for g.rest(m.NumMembers(), told) > 0 && time.Now().Before(next) {
			select {
			case <-ctx.Done():
				return
			case <-g.unsaid:
			case <-time.After(time.Until(next)):
			}
		}
		told, last = g.said.Load().meta, time.Now()
		if err := m.UpdateNode(sayTimeout); err != nil {
			g.log.Debug("telling the others took too long; they learn it with the next exchange", "relay", g.cfg.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(g.cfg.Profile.UpdateInterval):
		}
	}
}

// rest is how long this relay should be quiet between two words, where no more has changed than the revision that it has.
// Those of all would keep the news waiting that somebody has died. It is zero where more has changed.
func (g *Gossip) rest(members int, told Meta) time.Duration {
	said := g.said.Load().meta
	if told.Revision = said.Revision; told != said {
		return 0
	}
	return time.Duration(members) * perMember
}

// join tries seeds for as long as gossip runs.
func (g *Gossip) join(ctx context.Context, m *memberlist.Memberlist) {
	retry := firstRetry
	for {
		if addrs := g.missing(); len(addrs) > 0 {
			if n, err := m.Join(addrs); n == 0 && ctx.Err() == nil {
				g.log.Debug("no seed answers", "relay", g.cfg.Name, "seeds", addrs, "err", err)
			}
		}
		wait := g.cfg.Profile.Rejoin
		if len(g.table.here()) == 0 {
			wait = min(wait, retry)
			retry = min(2*retry, slowestRetry)
		} else {
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait*9/10 + rand.N(wait/5)): // so that relays that started together do not stay in step
		}
	}
}

// missing returns a few seeds, by chance, that are not members.
func (g *Gossip) missing() []string {
	here := g.table.here()
	here[g.advertise] = true
	var away []string
	for _, s := range g.cfg.Seeds() {
		// Names are not looked up: memberlist would ask DNS behind the back of Dial.
		if a, err := netip.ParseAddrPort(s); err == nil && !here[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())] {
			away = append(away, a.String())
		}
	}
	rand.Shuffle(len(away), func(i, j int) { away[i], away[j] = away[j], away[i] })
	return away[:min(len(away), seedsAtOnce)]
}

// observe publishes views for as long as gossip runs.
func (g *Gossip) observe(ctx context.Context) {
	o := &observer{g: g, read: map[string]reading{}}
	for {
		again := o.look(time.Now())
		var alarm <-chan time.Time
		if !again.IsZero() {
			alarm = time.After(time.Until(again))
		}
		select {
		case <-ctx.Done():
			return
		case <-g.table.changed:
		case <-alarm:
		}
	}
}

// leave tells the others that this is no failure: first that it drains, which memberlist can carry, then that it is gone.
func (g *Gossip) leave(m *memberlist.Memberlist) {
	g.leaving.Store(true)
	if err := g.state(g.said.Load().meta); err == nil {
		if err := m.UpdateNode(sayTimeout); err != nil {
			g.log.Debug("nobody heard that this relay drains", "relay", g.cfg.Name, "err", err)
		}
	}
	if err := m.Leave(sayTimeout); err != nil {
		g.log.Debug("nobody heard this relay's good-bye", "relay", g.cfg.Name, "err", err)
	}
}

// voice is what memberlist asks for this relay's words. User messages are not used: memberlist does not pass them on.
type voice struct{ g *Gossip }

func (v voice) NodeMeta(int) []byte             { return v.g.said.Load().encoded }
func (voice) NotifyMsg([]byte)                  {}
func (voice) GetBroadcasts(int, int) [][]byte   { return nil }
func (voice) LocalState(bool) []byte            { return nil }
func (voice) MergeRemoteState(_ []byte, _ bool) {}
