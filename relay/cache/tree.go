package cache

import (
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/tree"
)

// Peer is a declared relay, this one or another, and where it hands out chunks.
type Peer struct {
	tree.Relay
	Mesh string // host:port of its HTTPS
}

// view is the mesh as it was seen last. It is immutable.
type view struct {
	peers []Peer
	mesh  *tree.Mesh
	named map[string]Peer
}

// view returns the mesh as it is now.
func (c *Cache) view() *view {
	peers := c.cfg.Peers()
	if v := c.seen.Load(); v != nil && slices.Equal(v.peers, peers) {
		return v
	}
	v := &view{peers: peers, named: make(map[string]Peer, len(peers)+1)}
	relays, self := make([]tree.Relay, 0, len(peers)+1), string(c.cfg.Name)
	for _, p := range peers {
		relays = append(relays, p.Relay)
		v.named[p.Name] = p
	}
	if _, ok := v.named[self]; !ok { // the catalog that says so is to come
		relays = append(relays, tree.Relay{Name: self})
		v.named[self] = Peer{Relay: tree.Relay{Name: self}}
	}
	v.mesh = tree.New(relays)
	c.seen.Store(v)
	return v
}

// upstreams lists where a chunk may come from: those above in its tree, the controllers, and at last any relay that may
// have it by chance.
func (c *Cache) upstreams(f *flight, ref chunk.Ref, hops int) []upstream {
	v, self := c.view(), string(c.cfg.Name)
	t := v.mesh.Tree(ref)
	var all []upstream
	ask := func(name string, hops int) {
		u := c.fromRelay(f, v.named[name], ref, hops)
		u.outside, u.kept = v.named[name].Zone != v.named[self].Zone, hops == api.MaxHops
		all = append(all, u)
	}
	above := t.Above(self)
	for i, u := range above {
		h := hops + 1
		if u.Kept {
			h = api.MaxHops
		}
		ask(u.Name, h)
		all[i].above = len(above) - 1 - i
	}
	for _, e := range tree.Order(ref.ID, c.cfg.Endpoints()) {
		all = append(all, c.fromController(e, ref))
	}
	for _, name := range t.Others(self) {
		ask(name, api.MaxHops)
	}
	return all
}
