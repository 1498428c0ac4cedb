package apiserver

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// ticket is a join token that was shown, and that the catalog knows with this secret.
type ticket struct {
	id     string
	hash   []byte
	token  *catalog.Token
	usable error // nil, or why it admits nobody now
}

// again tells whether the token still serves one whom it has admitted already, and whose answer was lost.
func (t ticket) again() bool { return !time.Now().After(t.token.Expires) }

// checkTicket reads a token and looks it up. The state it is held against is fresh, for a token that was used up
// elsewhere must not look good here. Who does not hold the secret learns nothing, and nothing reaches the log.
func (s *Server) checkTicket(r *http.Request, text, role string) (*catalog.Catalog, ticket, error) {
	if err := s.joins.allow(r); err != nil {
		return nil, ticket{}, err
	}
	t, err := pki.ParseToken(text)
	if err != nil {
		return nil, ticket{}, err
	}
	hash, err := hex.DecodeString(t.Hash())
	if err != nil {
		return nil, ticket{}, fault.Wrap(fault.Internal, err, "hash of a token")
	}
	c, err := s.cfg.State.Fresh(r.Context())
	if err != nil {
		return nil, ticket{}, err
	}
	shown := ticket{id: t.ID, hash: hash, usable: c.CheckToken(t.ID, hash, role, time.Now())}
	known, ok := c.Token(t.ID)
	if !ok || !t.Matches(hex.EncodeToString(known.Hash)) || known.Role != role {
		return nil, ticket{}, shown.usable
	}
	shown.token = known
	return c, shown, nil
}

// joinRelay admits a relay by token and certifies it under the name that the token, or else the relay, says.
//
// The certificate is made first and handed out last, when the log has admitted the relay: which of several joins
// with a token of one use wins is decided there. A relay whose answer was lost asks again with the same key and gets
// it without another use.
func (s *Server) joinRelay(w http.ResponseWriter, r *http.Request, _ caller) error {
	var q api.JoinRelay
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	c, t, err := s.checkTicket(r, q.Token, catalog.TokenRelay)
	if err != nil {
		return err
	}
	want := q.Relay
	if t.token.Name != "" {
		want.Name = catalog.RelayName(t.token.Name)
	}
	if _, err := catalog.ParseName[catalog.RelayName]("relay", string(want.Name)); err != nil {
		return err
	}
	cert, key, err := s.certify(q.CSR, pki.Identity{Role: pki.Relay, Name: string(want.Name)}, relayIPs(&want))
	if err != nil {
		return err
	}
	want.Key = key
	if old, ok := c.Relay(want.Name); !ok || !sameRelay(old, &want) || !t.again() {
		if t.usable != nil {
			return t.usable
		}
		if c, err = s.admitByLog(r.Context(), catalog.AdmitRelay{Token: t.id, Hash: t.hash, Relay: want}, "relay/"+string(want.Name)); err != nil {
			return err
		}
		if now, ok := c.Relay(want.Name); !ok || !bytes.Equal(now.Key, key) {
			return fault.New(fault.Conflict, "relay %s was admitted and changed again at once", want.Name)
		}
	}
	s.cfg.Logger.Info("relay joined", "relay", want.Name, "from", r.RemoteAddr)
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, api.JoinedRelay{
		Name: want.Name, Cluster: c.Cluster.Name, Certificate: string(cert), CA: string(s.cfg.CA.Trust().PEM()),
		Endpoints: endpoints(c), Revision: c.Revision,
	})
	return nil
}

// sameRelay tells whether a relay asks for what it has: what the token decides and the log stamps does not count.
func sameRelay(have, want *catalog.Relay) bool {
	w := *want
	w.Rack, w.Zone, w.Networks, w.Joined = have.Rack, have.Zone, have.Networks, have.Joined
	w.Follows, w.Rate, w.Budget = have.Follows, have.Rate, have.Budget
	return reflect.DeepEqual(*have, w)
}

// joinController admits a controller by token, and hands it the cluster's keys with its certificate.
func (s *Server) joinController(w http.ResponseWriter, r *http.Request, _ caller) error {
	var q api.JoinController
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	c, t, err := s.checkTicket(r, q.Token, catalog.TokenController)
	if err != nil {
		return err
	}
	name := q.Name
	if t.token.Name != "" {
		name = catalog.ControllerName(t.token.Name)
	}
	if _, err := catalog.ParseName[catalog.ControllerName]("controller", string(name)); err != nil {
		return err
	}
	want := catalog.Controller{Name: name, API: q.API}
	cert, key, err := s.certify(q.CSR, pki.Identity{Role: pki.Controller, Name: string(name)}, controllerIPs(&want))
	if err != nil {
		return err
	}
	want.Key = key
	if old, ok := c.Controller(name); !ok || old.API != want.API || !bytes.Equal(old.Key, key) || !t.again() {
		if t.usable != nil {
			return t.usable
		}
		if c, err = s.admitByLog(r.Context(), catalog.AdmitController{Token: t.id, Hash: t.hash, Controller: want}, "controller/"+string(name)); err != nil {
			return err
		}
		if now, ok := c.Controller(name); !ok || !bytes.Equal(now.Key, key) {
			return fault.New(fault.Conflict, "controller %s was admitted and changed again at once", name)
		}
	}
	keys, err := s.cfg.Keys()
	if err != nil {
		return err
	}
	s.cfg.Logger.Info("controller joined", "controller", name, "addr", q.API, "from", r.RemoteAddr)
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, api.JoinedController{
		Name: name, Cluster: c.Cluster.Name, Certificate: string(cert), CA: string(s.cfg.CA.Trust().PEM()),
		Keys: keys, Endpoints: endpoints(c),
	})
	return nil
}

// certify signs for an identity and returns the certificate with the hash of its key.
func (s *Server) certify(csr []byte, id pki.Identity, ips []netip.Addr) (cert, key []byte, err error) {
	if cert, err = s.cfg.CA.Sign(csr, id, ips, id.Role.Validity(), time.Now()); err != nil {
		return nil, nil, err
	}
	key, err = pki.CertificateKeyHash(cert)
	return cert, key, err
}

// admitByLog proposes an admission and returns a catalog in which it has happened. Its token keeps it from happening
// too often, so an unknown outcome is simply asked for again: under the same request, until the time is over.
func (s *Server) admitByLog(ctx context.Context, change catalog.Change, by string) (*catalog.Catalog, error) {
	rev, err := s.propose(ctx, change, by, "")
	if err != nil {
		return nil, err
	}
	return s.cfg.State.Wait(ctx, rev)
}

// renew gives a relay or controller its next certificate, for the key that it was admitted with.
func (s *Server) renew(w http.ResponseWriter, r *http.Request, by caller) error {
	var q api.CertificateRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	c := s.cfg.State.Current()
	id := pki.Identity{Name: by.name}
	var ips []netip.Addr
	switch by.role {
	case relay:
		id.Role = pki.Relay
		if rel, ok := c.Relay(by.relayName()); ok {
			ips = relayIPs(rel)
		}
	case controller:
		id.Role = pki.Controller
		if ctl, ok := c.Controller(by.controllerName()); ok {
			ips = controllerIPs(ctl)
		}
	default:
		return deny(by, r)
	}
	cert, key, err := s.certify(q.CSR, id, ips)
	if err != nil {
		return err
	}
	if !bytes.Equal(key, by.key) {
		return fault.New(fault.Denied, "%s %s asks for a certificate with another key than it was admitted with", by.role, by.name).
			WithFix("renew with the same key; to change it, remove the %s and let it join again", by.role)
	}
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, api.Certificate{Certificate: string(cert)})
	return nil
}

// relayIPs are the addresses that a relay declares, for the certificate.
func relayIPs(r *catalog.Relay) []netip.Addr {
	ips := slices.Clone(r.Addresses)
	for _, hostPort := range []string{r.Mesh, r.Gossip} {
		if ap, err := netip.ParseAddrPort(hostPort); err == nil && !slices.Contains(ips, ap.Addr()) {
			ips = append(ips, ap.Addr())
		}
	}
	return ips[:min(len(ips), maxIPs)]
}

// maxIPs bounds the addresses in a certificate.
const maxIPs = 32

func controllerIPs(c *catalog.Controller) []netip.Addr {
	if ap, err := netip.ParseAddrPort(c.API); err == nil {
		return []netip.Addr{ap.Addr()}
	}
	return nil
}

// endpoints are where the controllers are found.
func endpoints(c *catalog.Catalog) []string {
	var all []string
	for ctl := range c.Controllers() {
		all = append(all, ctl.API)
	}
	return all
}
