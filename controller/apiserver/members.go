package apiserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/replication"
)

// getStatus says how this controller is.
func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request, _ caller) error {
	st := s.cfg.Status()
	st.ChunksOut, st.BytesOut = s.served.totals()
	c := s.cfg.State.Current()
	for rel := range c.Relays() {
		seen, ok := s.relays.get(rel.Name)
		if d := seen.status.Time.Sub(seen.at); ok && d.Abs() > catalog.ClockSkew {
			st.Problems = append(st.Problems, "the clock of relay "+string(rel.Name)+" differs by "+d.Round(time.Second).String()+" from the one here")
		}
	}
	setRevision(w, c)
	api.WriteJSON(w, st)
	return nil
}

// getControllers lists the controllers of the catalog as the leader sees them: who answers it, and who has a vote.
func (s *Server) getControllers(w http.ResponseWriter, r *http.Request, by caller) error {
	if st := s.cfg.Log.Status(); r.URL.Query().Get("consistency") != "stale" && st.Role != replication.Leader && !forwarded(r, by) {
		var list api.List[api.ControllerView]
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		if err := s.askLeader(ctx, http.MethodGet, api.PathControllers, by.by, nil, &list); err == nil {
			api.WriteJSON(w, list)
			return nil
		}
	}
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	st := s.cfg.Log.Status()
	members := map[string]replication.MemberStatus{}
	for _, m := range st.Members {
		members[m.ID] = m
	}
	list := api.List[api.ControllerView]{Revision: c.Revision, Items: []api.ControllerView{}}
	for ctl := range c.Controllers() {
		m := members[string(ctl.Name)]
		list.Items = append(list.Items, api.ControllerView{
			Controller: *ctl, Voter: m.Voter, Leader: st.Leader.ID == string(ctl.Name),
			Alive: m.Healthy || ctl.Name == s.cfg.Name,
		})
	}
	api.WriteJSON(w, list)
	return nil
}

// onLeader does something that only the leader can do: here, or by passing the request on. It waits a short while for
// a leader to be there.
func (s *Server) onLeader(r *http.Request, by caller, do func(context.Context) error) error {
	giveUp := time.Now().Add(2 * patience)
	for {
		err := do(r.Context())
		if !errors.Is(err, fault.NotLeader) || forwarded(r, by) { // whoever passed it on looks for the leader
			return err
		}
		err = s.askLeader(r.Context(), r.Method, r.URL.RequestURI(), by.by, nil, nil)
		if k := fault.KindOf(err); k != fault.NotLeader && k != fault.Unavailable || time.Now().After(giveUp) {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
			return err
		}
	}
}

// deleteController takes a controller out of the replicated log, which refuses if the others would be no majority,
// and then out of the catalog.
func (s *Server) deleteController(w http.ResponseWriter, r *http.Request, by caller) error {
	if by.role == controller && !forwarded(r, by) {
		return deny(by, r)
	}
	name, err := catalog.ParseName[catalog.ControllerName]("controller", r.PathValue("name"))
	if err != nil {
		return err
	}
	c, err := s.cfg.State.Fresh(r.Context())
	if err != nil {
		return err
	}
	_, inCatalog := c.Controller(name)
	err = s.onLeader(r, by, func(ctx context.Context) error {
		err := s.cfg.Log.Remove(ctx, string(name))
		if errors.Is(err, fault.NotFound) && inCatalog { // it never came, or an earlier attempt ended in the middle
			err = nil
		}
		if err != nil {
			return err
		}
		_, err = s.propose(ctx, catalog.DeleteController{Name: name}, by.by, "")
		return err
	})
	if err != nil {
		return err
	}
	s.cfg.Logger.Info("controller removed", "controller", name, "by", by.by)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// postLeader hands leadership to the controller ?to=NAME, or to whichever is best.
func (s *Server) postLeader(w http.ResponseWriter, r *http.Request, by caller) error {
	if by.role == controller && !forwarded(r, by) {
		return deny(by, r)
	}
	to := r.URL.Query().Get("to")
	if err := s.onLeader(r, by, func(ctx context.Context) error { return s.cfg.Log.TransferLeadership(ctx, to) }); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
