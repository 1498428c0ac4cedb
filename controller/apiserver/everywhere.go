package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Chunks are each controller's own: what is asked about all of them is asked of every controller.

// postCollect deletes what nothing needs any more, on every controller.
func (s *Server) postCollect(w http.ResponseWriter, r *http.Request, by caller) error {
	var q api.CollectRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	if q.Grace < 0 || q.Grace > int64(365*24*time.Hour/time.Second) {
		return fault.New(fault.Invalid, "a grace of %d seconds is not between none and a year", q.Grace)
	}
	list := everywhere(s, r, by, api.PathCollect, q,
		func(a api.CollectResult) []api.Collected { return a.Controllers },
		func(ctx context.Context) (api.Collected, error) {
			// Here the change that let go of a version may not have arrived, nor the one that names chunks that were pushed here.
			if _, err := s.cfg.State.Fresh(ctx); err != nil {
				return api.Collected{}, err
			}
			out, err := s.cfg.Chunks.Collect(ctx, chunks.CollectOptions{Grace: time.Duration(q.Grace) * time.Second, DryRun: q.DryRun})
			return api.Collected{Controller: s.cfg.Name, Chunks: out.Chunks, Bytes: out.Bytes}, err
		},
		func(name catalog.ControllerName, err error) api.Collected {
			return api.Collected{Controller: name, Error: new(api.ProblemOf(err))}
		})
	slices.SortFunc(list, func(a, b api.Collected) int { return strings.Compare(string(a.Controller), string(b.Controller)) })
	api.WriteJSON(w, api.CollectResult{Controllers: list})
	return nil
}

// postVerify holds what every controller has of a version against its manifest.
func (s *Server) postVerify(w http.ResponseWriter, r *http.Request, by caller) error {
	var q api.VerifyRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	list := everywhere(s, r, by, api.PathVerify, q,
		func(a api.VerifyResult) []api.Verified { return a.Controllers },
		func(ctx context.Context) (api.Verified, error) {
			out, err := s.cfg.Chunks.Verify(ctx, q.Manifest, q.Deep)
			return api.Verified{
				Controller: s.cfg.Name, Chunks: out.Chunks, Bytes: out.Bytes,
				Missing: len(out.Missing), Damaged: len(out.Damaged), Repaired: len(out.Repaired),
			}, err
		},
		func(name catalog.ControllerName, err error) api.Verified {
			return api.Verified{Controller: name, Error: new(api.ProblemOf(err))}
		})
	slices.SortFunc(list, func(a, b api.Verified) int { return strings.Compare(string(a.Controller), string(b.Controller)) })
	api.WriteJSON(w, api.VerifyResult{Controllers: list})
	return nil
}

// everywhere answers a question here and, for an operator, asks it of all other controllers, too. One that does not
// answer is in the list with the reason.
func everywhere[A, E any](s *Server, r *http.Request, by caller, path string, q any, of func(A) []E,
	here func(context.Context) (E, error), failed func(catalog.ControllerName, error) E) []E {
	var mu sync.Mutex
	var list []E
	add := func(e ...E) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, e...)
	}
	var g sync.WaitGroup
	g.Go(func() {
		e, err := here(r.Context())
		if err != nil {
			e = failed(s.cfg.Name, err)
		}
		add(e)
	})
	if by.role != controller {
		for peer := range s.cfg.State.Current().Controllers() {
			if peer.Name == s.cfg.Name {
				continue
			}
			g.Go(func() {
				var a A
				if err := s.askPeer(r.Context(), peer.API, path, q, &a); err != nil {
					add(failed(peer.Name, err))
					return
				}
				add(of(a)...)
			})
		}
	}
	g.Wait()
	return list
}

// askPeer puts a question to another controller.
func (s *Server) askPeer(ctx context.Context, endpoint, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	a, err := s.cfg.Peers.DoAt(ctx, endpoint, api.Request{
		Method: http.MethodPost, Path: path, Size: int64(len(body)), Reads: true, Header: http.Header{"Content-Type": {"application/json"}},
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if err := json.NewDecoder(io.LimitReader(a.Body, api.MaxRequest)).Decode(out); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the answer of %s broke off", endpoint)
	}
	return nil
}
