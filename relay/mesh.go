package relay

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/tree"
	"github.com/wulfmesh/wulfmesh/relay/cache"
	"github.com/wulfmesh/wulfmesh/relay/feed"
	"github.com/wulfmesh/wulfmesh/relay/gossip"
)

// mesh is this relay's view of the others. Gossip needs a key, which the first contact with a controller brings; until
// it runs, nobody is known to be alive, and nobody to be dead.
type mesh struct {
	cfg      Config
	settings Settings
	feed     *feed.Feed
	unwell   func() bool // whether this relay steps back
	serves   func() bool // whether it serves DHCP
	started  time.Time
	gossip   atomic.Pointer[gossip.Gossip]
	known    atomic.Pointer[liveRelays] // what live said last, and so on
	well     atomic.Pointer[liveRelays]
	answer   atomic.Pointer[liveRelays]
	lease    atomic.Pointer[liveRelays]
}

// strangeTime is for how long a relay that has met no other takes those that are admitted for alive.
const strangeTime = 20 * time.Second

// liveRelays are those that were alive while gossip and catalog were as they are here.
type liveRelays struct {
	changed <-chan struct{}
	catalog *catalog.Catalog
	names   []catalog.RelayName
}

// run takes part in the gossip as soon as there is a key.
func (m *mesh) run(ctx context.Context) error {
	defer m.cfg.Gossip.Close()
	defer m.cfg.GossipPackets.Close()
	for {
		changed := m.feed.SecretsChanged()
		if len(m.feed.Secrets().Gossip.Reveal()) > 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	g, err := gossip.New(gossip.Config{
		Name: string(m.settings.Name), Cluster: m.settings.Cluster, Keys: [][]byte{m.feed.Secrets().Gossip.Reveal()},
		Listener: m.cfg.Gossip, Packets: m.cfg.GossipPackets, Dial: m.cfg.Dial,
		Advertise: netip.AddrPortFrom(m.settings.Advertise, m.settings.GossipPort),
		Seeds:     m.seeds, Admitted: m.admitted, Meta: m.meta(), Profile: m.cfg.GossipProfile, Logger: m.cfg.Log,
	})
	if err != nil {
		return err
	}
	m.gossip.Store(g)
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { m.tell(ctx, g) })
	defer telling.Wait()
	defer cancel()
	return g.Run(ctx)
}

// tell has gossip say what changes about this relay, and use the key that the controllers give.
func (m *mesh) tell(ctx context.Context, g *gossip.Gossip) {
	for {
		catalogChanged, keysChanged := m.feed.Changed(), m.feed.SecretsChanged()
		if err := g.Update(m.meta()); err != nil {
			m.cfg.Log.Error("gossip cannot say what this relay is", "relay", m.settings.Name, "err", err)
		}
		if key := m.feed.Secrets().Gossip.Reveal(); len(key) > 0 {
			if err := g.SetKeys([][]byte{key}); err != nil {
				m.cfg.Log.Error("the gossip key cannot be used", "relay", m.settings.Name, "err", err)
			}
		}
		look := time.NewTimer(lookEvery)
		select {
		case <-catalogChanged:
		case <-keysChanged:
		case <-look.C:
		case <-ctx.Done():
		}
		look.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (m *mesh) meta() gossip.Meta {
	c := m.feed.Catalog()
	meta := gossip.Meta{
		Role: "relay", Revision: uint64(c.Revision), Unwell: m.unwell(), NoDHCP: !m.serves(),
		Mesh: netip.AddrPortFrom(m.settings.Advertise, m.settings.MeshPort), Boot: netip.AddrPortFrom(m.settings.Addresses[0], m.settings.BootPort),
	}
	if r, ok := c.Relay(m.settings.Name); ok {
		meta.Rack, meta.Zone = r.Rack, r.Zone
	}
	return meta
}

func (m *mesh) seeds() []string {
	var all []string
	for r := range m.feed.Catalog().Relays() {
		all = append(all, r.Gossip)
	}
	return all
}

func (m *mesh) admitted(name string) bool {
	_, ok := m.feed.Catalog().Relay(catalog.RelayName(name))
	return ok
}

// live lists the relays that are alive, this one first; nil while that is not known.
func (m *mesh) live() []catalog.RelayName {
	return m.list(&m.known, true, func(r gossip.Member) bool { return r.State == gossip.Alive })
}

// list lists the other relays that are wanted, and perhaps this one before them; nil while nothing is known of anybody. It is asked for every packet
// of DHCP, so a list is made when something changes, and nobody may change it.
func (m *mesh) list(last *atomic.Pointer[liveRelays], self bool, want func(gossip.Member) bool) []catalog.RelayName {
	g := m.gossip.Load()
	if g == nil {
		return nil
	}
	changed, c := g.Changed(), m.feed.Catalog()
	known := last.Load()
	if known != nil && known.changed == changed && known.catalog == c {
		return known.names
	}
	names := []catalog.RelayName{}
	if self {
		names = append(names, m.settings.Name)
	}
	for member := range g.Members() {
		if name := catalog.RelayName(member.Name); name != m.settings.Name && want(member) {
			names = append(names, name)
		}
	}
	if known != nil && slices.Equal(known.names, names) {
		names = known.names // whoever holds the last one sees at a glance that it is the same
	}
	last.Store(&liveRelays{changed, c, names})
	return names
}

// size is how many relays share what controllers can take: all that are admitted. How many this one hears says less: where
// gossip is cut between racks, each hears a few and controllers hear all.
func (m *mesh) size() int {
	return max(len(m.live()), len(slices.Collect(m.feed.Catalog().Relays())))
}

// preferred lists the other relays that a machine should be served by: those that are alive and well. It is nil while
// nothing is known of anybody.
func (m *mesh) preferred() []catalog.RelayName { return m.list(&m.well, false, well) }

func well(r gossip.Member) bool { return r.State == gossip.Alive && !r.Meta.Unwell }

// answering lists those of preferred that serve DHCP, which alone are waited for there.
func (m *mesh) answering() []catalog.RelayName {
	return m.list(&m.answer, false, func(r gossip.Member) bool { return well(r) && !r.Meta.NoDHCP })
}

// leasing lists the relays that may lease addresses, this one among them: also those on which nobody should rely just now.
func (m *mesh) leasing() []catalog.RelayName {
	return m.list(&m.lease, true, func(r gossip.Member) bool { return !r.Meta.NoDHCP })
}

// peers lists the admitted relays, for the trees by which chunks spread. Where they are the catalog says: an address
// that came by gossip could be anybody's.
func (m *mesh) peers() []cache.Peer {
	names := m.live()
	// Who has just started knows of nobody yet. It asks its neighbours all the same: they are there, more likely than not.
	strange := len(names) < 2 && time.Since(m.started) < strangeTime
	live := map[catalog.RelayName]bool{}
	for _, name := range names {
		live[name] = true
	}
	var peers []cache.Peer
	for r := range m.feed.Catalog().Relays() {
		peers = append(peers, cache.Peer{
			Relay: tree.Relay{Name: string(r.Name), Rack: r.Rack, Zone: r.Zone, Follows: string(r.Follows), Down: !strange && !live[r.Name]}, Mesh: r.Mesh,
		})
	}
	return peers
}
