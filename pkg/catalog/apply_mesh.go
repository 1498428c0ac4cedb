package catalog

import (
	"bytes"
	"crypto/subtle"
	"net/netip"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// What a token may admit.
const (
	TokenRelay      = "relay"
	TokenController = "controller"
)

// ClockSkew is by how much the clocks of a cluster's machines may differ before times are held against anybody.
const ClockSkew = 5 * time.Minute

func (x AddToken) apply(c *Catalog, e *Entry) error {
	t := x.Token
	switch {
	case t.ID == "" || len(t.Hash) == 0:
		return fault.New(fault.Invalid, "a token needs an ID and the hash of its secret")
	case t.Role != TokenRelay && t.Role != TokenController:
		return fault.New(fault.Invalid, "a token cannot admit a %q", clip(t.Role)).WithFix("it admits a relay or a controller")
	case t.Uses < 1 || t.Uses > 1000:
		return fault.New(fault.Invalid, "a token cannot be used %d times", t.Uses).WithFix("allow 1 to 1000 uses")
	case !t.Expires.After(e.At):
		return fault.New(fault.Invalid, "the token would have expired already")
	case t.Role == TokenRelay && len(t.Networks) == 0:
		return fault.New(fault.Invalid, "a relay token names no network").WithFix("say which networks the relay serves: --networks NAME")
	}
	if _, ok := c.Token(t.ID); ok {
		return fault.New(fault.Conflict, "token %s exists already", t.ID)
	}
	for _, n := range t.Networks {
		if _, ok := c.Network(n); !ok {
			return c.noNetwork(n)
		}
	}
	t.By = e.By
	// Tokens that expired long ago are dropped here: the only place that adds some keeps their number down.
	for old := range c.Tokens() {
		if old.Expires.Before(e.At.Add(-24 * time.Hour)) {
			c.tokens.delete(old.ID)
		}
	}
	c.tokens.put(t.ID, &t)
	return nil
}

func (x DeleteToken) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Token(x.ID); !ok {
		return fault.New(fault.NotFound, "no token has the ID %q", clip(x.ID))
	}
	c.tokens.delete(x.ID)
	return nil
}

// useToken checks a token and takes one use of it.
func (c *Catalog) useToken(id string, hash []byte, role string, at time.Time) (*Token, error) {
	if err := c.CheckToken(id, hash, role, at); err != nil {
		return nil, err
	}
	t, _ := c.Token(id)
	used := *t
	used.Uses--
	c.tokens.put(id, &used)
	return &used, nil
}

// CheckToken tells whether the token, shown with the hash of its secret, admits the role at that time.
// Whoever does not know the secret learns nothing but fault.Denied.
func (c *Catalog) CheckToken(id string, hash []byte, role string, at time.Time) error {
	t, ok := c.Token(id)
	fix := "make a new one with: wulf " + role + " token"
	switch {
	case !ok || subtle.ConstantTimeCompare(t.Hash, hash) != 1:
		return fault.New(fault.Denied, "the join token is not known to this cluster").WithFix("%s", fix)
	case t.Role != role:
		return fault.New(fault.Denied, "the join token admits a %s, not a %s", t.Role, role).WithFix("%s", fix)
	case at.After(t.Expires):
		return fault.New(fault.Denied, "the join token expired at %s", t.Expires.UTC().Format(time.RFC3339)).WithFix("%s", fix)
	case t.Uses < 1:
		return fault.New(fault.Denied, "the join token is used up").WithFix("%s", fix)
	}
	return nil
}

func (x AdmitRelay) apply(c *Catalog, e *Entry) error {
	t, err := c.useToken(x.Token, x.Hash, TokenRelay, e.At)
	if err != nil {
		return err
	}
	r := x.Relay
	r.Networks, r.Rack, r.Zone, r.Joined = t.Networks, t.Rack, t.Zone, e.At
	if t.Name != "" {
		r.Name = RelayName(t.Name)
	}
	if _, err := ParseName[RelayName]("relay", string(r.Name)); err != nil {
		return err
	}
	r.Follows, r.Rate, r.Budget = "", 0, 0
	if old, ok := c.Relay(r.Name); ok {
		if !bytes.Equal(old.Key, r.Key) {
			return fault.New(fault.Denied, "relay %s has joined already with another key", r.Name).WithFix("if it was reinstalled, remove it first: wulf relay remove %s", r.Name)
		}
		r.Follows, r.Rate, r.Budget = old.Follows, old.Rate, old.Budget
	}
	if err := c.checkRelay(&r); err != nil {
		return err
	}
	c.relays.put(string(r.Name), &r)
	return nil
}

func (x SetRelay) apply(c *Catalog, _ *Entry) error {
	old, ok := c.Relay(x.Name)
	if !ok {
		return c.noRelay(x.Name)
	}
	r := *old
	if x.Rack != nil {
		r.Rack = *x.Rack
	}
	if x.Zone != nil {
		r.Zone = *x.Zone
	}
	if x.Networks != nil {
		r.Networks = *x.Networks
	}
	if x.Slots != nil {
		r.Slots = *x.Slots
	}
	if x.Reserve != nil {
		r.Reserve = x.Reserve
	}
	if x.Follows != nil {
		r.Follows = *x.Follows
	}
	if x.Rate != nil {
		r.Rate = *x.Rate
	}
	if x.Budget != nil {
		r.Budget = *x.Budget
	}
	if err := c.checkRelay(&r); err != nil {
		return err
	}
	c.relays.put(string(r.Name), &r)
	return nil
}

// leastRate keeps a rate from being one at which no chunk comes in time, and leastBudget a budget from being one in which
// no image has room: both are mistakes of units.
const (
	leastRate   = 64 << 10
	leastBudget = 16 << 20
)

func (x SetZone) apply(c *Catalog, _ *Entry) error {
	if _, err := ParseName[string]("zone", x.Name); err != nil {
		return err
	}
	switch {
	case x.Rate == 0:
		c.zones.delete(x.Name)
	case x.Rate < leastRate:
		return fault.New(fault.Invalid, "zone %s: %d bytes a second are too few", x.Name, x.Rate).WithFix("allow at least %d", leastRate)
	default:
		c.zones.put(x.Name, &Zone{Name: x.Name, Rate: x.Rate})
	}
	return nil
}

// checkFollows keeps relays from following each other in a circle.
func (c *Catalog) checkFollows(r *Relay) error {
	for next := r.Follows; next != ""; {
		up, ok := c.Relay(next)
		switch {
		case !ok:
			return c.noRelay(next)
		case next == r.Name:
			return fault.New(fault.Conflict, "relay %s cannot follow %s, which follows it", r.Name, r.Follows)
		}
		next = up.Follows
	}
	return nil
}

func (c *Catalog) checkRelay(r *Relay) error {
	if err := c.checkFollows(r); err != nil {
		return err
	}
	switch {
	case r.Rate != 0 && r.Rate < leastRate:
		return fault.New(fault.Invalid, "relay %s: %d bytes a second are too few", r.Name, r.Rate).WithFix("allow at least %d", leastRate)
	case r.Budget != 0 && r.Budget < leastBudget:
		return fault.New(fault.Invalid, "relay %s: %d bytes are too few for chunks", r.Name, r.Budget).WithFix("allow at least %d", leastBudget)
	}
	if len(r.Key) == 0 || r.Mesh == "" || r.Gossip == "" || r.BootPort == 0 || r.MeshPort == 0 {
		return fault.New(fault.Invalid, "relay %s: its key, addresses or ports are missing", r.Name)
	}
	if r.Slots > MaxSlots || r.Reserved() > MaxSlots {
		return fault.New(fault.Invalid, "relay %s: it cannot have more than %d slots", r.Name, MaxSlots)
	}
	for _, name := range r.Networks {
		n, ok := c.Network(name)
		if !ok {
			return c.noNetwork(name)
		}
		if !slices.ContainsFunc(r.Addresses, n.Prefix.Contains) && n.DHCP != DHCPOff {
			// A relay behind a router's DHCP relay agent has no address there; nodes reach it at another one.
			if len(r.Addresses) == 0 {
				return fault.New(fault.Invalid, "relay %s has no address at which nodes of network %s reach it", r.Name, name).WithFix("join with --address")
			}
		}
	}
	for _, a := range r.Addresses {
		if !a.Is4() {
			return fault.New(fault.Invalid, "relay %s: %s is not an IPv4 address", r.Name, a)
		}
		if n, ok := c.NodeByAddress(a); ok {
			return fault.New(fault.Conflict, "relay %s: address %s belongs to node %s", r.Name, a, n.Name)
		}
		for other := range c.Relays() {
			if other.Name != r.Name && slices.Contains(other.Addresses, a) {
				return fault.New(fault.Conflict, "relay %s: address %s belongs to relay %s", r.Name, a, other.Name)
			}
		}
	}
	return nil
}

func (x DeleteRelay) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Relay(x.Name); !ok {
		return c.noRelay(x.Name)
	}
	for other := range c.Relays() {
		if other.Follows == x.Name {
			return fault.New(fault.Conflict, "relay %s is followed by relay %s", x.Name, other.Name).WithFix("let that one follow another, or nobody: wulf relay set %s --follow none", other.Name)
		}
	}
	c.relays.delete(string(x.Name))
	return nil
}

func (c *Catalog) noRelay(name RelayName) error {
	return notFound("relay", string(name), func(yield func(string) bool) {
		for r := range c.Relays() {
			if !yield(string(r.Name)) {
				return
			}
		}
	})
}

func (x AdmitController) apply(c *Catalog, e *Entry) error {
	t, err := c.useToken(x.Token, x.Hash, TokenController, e.At)
	if err != nil {
		return err
	}
	ctl := x.Controller
	if t.Name != "" {
		ctl.Name = ControllerName(t.Name)
	}
	if _, err := ParseName[ControllerName]("controller", string(ctl.Name)); err != nil {
		return err
	}
	if old, ok := c.Controller(ctl.Name); ok && !bytes.Equal(old.Key, ctl.Key) {
		return fault.New(fault.Denied, "controller %s has joined already with another key", ctl.Name).WithFix("if it was reinstalled, remove it first: wulf controller remove %s", ctl.Name)
	}
	for other := range c.Controllers() {
		if other.Name != ctl.Name && other.API == ctl.API {
			return fault.New(fault.Conflict, "controller %s: %s is the address of controller %s", ctl.Name, ctl.API, other.Name)
		}
	}
	if ap, err := netip.ParseAddrPort(ctl.API); err != nil || ap.Port() == 0 {
		return fault.New(fault.Invalid, "controller %s: %q is not an address with a port", ctl.Name, clip(ctl.API))
	}
	ctl.Joined = e.At
	c.controllers.put(string(ctl.Name), &ctl)
	return nil
}

func (x DeleteController) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.Controller(x.Name); !ok {
		return notFound("controller", string(x.Name), func(yield func(string) bool) {
			for ctl := range c.Controllers() {
				if !yield(string(ctl.Name)) {
					return
				}
			}
		})
	}
	if c.controllers.len() == 1 {
		return fault.New(fault.Conflict, "controller %s is the only one", x.Name).WithFix("let another controller join first")
	}
	c.controllers.delete(string(x.Name))
	return nil
}
