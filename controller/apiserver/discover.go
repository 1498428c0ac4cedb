package apiserver

import (
	"net/http"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
)

// getDiscover lists the machines of the inbox, and what becomes of them: what this controller has heard, in the light of
// what is declared.
func (s *Server) getDiscover(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	return writeList(w, c.Revision, slices.Values(discover.Look(c, c.OrderedRules(), s.cfg.Journal.Inbox(), time.Now())))
}

// getDiscoverRules lists the rules, in the order in which they are asked.
func (s *Server) getDiscoverRules(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	if unchanged(w, r, tagOf(c)) {
		return nil
	}
	return writeList(w, c.Revision, func(yield func(catalog.DiscoverRule) bool) {
		for _, rule := range c.OrderedRules() {
			if !yield(*rule) {
				return
			}
		}
	})
}

// postDiscoverTry says what a rule would make of the machines of the inbox, if it were the only one. It changes nothing.
func (s *Server) postDiscoverTry(w http.ResponseWriter, r *http.Request, by caller) error {
	var q api.TryRule
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	now := time.Now()
	if _, err := s.cfg.State.Preview(state.Proposal{Change: catalog.PutDiscoverRule{Rule: q.Rule}, By: by.by, At: now}); err != nil {
		return err
	}
	return writeList(w, c.Revision, slices.Values(discover.Look(c, []*catalog.DiscoverRule{&q.Rule}, s.cfg.Journal.Inbox(), now)))
}
