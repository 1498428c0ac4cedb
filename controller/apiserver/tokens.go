package apiserver

import (
	"encoding/hex"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Life of a join token.
const (
	usualTTL = time.Hour
	maxTTL   = 30 * 24 * time.Hour
)

// postToken makes a join token. Its text is in this answer and nowhere else.
func (s *Server) postToken(w http.ResponseWriter, r *http.Request, by caller) error {
	var q api.TokenRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	ttl := q.TTL
	if ttl == 0 {
		ttl = usualTTL
	}
	if ttl < 0 || ttl > maxTTL {
		return fault.New(fault.Invalid, "a join token cannot live for %s", q.TTL).WithFix("it may live for up to %s", maxTTL)
	}
	uses := q.Uses
	if uses == 0 {
		uses = 1
	}
	text := pki.NewToken(s.cfg.CA.Fingerprint())
	hash, err := hex.DecodeString(text.Hash())
	if err != nil {
		return fault.Wrap(fault.Internal, err, "hash of a token")
	}
	t := catalog.Token{
		ID: text.ID, Hash: hash, Role: q.Role, Name: q.Name, Rack: q.Rack, Zone: q.Zone, Networks: q.Networks,
		Uses: uses, Expires: time.Now().Add(ttl).Truncate(time.Second).UTC(),
	}
	if _, err := s.propose(r.Context(), catalog.AddToken{Token: t}, by.by, ""); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	api.WriteJSON(w, api.TokenResult{Token: text.Text(), ID: t.ID, Expires: t.Expires, Endpoints: endpoints(s.cfg.State.Current())})
	return nil
}

// getTokens lists the join tokens, without what would help to guess one.
func (s *Server) getTokens(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	tokens := []catalog.Token{}
	for t := range c.Tokens() {
		shown := *t
		shown.Hash = nil
		tokens = append(tokens, shown)
	}
	api.WriteJSON(w, tokens)
	return nil
}
