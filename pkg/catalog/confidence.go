package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"sync"
)

// ID names a sealed secret where its value is held in clear. It tells nothing of the value, and another sealing of the
// same value has another.
func (s Secret) ID() string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Confidence finds the secrets that a relay may hold in clear. It looks again at those nodes only that have changed, or at
// all of them after a profile or a network has, however many relays it is asked about. Any number of goroutines may use
// it at once.
type Confidence struct {
	mu    sync.Mutex
	of    parts
	nodes []confidant // in the order of their names
	found map[NetworkName]map[Secret]struct{}
}

// parts are those of a catalog on which it depends who has which secrets: as long as nobody changes one, it is the same
// tree in all revisions.
type parts struct {
	nodes    table[*Node]
	profiles table[*Profile]
	networks table[*Network]
}

// confidant is a node that has secrets.
type confidant struct {
	node    *Node
	network NetworkName // that it boots in; "" if in none
	secrets []Secret
}

// HeldBy returns the secrets that the relay may hold, in order, each once: those that the nodes of the networks which it
// serves have, by themselves or by a profile, where the network's policy is SecretsRelay. A node is of the network that
// it boots in.
func (x *Confidence) HeldBy(c *Catalog, r *Relay) []Secret {
	found := x.byNetwork(c)
	all := map[Secret]struct{}{}
	for _, name := range r.Networks {
		if n, ok := c.Network(name); ok && n.Secrets == SecretsRelay {
			maps.Copy(all, found[name])
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (x *Confidence) byNetwork(c *Catalog) map[NetworkName]map[Secret]struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	of := parts{c.nodes, c.profiles, c.networks}
	if x.found != nil && x.of == of {
		return x.found
	}
	known := x.nodes
	if x.of.profiles != of.profiles || x.of.networks != of.networks {
		known = nil
	}
	x.of, x.nodes, x.found = of, c.confidants(known), map[NetworkName]map[Secret]struct{}{}
	for _, n := range x.nodes {
		all := x.found[n.network]
		if all == nil {
			all = map[Secret]struct{}{}
			x.found[n.network] = all
		}
		for _, s := range n.secrets {
			all[s] = struct{}{}
		}
	}
	return x.found
}

// confidants lists the nodes that have secrets. Those that are known are of a catalog with the same profiles and networks.
func (c *Catalog) confidants(known []confidant) []confidant {
	all := make([]confidant, 0, len(known))
	base := lastBase{c: c}
	for n := range c.Nodes() {
		for len(known) > 0 && known[0].node.Name < n.Name {
			known = known[1:]
		}
		if len(known) > 0 && known[0].node == n {
			all = append(all, known[0])
			continue
		}
		b := base.of(n)
		if !b.settings.confidential() && !n.Settings.confidential() {
			continue
		}
		s := b.settings.bearing()
		Merge(&s, n.Settings.bearing(), "", nil)
		found := confidant{node: n, secrets: slices.Collect(maps.Values(s.Secrets))}
		if s.BMC.Password != nil {
			found.secrets = append(found.secrets, *s.BMC.Password)
		}
		if r := c.resolveNets(s); r.Primary != nil && r.Primary.Network != nil {
			found.network = r.Primary.Network.Name
		}
		all = append(all, found)
	}
	return all
}

// confidential tells whether the settings hold a secret.
func (s *Settings) confidential() bool { return len(s.Secrets) > 0 || s.BMC.Password != nil }

// bearing is what of the settings bears on which secrets a node has and where it boots: merging it costs a fraction of
// merging all of them.
func (s *Settings) bearing() Settings {
	return Settings{Primary: s.Primary, Nets: s.Nets, BMC: BMC{Password: s.BMC.Password}, Secrets: s.Secrets, Without: s.Without}
}
