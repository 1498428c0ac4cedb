package apiserver

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// roles is a set of those who may ask.
type roles uint8

// Who may ask.
const (
	anonymous  roles = 1 << iota // nobody known; what a request shows must do
	relay                        // by certificate, and in the catalog
	controller                   // by certificate, and in the catalog
	node                         // by certificate
	operator                     // by certificate
	root                         // a process on this machine, through the socket
	stranger                     // a process on this machine that may nothing
)

const (
	admins  = operator | root
	members = relay | controller | admins
)

// roleNames are for people.
var roleNames = map[roles]string{
	anonymous: "nobody", relay: "relay", controller: "controller", node: "node", operator: "operator",
	root: "root", stranger: "process",
}

func (r roles) String() string { return roleNames[r] }

// caller is who asks.
type caller struct {
	role roles
	name string
	key  []byte // pki.KeyHash of the certificate; nil without one
	by   string // as the log names who asked for a change
}

// relayName and controllerName are the caller's name as the catalog knows it.
func (c caller) relayName() catalog.RelayName           { return catalog.RelayName(c.name) }
func (c caller) controllerName() catalog.ControllerName { return catalog.ControllerName(c.name) }

// maxBy bounds the name that a controller passes on.
const maxBy = 128

// identify finds out who asks, from what the connection has proved.
func (s *Server) identify(r *http.Request) (caller, error) {
	if r.TLS == nil {
		p, ok := processOf(r.Context())
		switch {
		case ok && (p.uid == 0 || p.uid == s.localUID):
			return caller{role: root, name: "local", by: "root@local"}, nil
		case ok:
			return caller{role: stranger, name: "local", by: "local"}, nil
		}
		return caller{role: stranger, by: "unknown"}, nil
	}
	if len(r.TLS.PeerCertificates) == 0 {
		return caller{role: anonymous, by: "anonymous"}, nil
	}
	id, err := pki.PeerIdentity(*r.TLS)
	if err != nil {
		return caller{}, err
	}
	leaf := r.TLS.PeerCertificates[0]
	if time.Now().After(leaf.NotAfter.Add(pki.Skew)) { // it was good when the connection began
		return caller{}, fault.New(fault.Denied, "the certificate of %s expired at %s", id, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c := caller{name: id.Name, key: pki.KeyHash(leaf), by: string(id.Role) + "/" + id.Name}
	switch id.Role {
	case pki.Relay:
		c.role = relay
	case pki.Controller:
		c.role = controller
		if by := r.Header.Get(api.HeaderBy); by != "" {
			c.by = strings.ToValidUTF8(by[:min(len(by), maxBy)], "")
		}
	case pki.Node:
		c.role = node
	case pki.Operator:
		c.role = operator
	default:
		c.role = stranger
	}
	return c, nil
}

// forwarded tells whether a controller passes on what somebody else asked it.
func forwarded(r *http.Request, by caller) bool {
	return by.role == controller && r.Header.Get(api.HeaderBy) != ""
}

// admit checks that the catalog has a relay or controller, with the key of its certificate. Before it refuses one it
// asks the leader, for this controller may be behind.
func (s *Server) admit(ctx context.Context, c caller) error {
	if c.role != relay && c.role != controller || isMember(s.cfg.State.Current(), c) {
		return nil
	}
	fresh, err := s.cfg.State.Fresh(ctx)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "%s %s is not known here, and the leader cannot be asked", c.role, c.name)
	}
	if isMember(fresh, c) {
		return nil
	}
	return fault.New(fault.Denied, "%s %s is not admitted, or no longer, with this key", c.role, c.name).
		WithFix("let it join: wulf %s token, wulf %s join", c.role, c.role)
}

func isMember(c *catalog.Catalog, who caller) bool {
	switch who.role {
	case relay:
		r, ok := c.Relay(who.relayName())
		return ok && bytes.Equal(r.Key, who.key)
	case controller:
		ctl, ok := c.Controller(who.controllerName())
		return ok && bytes.Equal(ctl.Key, who.key)
	}
	return false
}

// deny is the answer to somebody who may not.
func deny(c caller, r *http.Request) error {
	switch c.role {
	case anonymous:
		return fault.New(fault.Denied, "%s needs a certificate of this cluster", r.URL.Path).
			WithFix("on a controller, root may use its socket: wulf --endpoint unix:/run/wulf/controller.sock")
	case stranger:
		return fault.New(fault.Denied, "only root may use the controller's socket").WithFix("use sudo")
	}
	return fault.New(fault.Denied, "a %s may not %s %s", c.role, r.Method, r.URL.Path)
}
