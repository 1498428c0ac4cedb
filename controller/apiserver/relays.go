package apiserver

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Bounds of what a relay says of itself.
const (
	maxRelayMembers  = 4096
	maxRelayProblems = 32
)

// relays remembers the last report of each relay. It is observed state and this controller's own.
type relays struct {
	mu   sync.Mutex
	seen map[catalog.RelayName]relaySeen // of admitted relays, and a few that were
}

type relaySeen struct {
	status api.RelayStatus
	at     time.Time
}

// put takes a report. At the first one of a relay, those are forgotten that the catalog does not know any more.
func (r *relays) put(st api.RelayStatus, at time.Time, c *catalog.Catalog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.seen[st.Name]; !known {
		for name := range r.seen {
			if _, ok := c.Relay(name); !ok {
				delete(r.seen, name)
			}
		}
	}
	r.seen[st.Name] = relaySeen{st, at}
}

func (r *relays) get(name catalog.RelayName) (relaySeen, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.seen[name]
	return s, ok
}

// postRelayStatus takes a relay's report about itself, and about nobody else.
func (s *Server) postRelayStatus(w http.ResponseWriter, r *http.Request, by caller) error {
	if r.PathValue("name") != by.name {
		return fault.New(fault.Denied, "relay %s cannot report for relay %.80q", by.name, r.PathValue("name"))
	}
	var st api.RelayStatus
	if err := api.ReadJSON(w, r, &st); err != nil {
		return err
	}
	st.Name = by.relayName()
	st.Members = st.Members[:min(len(st.Members), maxRelayMembers)]
	st.Problems = st.Problems[:min(len(st.Problems), maxRelayProblems)]
	st.Cache.Images = st.Cache.Images[:min(len(st.Cache.Images), api.MaxCachedImages)]
	s.relays.put(st, time.Now(), s.cfg.State.Current())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getRelays lists the admitted relays with what this controller has heard of them.
func (s *Server) getRelays(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	alive := api.RelayAlive(c.RelayCount())
	return writeList(w, c.Revision, func(yield func(api.RelayView) bool) {
		for rel := range c.Relays() {
			if !yield(s.relayView(c, rel, alive)) {
				return
			}
		}
	})
}

// relayView is a relay with what this controller has heard of it; alive is for how long a word from it counts.
func (s *Server) relayView(c *catalog.Catalog, rel *catalog.Relay, alive time.Duration) api.RelayView {
	v := api.RelayView{Relay: *rel}
	if z, ok := c.Zone(rel.Zone); ok {
		v.ZoneRate = z.Rate
	}
	if seen, ok := s.relays.get(rel.Name); ok {
		v.Status, v.Seen, v.Alive = &seen.status, seen.at, time.Since(seen.at) < alive
	}
	return v
}

// relayViews are all admitted relays by name.
func (s *Server) relayViews(c *catalog.Catalog) map[catalog.RelayName]api.RelayView {
	all, alive := map[catalog.RelayName]api.RelayView{}, api.RelayAlive(c.RelayCount())
	for rel := range c.Relays() {
		all[rel.Name] = s.relayView(c, rel, alive)
	}
	return all
}

// postEvents takes boot events from a relay, which speaks for itself only.
func (s *Server) postEvents(w http.ResponseWriter, r *http.Request, by caller) error {
	var batch api.EventBatch
	if err := api.ReadJSON(w, r, &batch); err != nil {
		return err
	}
	if n := len(batch.Events); n > api.MaxEventBatch {
		return fault.New(fault.Invalid, "%d events in a batch are more than %d", n, api.MaxEventBatch)
	}
	for i := range batch.Events {
		batch.Events[i].Relay = by.relayName()
	}
	s.cfg.Journal.Record(batch.Events)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// gossipEpoch names the present gossip key. It stays until keys are rotated.
const gossipEpoch = 1

// ticketKeyOf is the name under which the ticket key of a network is derived. No network can have it.
func ticketKeyOf(n catalog.NetworkName) string { return "tickets/" + string(n) }

// getSecrets gives a relay what it may hold in confidence: of the networks that it serves, and of no other. To relays the
// values of sealed secrets leave a controller, and by no other way.
func (s *Server) getSecrets(w http.ResponseWriter, r *http.Request, by caller) error {
	c, err := s.cfg.State.Fresh(r.Context()) // a network that was taken away must not be handed out by one who is behind
	if err != nil {
		return err
	}
	rel, ok := c.Relay(by.relayName())
	if !ok {
		return fault.New(fault.Denied, "relay %s is not admitted any more", by.name)
	}
	out := api.RelaySecrets{
		Gossip:   s.cfg.Mesh.GossipKey(gossipEpoch).Reveal(),
		Networks: map[string][]byte{}, Tickets: map[string][]byte{},
	}
	for n := range c.Networks() {
		if !slices.Contains(rel.Networks, n.Name) {
			continue
		}
		out.Tickets[string(n.Name)] = s.cfg.Mesh.NetworkKey(ticketKeyOf(n.Name)).Reveal()
		if n.Secrets == catalog.SecretsRelay {
			out.Networks[string(n.Name)] = s.cfg.Mesh.NetworkKey(string(n.Name)).Reveal()
		}
	}
	out.Values, out.LeftOut = s.openSecrets(s.confidence.HeldBy(c, rel))
	setRevision(w, c)
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, out)
	return nil
}

// openSecrets opens secrets of nodes for a relay that may hold them, and counts those that it does not get.
func (s *Server) openSecrets(sealed []catalog.Secret) (values map[string][]byte, leftOut int) {
	vault, room := s.cfg.Mesh.Vault(), api.MaxRelayValues
	values = make(map[string][]byte, len(sealed))
	for _, secret := range sealed {
		id := secret.ID()
		value, err := vault.Open(secret)
		if room -= len(id) + len(value.Reveal()); err != nil || room < 0 {
			leftOut++
			continue
		}
		values[id] = value.Reveal()
	}
	return values, leftOut
}

// hostKey is the public SSH host key of a node, or "" where nobody holds its secrets.
func (s *Server) hostKey(r *catalog.Resolved) string {
	if r.Primary == nil || r.Primary.Network == nil || r.Primary.Network.Secrets != catalog.SecretsRelay {
		return ""
	}
	k, err := s.cfg.Mesh.NetworkKey(string(r.Primary.Network.Name)).SSHHostKey(string(r.Node.Name), pki.SSHEd25519)
	if err != nil {
		return ""
	}
	return k.Public
}
