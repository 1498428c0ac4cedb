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
	last     atomic.Pointer[view] // see view
}

// strangeTime is for how long a relay that has met no other takes those that are admitted for alive.
const strangeTime = 20 * time.Second

// view is what gossip said of the relays while it and the catalog were as they are here. Its lists are nil while nothing
// is known of anybody, and nobody may change them.
type view struct {
	changed <-chan struct{}
	catalog *catalog.Catalog

	live      []catalog.RelayName // that are alive, this one first
	preferred []catalog.RelayName // others that machines should be served by: those that are alive and well
	answering []catalog.RelayName // of preferred, those that serve DHCP, which alone are waited for there
	leasing   []catalog.RelayName // that may lease addresses, this one first: also those on which nobody should rely just now
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

// view is asked for every packet of DHCP, so it is made when something changes. A list that is as it was stays the same
// slice: whoever holds the last one sees that at a glance.
func (m *mesh) view() *view {
	g := m.gossip.Load()
	if g == nil {
		return new(view)
	}
	changed, c, last := g.Changed(), m.feed.Catalog(), m.last.Load()
	if last == nil {
		last = new(view)
	}
	if last.changed == changed && last.catalog == c {
		return last
	}
	self := []catalog.RelayName{m.settings.Name}
	v := &view{changed: changed, catalog: c, live: self, preferred: []catalog.RelayName{}, answering: []catalog.RelayName{}, leasing: slices.Clone(self)}
	for r := range g.Members() {
		name := catalog.RelayName(r.Name)
		if name == m.settings.Name {
			continue
		}
		add := func(to *[]catalog.RelayName, is bool) {
			if is {
				*to = append(*to, name)
			}
		}
		alive, dhcp := r.State == gossip.Alive, !r.Meta.NoDHCP
		add(&v.live, alive)
		add(&v.preferred, alive && !r.Meta.Unwell)
		add(&v.answering, alive && !r.Meta.Unwell && dhcp)
		add(&v.leasing, dhcp)
	}
	for now, before := range map[*[]catalog.RelayName][]catalog.RelayName{
		&v.live: last.live, &v.preferred: last.preferred, &v.answering: last.answering, &v.leasing: last.leasing,
	} {
		if before != nil && slices.Equal(*now, before) {
			*now = before
		}
	}
	m.last.Store(v)
	return v
}

func (m *mesh) live() []catalog.RelayName      { return m.view().live }
func (m *mesh) preferred() []catalog.RelayName { return m.view().preferred }
func (m *mesh) answering() []catalog.RelayName { return m.view().answering }
func (m *mesh) leasing() []catalog.RelayName   { return m.view().leasing }

// size is how many relays share what controllers can take: all that are admitted. How many this one hears says less: where
// gossip is cut between racks, each hears a few and controllers hear all.
func (m *mesh) size() int { return max(len(m.live()), m.feed.Catalog().RelayCount()) }

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
