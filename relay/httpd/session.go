package httpd

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// heartbeat is how often an agent reports and looks for changes.
const heartbeat = 30 * time.Second

// session turns a ticket, or a session that is to be prolonged, into a session.
func (s *Server) session(w http.ResponseWriter, r *http.Request) error {
	var q api.SessionRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	if q.Ticket == "" {
		return s.withSession(func(w http.ResponseWriter, r *http.Request) error {
			h := held(r)
			return s.grant(w, r, h.key, catalog.NodeName(h.Node), h.Boot, nil)
		})(w, r)
	}
	t, key, err := s.openTicket(q.Ticket)
	if err != nil {
		s.trouble(remote(r), boot.StageKernel, fmt.Sprintf("relay %s does not let its agent in: %v", s.cfg.Name, err))
		return err
	}
	if err := s.byAgent(catalog.NodeName(t.Node)); err != nil {
		return err
	}
	if len(q.Claim) > api.MaxClaim {
		return fault.New(fault.Invalid, "a claim has at most %d bytes", api.MaxClaim)
	}
	if !s.claims.take(t, "session", q.Claim) {
		// Somebody else has claimed this boot: the node, or one that pretends to be it. Nobody can tell which from here.
		err := fault.New(fault.Denied, "the boot %s of node %s has been claimed already", t.Boot, t.Node).WithFix("restart the node; if it comes again, look for a second machine with its hardware address")
		s.cfg.Record(boot.Event{Stage: boot.StageKernel, Node: catalog.NodeName(t.Node), Hardware: hardware(t), Boot: t.Boot, Address: remote(r).String(), Error: err.Error()})
		return err
	}
	return s.grant(w, r, key, catalog.NodeName(t.Node), t.Boot, storage(s.cfg.Feed.Catalog(), catalog.NodeName(t.Node)))
}

// storage is what a node's disks are to hold, nil if nothing is declared of them. The catalog bounds it.
func storage(c *catalog.Catalog, node catalog.NodeName) *api.Storage {
	r, err := c.Resolve(node)
	if err != nil || len(r.Settings.Disks)+len(r.Settings.Filesystems) == 0 && r.Settings.RootDevice() == "" {
		return nil
	}
	return &api.Storage{Root: r.Settings.RootDevice(), Disks: r.Settings.Disks, Filesystems: r.Settings.Filesystems}
}

func hardware(t pki.Ticket) catalog.HardwareAddr { return catalog.HardwareAddr(t.Hardware.String()) }

// openTicket verifies a ticket by the keys of the networks that this relay serves, and that its node still declares
// the hardware address that it was made out for.
func (s *Server) openTicket(text string) (pki.Ticket, pki.NetworkKey, error) {
	last := fault.New(fault.Unavailable, "relay %s has no keys of its networks yet", s.cfg.Name)
	for network, key := range s.cfg.Feed.Secrets().Tickets {
		t, err := key.OpenTicket(text, s.cfg.Now())
		if err != nil {
			last = fault.Wrap(fault.KindOf(err), err, "boot ticket")
			continue
		}
		n, ok := s.cfg.Feed.Catalog().NodeByHardware(hardware(t))
		if !ok || n.Name != catalog.NodeName(t.Node) {
			return t, key, fault.New(fault.Denied, "hardware address %s is no longer that of node %s", hardware(t), t.Node)
		}
		return t, key, s.belongs(n.Name, network)
	}
	return pki.Ticket{}, pki.NetworkKey{}, last
}

// belongs refuses a node in a network in which it has no device, unless it has none in any. The keys of a network are
// held by the relays of that network: what they seal must count for its nodes only.
func (s *Server) belongs(node catalog.NodeName, network catalog.NetworkName) error {
	r, err := s.cfg.Feed.Catalog().Resolve(node)
	if err != nil {
		return fault.New(fault.Denied, "node %s is no longer declared", node)
	}
	declared := false
	for _, n := range r.Nets {
		if n.Network != nil && n.Network.Name == network {
			return nil
		}
		declared = declared || n.Network != nil
	}
	if declared {
		return fault.New(fault.Denied, "node %s is not in network %s", node, network)
	}
	return nil
}

// grant answers with a session.
func (s *Server) grant(w http.ResponseWriter, r *http.Request, key pki.NetworkKey, node catalog.NodeName, id string, storage *api.Storage) error {
	p, err := s.planOf(node)
	if err != nil {
		return err
	}
	out := api.Session{Node: node, Expires: s.cfg.Now().Add(pki.SessionLife).UTC(), Interval: heartbeat, Storage: storage}
	if out.Token, err = key.SealSession(pki.Session{Node: string(node), Boot: id, Expires: out.Expires}); err != nil {
		return err
	}
	for _, relay := range p.Relays {
		out.Relays = append(out.Relays, relay.Mesh())
		out.Plain = append(out.Plain, relay.Boot())
	}
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, out)
	return nil
}

// planOf is the plan of a node by its name.
func (s *Server) planOf(node catalog.NodeName) (boot.Plan, error) {
	c := s.cfg.Feed.Catalog()
	r, err := c.Resolve(node)
	if err != nil {
		return boot.Plan{}, err
	}
	if r.Primary == nil || r.Primary.Hardware == "" {
		return boot.Plan{}, fault.New(fault.Invalid, "node %s has no hardware address", node)
	}
	return s.cfg.Feed.Plan(boot.Request{Hardware: r.Primary.Hardware, Relay: s.cfg.Name, Live: s.cfg.Live()})
}

// holder is who holds the session of a request.
type holder struct {
	pki.Session
	key pki.NetworkKey
}

type holderKey struct{}

func held(r *http.Request) holder {
	h, _ := r.Context().Value(holderKey{}).(holder)
	return h
}

// withSession lets through who shows a session; held tells the handler whose it is.
func (s *Server) withSession(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return fault.New(fault.Denied, "this is only for a node with a session")
		}
		last := fault.New(fault.Unavailable, "relay %s has no keys of its networks yet", s.cfg.Name)
		for network, key := range s.cfg.Feed.Secrets().Tickets {
			held, err := key.OpenSession(text, s.cfg.Now())
			if err != nil {
				last = fault.Wrap(fault.KindOf(err), err, "session")
				continue
			}
			if err := s.belongs(catalog.NodeName(held.Node), network); err != nil {
				return err
			}
			return h(w, r.WithContext(contextWith(r, holder{held, key})))
		}
		return last
	}
}

// events takes what a node says of its own boot. Whose it is the session says, not the events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	var batch api.EventBatch
	if err := api.ReadJSON(w, r, &batch); err != nil {
		return err
	}
	if len(batch.Events) > api.MaxEventBatch {
		return fault.New(fault.Invalid, "%d events are more than %d", len(batch.Events), api.MaxEventBatch)
	}
	h := held(r)
	if !s.meters.take(catalog.NodeName(h.Node), len(batch.Events)) {
		later(w)
		return fault.New(fault.Unavailable, "node %s reports too much at once", h.Node)
	}
	node, _ := s.cfg.Feed.Catalog().Resolve(catalog.NodeName(h.Node))
	now := s.cfg.Now().UTC()
	sent, err := time.Parse(time.RFC3339Nano, r.Header.Get(api.HeaderSent))
	if err != nil { // it does not say so
		sent = time.Time{}
	}
	for _, e := range batch.Events {
		if e.Stage.Index() < boot.StageStageOne.Index() && !slices.Contains([]boot.Stage{boot.StageFailed, boot.StageAlive, boot.StageRefresh}, e.Stage) {
			return fault.New(fault.Invalid, "%q is no stage that a node tells of", e.Stage)
		}
		e.Node, e.Boot = catalog.NodeName(h.Node), h.Boot
		if node != nil && node.Primary != nil {
			e.Hardware = cmp.Or(node.Primary.Hardware, e.Hardware)
		}
		e.Time = relayTime(e.Time, sent, now)
		e.Address = remote(r).String()
		if e.Stage.Index() >= boot.StageImage.Index() || e.Stage == boot.StageFailed {
			s.turns.over(remote(r), true) // it has its image, or needs none any more
		}
		clip(&e.Message, boot.MaxEventText)
		clip(&e.Error, boot.MaxEventText)
		clip(&e.Fix, boot.MaxEventText)
		clip(&e.Without, boot.MaxEventText)
		clip(&e.Console, boot.MaxEventConsole)
		clip(&e.Image, boot.MaxEventText)
		s.cfg.Record(e)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxDrift is how far a node's clock may be off before its times are put right, and how long what it sends may be on its way.
const maxDrift = 2 * time.Second

// relayTime is when an event of a node was by this relay's clock, which the stages before were told by. The node's own may
// be years off, but how long before it sent the event it was right about, unless the clock was set in between. It sent it now.
func relayTime(at, sent, now time.Time) time.Time {
	if off := now.Sub(sent); !sent.IsZero() && off.Abs() > maxDrift {
		at = at.Add(off)
	}
	if age := now.Sub(at); age > catalog.ClockSkew || age < -maxDrift {
		return now
	}
	return at
}

func clip(s *string, n int) {
	if len(*s) > n {
		*s = (*s)[:n]
	}
}

// claims remembers which tickets have been used, for what and by whom, until they expire. It is this relay's own
// memory: a ticket used at one relay could be used once more at another, within its ten minutes.
type claims struct {
	mu      sync.Mutex
	by      map[claimKey]claim
	cleaned time.Time
}

// maxClaims bounds the tickets that are remembered.
const maxClaims = 200_000

type claimKey struct {
	nonce pki.Nonce
	use   string
}

type claim struct {
	claim   string
	expires time.Time
}

func newClaims() *claims { return &claims{by: map[claimKey]claim{}} }

// take uses a ticket, and reports false if somebody else has. The same claim may be repeated; an empty one may not.
// Only sealed tickets come so far, each ten minutes old at most; were there too many all the same, none is taken.
func (c *claims) take(t pki.Ticket, use, by string) bool {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.cleaned) > time.Minute {
		c.cleaned = now
		for k, old := range c.by {
			if now.After(old.expires.Add(catalog.ClockSkew)) {
				delete(c.by, k)
			}
		}
	}
	k := claimKey{t.Nonce, use}
	if old, ok := c.by[k]; ok {
		return by != "" && old.claim == by
	}
	if len(c.by) >= maxClaims {
		return false
	}
	c.by[k] = claim{by, t.Expires}
	return true
}

// finish ends uses of a ticket, also for who has used it.
func (c *claims) finish(t pki.Ticket, uses ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, use := range uses {
		if k := (claimKey{t.Nonce, use}); len(c.by) < maxClaims || c.by[k] != (claim{}) {
			c.by[k] = claim{"", t.Expires}
		}
	}
}

// byAgent refuses what only an agent asks for to a node that boots without one. Its ticket is for other uses: any user of
// the node may know it.
func (s *Server) byAgent(node catalog.NodeName) error {
	r, err := s.cfg.Feed.Catalog().Resolve(node)
	if err == nil && *r.Settings.Method == catalog.MethodWarewulf {
		return fault.New(fault.Denied, "node %s boots by method %s, without an agent", node, catalog.MethodWarewulf)
	}
	return err
}
