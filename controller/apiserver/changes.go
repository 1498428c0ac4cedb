package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// notDirect are the changes that nobody may ask for by themselves: each is part of something that a path of its own
// does as a whole. Controllers may, for they pass on what such a path does to the leader.
var notDirect = map[string]string{
	"cluster.init":      "a cluster is made once, by its first controller",
	"image.put":         "an image is made by importing it: wulf image import",
	"overlay.put":       "an overlay is made by importing it: wulf overlay import",
	"overlay.ship":      "what comes with wulfmesh is brought by the controllers",
	"file.put":          "a site file is put with its content: wulf file put",
	"relay.admit":       "a relay joins with a token: wulf relay join",
	"controller.admit":  "a controller joins with a token: wulf controller join",
	"controller.delete": "a controller leaves the replicated log, too: wulf controller remove",
}

// postChange makes a change, here if this controller leads, else through the one that does.
func (s *Server) postChange(w http.ResponseWriter, r *http.Request, by caller) error {
	var q api.ChangeRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	if err := demand(r, &q); err != nil {
		return err
	}
	p, err := s.proposal(q, by)
	if err != nil {
		return err
	}
	if q.DryRun {
		c, err := s.cfg.State.Fresh(r.Context())
		if err != nil {
			return err
		}
		preview, err := s.cfg.State.Preview(p)
		if err != nil {
			return err
		}
		setRevision(w, c)
		api.WriteJSON(w, api.ChangeResult{Revision: c.Revision, Preview: preview})
		return nil
	}
	var rev catalog.Revision
	if forwarded(r, by) {
		rev, err = s.cfg.State.Propose(r.Context(), p) // once: the controller that passed it on looks for the leader
	} else {
		rev, err = s.submit(r.Context(), p)
	}
	if err != nil {
		return err
	}
	c := s.cfg.State.Current()
	setRevision(w, c)
	api.WriteJSON(w, resultOf(c, rev, p.By))
	return nil
}

// resultOf is the answer to a change that happened.
func resultOf(c *catalog.Catalog, rev catalog.Revision, by string) api.ChangeResult {
	out := api.ChangeResult{Revision: rev, By: by}
	if rec, ok := c.RecordOf(rev); ok && rec.Undo != nil {
		out.Undo = rev - 1
	}
	return out
}

// proposal makes a proposal of a request, which is not trusted. Secrets that came in clear are sealed in it.
func (s *Server) proposal(q api.ChangeRequest, by caller) (state.Proposal, error) {
	change, err := catalog.DecodeChange(q.Kind, q.Change)
	if err != nil {
		return state.Proposal{}, err
	}
	if err := direct(change, by); err != nil {
		return state.Proposal{}, err
	}
	if change, err = catalog.SealSecrets(change, s.cfg.Mesh.Vault().Seal); err != nil {
		return state.Proposal{}, err
	}
	change = s.withAuthorities(change)
	return state.Proposal{
		Change: change, By: by.by, Request: cmp.Or(q.Request, rand.Text()), If: q.If, At: time.Now(), Message: q.Message,
	}, nil
}

// direct refuses what the caller may not ask for by itself, in a batch neither.
func direct(change catalog.Change, by caller) error {
	if by.role == controller {
		return nil
	}
	if b, ok := change.(catalog.Batch); ok {
		for _, s := range b.Changes {
			if err := direct(s.Change, by); err != nil {
				return err
			}
		}
		return nil
	}
	kind := catalog.KindOf(change)
	if why, is := notDirect[kind]; is {
		return fault.New(fault.Denied, "%s cannot be asked for by itself", kind).WithFix("%s", why)
	}
	return nil
}

// propose submits a change that this controller makes for a caller. Hours of work may hang on it, so it settles an
// unknown outcome, and waits for a leader longer than a person would.
func (s *Server) propose(ctx context.Context, change catalog.Change, by, message string) (catalog.Revision, error) {
	p := state.Proposal{Change: change, By: by, Request: rand.Text(), At: time.Now(), Message: message}
	giveUp := time.Now().Add(5 * patience)
	for {
		rev, err := s.submit(ctx, p)
		if !errors.Is(err, fault.Unknown) || time.Now().After(giveUp) || ctx.Err() != nil {
			return rev, err
		}
	}
}

// submit brings a proposal to the leader, wherever that is, and waits a short while for one to be there. The answers
// are those of state.Propose. When it returns a revision, this controller has reached it if it can in time: who
// writes here and then reads here, stale or not, finds what was written.
func (s *Server) submit(ctx context.Context, p state.Proposal) (catalog.Revision, error) {
	giveUp := time.Now().Add(patience)
	for {
		rev, err := s.cfg.State.Propose(ctx, p)
		if errors.Is(err, fault.NotLeader) {
			rev, err = s.forward(ctx, p)
		}
		switch kind := fault.KindOf(err); {
		case err == nil:
			s.catchUp(ctx, rev)
			return rev, nil
		case kind != fault.NotLeader && kind != fault.Unavailable, time.Now().After(giveUp):
			return 0, err
		}
		select { // it certainly was not ordered; an election may be under way
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// catchUp waits until this controller has a revision. That it does not in time is no failure: the write happened.
func (s *Server) catchUp(ctx context.Context, rev catalog.Revision) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = s.cfg.State.Wait(ctx, rev)
}

// forward asks the leader for the change, in the name of whom it was asked for.
func (s *Server) forward(ctx context.Context, p state.Proposal) (catalog.Revision, error) {
	change, err := json.Marshal(p.Change)
	if err != nil {
		return 0, fault.Wrap(fault.Internal, err, "encoding the change")
	}
	body, err := json.Marshal(api.ChangeRequest{Request: p.Request, If: p.If, Message: p.Message, Kind: catalog.KindOf(p.Change), Change: change})
	if err != nil {
		return 0, fault.Wrap(fault.Internal, err, "encoding the change")
	}
	var out api.ChangeResult
	err = s.askLeader(ctx, http.MethodPost, api.PathChanges, p.By, body, &out)
	return out.Revision, err
}

// askLeader sends a request to the leader in somebody's name and reads the answer into out, which may be nil.
// Without a leader it is fault.Unavailable; fault.NotLeader if this controller is it.
func (s *Server) askLeader(ctx context.Context, method, path, by string, body []byte, out any) error {
	st := s.cfg.Log.Status()
	if st.Leader.ID == "" {
		return fault.New(fault.Unavailable, "no controller leads at the moment").
			WithFix("see which controllers are missing: wulf controller list --stale")
	}
	if st.Leader.ID == string(s.cfg.Name) {
		return fault.New(fault.NotLeader, "this controller has just become the leader")
	}
	a, err := s.cfg.Peers.DoAt(ctx, st.Leader.Addr, api.Request{
		Method: method, Path: path, Size: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/json"}, api.HeaderBy: {by}},
		Body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	})
	if errors.Is(err, fault.Denied) && s.expelled(ctx, st.Leader.Addr) {
		return fault.New(fault.Unavailable, "controller %s was removed from the cluster", s.cfg.Name).WithFix("use another controller, and stop this one")
	}
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, api.MaxRequest)).Decode(out); err != nil {
		return fault.Wrap(fault.Unknown, err, "the answer of the leader broke off; the request was probably carried out")
	}
	return nil
}

// expelled tells whether the leader does not take this controller for a member any more. What it denies then, it denies
// to this controller and not to whom the request comes from, who may well ask another one.
func (s *Server) expelled(ctx context.Context, leader string) bool {
	a, err := s.cfg.Peers.DoAt(ctx, leader, api.Request{Method: http.MethodGet, Path: api.PathReadPoint})
	if err == nil {
		a.Body.Close()
	}
	return errors.Is(err, fault.Denied)
}

// getReadPoint tells another controller up to where it must be to answer a linearizable read.
func (s *Server) getReadPoint(w http.ResponseWriter, r *http.Request, _ caller) error {
	rev, err := s.cfg.Log.ReadIndex(r.Context())
	if err != nil {
		return err
	}
	api.WriteJSON(w, api.ReadPoint{Revision: catalog.Revision(rev)})
	return nil
}
