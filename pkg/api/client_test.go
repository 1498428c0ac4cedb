package api_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestAClientGoesToTheNextControllerAndStaysThere(t *testing.T) {
	for name, first := range map[string]func(l *lab){
		"refuses connections": func(l *lab) {},
		"has no leader":       func(l *lab) { l.serve("c1", fails(fault.New(fault.NotLeader, "c2 is it"))) },
		"is starting":         func(l *lab) { l.serve("c1", fails(fault.New(fault.Unavailable, "in a moment"))) },
		"dies while it reads": func(l *lab) { l.serve("c1", dies) },
	} {
		bubble(t, func(l *lab) {
			first(l)
			l.serve("c2", says(map[string]string{"by": "c2"}))
			for range 2 {
				var got map[string]string
				if err := l.client.Get(l.t.Context(), api.PathStatus, &got); err != nil || got["by"] != "c2" {
					t.Errorf("%s: got %v, %v", name, got, err)
				}
			}
			if got := l.reached(); len(got) < 2 || strings.Join(got[len(got)-2:], " ") != "c2 c2" {
				t.Errorf("%s: the requests reached %v; the second should have gone to c2 at once", name, got)
			}
		})
	}
}

// What one controller says about the request itself, the others would say too.
func TestARefusalIsTheAnswer(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Invalid, fault.NotFound, fault.Conflict, fault.Denied, fault.Corrupt, fault.Full, fault.Internal} {
		bubble(t, func(l *lab) {
			for _, c := range []string{"c1", "c2"} {
				l.serve(c, fails(fault.New(kind, "no").WithFix("do this")))
			}
			err := l.client.Get(l.t.Context(), api.PathStatus, new(any))
			if !errors.Is(err, kind) || err.Error() != "no" || fault.Fix(err) != "do this" {
				t.Errorf("got %v", err)
			}
			l.wantReached("c1")
		})
	}
}

func TestWithoutAControllerTheFaultSaysSo(t *testing.T) {
	bubble(t, func(l *lab) {
		if err := l.client.Get(l.t.Context(), api.PathStatus, new(any)); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "c3:4400 does not answer") {
			t.Errorf("got %v", err)
		}
		nobody := api.NewClient(api.ClientConfig{Endpoints: func() []string { return nil }})
		if err := nobody.Get(l.t.Context(), api.PathStatus, new(any)); !errors.Is(err, fault.Unavailable) || fault.Fix(err) == "" {
			t.Errorf("got %v", err)
		}
	})
}

// A write that may have been carried out is not sent again, but one that cannot have been is.
func TestPostIsSentOnceAtMost(t *testing.T) {
	for name, tc := range map[string]struct {
		first   func(l *lab)
		kind    fault.Kind // "": it succeeds, at c2
		reached []string
	}{
		"refuses connections":   {func(l *lab) {}, "", []string{"c2"}},
		"never shakes hands":    {func(l *lab) { l.mute("c1") }, "", []string{"c2"}},
		"is no leader":          {func(l *lab) { l.serve("c1", fails(fault.New(fault.NotLeader, "c2 is it"))) }, "", []string{"c1", "c2"}},
		"dies":                  {func(l *lab) { l.serve("c1", dies) }, fault.Unknown, []string{"c1"}},
		"breaks off":            {func(l *lab) { l.serve("c1", breaksOff) }, fault.Unknown, []string{"c1"}},
		"does not know either":  {func(l *lab) { l.serve("c1", fails(fault.New(fault.Unknown, "the leader is gone"))) }, fault.Unknown, []string{"c1"}},
		"refuses":               {func(l *lab) { l.serve("c1", fails(fault.New(fault.Denied, "not you"))) }, fault.Denied, []string{"c1"}},
		"takes it and is stuck": {func(l *lab) { l.serve("c1", hangs) }, fault.Unknown, []string{"c1"}},
	} {
		bubble(t, func(l *lab) {
			tc.first(l)
			l.serve("c2", says(api.TokenResult{ID: "t"}))
			var got api.TokenResult
			err := l.client.Post(l.t.Context(), api.PathTokens, api.TokenRequest{Role: "relay"}, &got)
			if fault.KindOf(err) != tc.kind || tc.kind == "" && got.ID != "t" {
				t.Errorf("%s: got %+v, %v; want %q", name, got, err, tc.kind)
			}
			l.wantReached(tc.reached...)
		})
	}
}

// mute makes a controller that takes connections and says nothing.
func (l *lab) mute(name string) {
	listener, err := l.hosts[name].Listen(":4400")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { listener.Close() })
}

// Neither a switch that died nor a process that hangs may hold a reader up for long.
func TestAHungControllerCostsABoundedTime(t *testing.T) {
	for name, tc := range map[string]struct {
		first func(l *lab)
		most  time.Duration
	}{
		"never shakes hands": {func(l *lab) { l.mute("c1") }, 11 * time.Second},
		"never answers":      {func(l *lab) { l.serve("c1", hangs) }, 46 * time.Second},
		"is cut off":         {func(l *lab) { l.serve("c1", says(1)); l.net.Stall("c1") }, 31 * time.Second}, // memnet's own dial time; the system's dialer has 5 s here
		"is cut off while connected": {func(l *lab) {
			l.serve("c1", says(1))
			if err := l.client.Get(l.t.Context(), api.PathStatus, new(any)); err != nil {
				l.t.Error(err)
			}
			l.net.Stall("c1")
		}, 46 * time.Second},
	} {
		bubble(t, func(l *lab) {
			tc.first(l)
			l.serve("c2", says(1))
			l.reached()
			start := time.Now()
			err := l.client.Get(l.t.Context(), api.PathStatus, new(any))
			if took := time.Since(start); err != nil || took > tc.most {
				t.Errorf("%s: %v after %s, want less than %s", name, err, took, tc.most)
			}
			l.net.Heal()
		})
	}
}

func TestTheEndOfTheContextIsTheEnd(t *testing.T) {
	bubble(t, func(l *lab) {
		for _, c := range []string{"c1", "c2"} {
			l.serve(c, hangs)
		}
		for name, tc := range map[string]struct {
			end  func() (context.Context, context.CancelFunc)
			kind fault.Kind
		}{
			"time is over": {func() (context.Context, context.CancelFunc) { return context.WithTimeout(l.t.Context(), time.Second) }, fault.Timeout},
			"given up": {func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(l.t.Context())
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			}, fault.Unavailable},
		} {
			ctx, cancel := tc.end()
			start := time.Now()
			err := l.client.Get(ctx, api.PathStatus, new(any))
			if !errors.Is(err, tc.kind) || time.Since(start) > 2*time.Second {
				t.Errorf("%s: reading: %v after %s", name, err, time.Since(start))
			}
			cancel()
			l.wantReached("c1")
			ctx, cancel = tc.end()
			if err := l.client.Post(ctx, api.PathTokens, 1, nil); !errors.Is(err, fault.Unknown) {
				t.Errorf("%s: writing: %v, though it may have been done", name, err)
			}
			cancel()
			l.wantReached("c1")
		}
	})
}

// A certificate is refused on either side before anything can have happened: that is no unknown outcome.
func TestARefusedCertificateIsDenied(t *testing.T) {
	bubble(t, func(l *lab) {
		l.tls.ClientAuth = tls.RequireAnyClientCert
		l.serve("c1", says(1))
		if err := l.client.Post(l.t.Context(), api.PathTokens, 1, nil); !errors.Is(err, fault.Denied) || fault.Fix(err) == "" {
			t.Errorf("a client without a certificate: %v", err)
		}
		wary := l.newClient(func(tls.ConnectionState) error { return fault.New(fault.Denied, "of another cluster") })
		if err := wary.Post(l.t.Context(), api.PathTokens, 1, nil); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "of another cluster") {
			t.Errorf("a server of another cluster: %v", err)
		}
		l.wantReached()
	})
}

func TestAnErrorIsReadWithinBounds(t *testing.T) {
	bubble(t, func(l *lab) {
		l.serve("c1", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", api.TypeProblem)
			w.WriteHeader(http.StatusConflict)
			for {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		})
		if err := l.client.Get(l.t.Context(), api.PathStatus, new(any)); err == nil {
			t.Error("no error")
		}
	})
}

func TestAnAnswerWithoutItsEndIsNotTaken(t *testing.T) {
	bubble(t, func(l *lab) {
		l.serve("c1", breaksOff)
		if err := l.client.Get(l.t.Context(), api.PathStatus, new(any)); !errors.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
	})
}

// history is the controllers' replicated log, as far as a client sees it: a request's name is applied once.
type history struct {
	mu      sync.Mutex
	applied map[string]catalog.Revision
	seen    []api.ChangeRequest
}

func (g *history) apply(r *http.Request) catalog.Revision {
	g.mu.Lock()
	defer g.mu.Unlock()
	var q api.ChangeRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return 0
	}
	g.seen = append(g.seen, q)
	if _, ok := g.applied[q.Request]; !ok {
		g.applied[q.Request] = catalog.Revision(100 + len(g.applied))
	}
	return g.applied[q.Request]
}

func (g *history) answers(w http.ResponseWriter, r *http.Request) {
	api.WriteJSON(w, api.ChangeResult{Revision: g.apply(r)})
}

var change = catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}

func TestAChangeIsMadeOnceThoughItIsAskedForAgain(t *testing.T) {
	for name, first := range map[string]func(*history) http.HandlerFunc{
		"dies after it applied": func(g *history) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) { g.apply(r); panic(http.ErrAbortHandler) }
		},
		"dies before it applied": func(g *history) http.HandlerFunc { return dies },
		"breaks off in its answer": func(g *history) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { g.apply(r); breaksOff(w, r) }
		},
		"lost the leader while it did": func(g *history) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				g.apply(r)
				api.WriteError(w, fault.New(fault.Unknown, "the leader is gone"))
			}
		},
	} {
		bubble(t, func(l *lab) {
			g := &history{applied: map[string]catalog.Revision{}}
			answer := first(g)
			var once sync.Once
			l.serve("c1", func(w http.ResponseWriter, r *http.Request) {
				failed := false
				once.Do(func() { failed = true })
				if failed {
					answer(w, r)
					return
				}
				g.answers(w, r)
			})
			l.serve("c2", g.answers)
			rev, err := l.client.Change(l.t.Context(), change, api.ChangeOptions{If: 7, DryRun: true})
			if err != nil || rev != 100 || len(g.applied) != 1 {
				t.Errorf("%s: revision %d, %v; %d requests were applied", name, rev, err, len(g.applied))
			}
			for _, q := range g.seen {
				if q.Request != g.seen[0].Request || q.Kind != "node.delete" || q.If != 7 || !q.DryRun || string(q.Change) != `{"nodes":"n1"}` {
					t.Errorf("%s: asked for %+v", name, q)
				}
			}
			if rev, err := l.client.Change(l.t.Context(), change, api.ChangeOptions{}); err != nil || rev != 101 {
				t.Errorf("%s: the next change: revision %d, %v", name, rev, err)
			}
		})
	}
}

func TestAChangeWaitsForALeader(t *testing.T) {
	bubble(t, func(l *lab) {
		g := &history{applied: map[string]catalog.Revision{}}
		elected := time.Now().Add(20 * time.Second)
		for _, c := range []string{"c1", "c2", "c3"} {
			l.serve(c, func(w http.ResponseWriter, r *http.Request) {
				if time.Now().Before(elected) {
					api.WriteError(w, fault.New(fault.NotLeader, "there is no leader"))
					return
				}
				g.answers(w, r)
			})
		}
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
		defer cancel()
		rev, err := l.client.Change(ctx, change, api.ChangeOptions{})
		if late := time.Since(elected); err != nil || rev != 100 || late > 3*time.Second {
			t.Errorf("revision %d, %v, %s after the election", rev, err, late)
		}
		if asked := len(l.reached()); asked > 60 {
			t.Errorf("it asked %d times in 20 seconds", asked)
		}
	})
}

func TestARejectedChangeIsNotRepeated(t *testing.T) {
	bubble(t, func(l *lab) {
		l.serve("c1", fails(fault.New(fault.Conflict, "the catalog has changed")))
		l.serve("c2", says(api.ChangeResult{Revision: 1}))
		if _, err := l.client.Change(l.t.Context(), change, api.ChangeOptions{}); !errors.Is(err, fault.Conflict) {
			t.Errorf("got %v", err)
		}
		l.wantReached("c1")
	})
}

// An error of Change that is neither unknown nor a time-out says that nothing has happened. So it must not be said
// when something may have, whoever else could not be reached afterwards.
func TestAChangeThatMayHaveHappenedIsUnknown(t *testing.T) {
	for name, tc := range map[string]struct {
		c1       http.HandlerFunc // nil: nobody there
		definite bool             // nothing can have happened
	}{
		"nobody is there":    {nil, true},
		"nobody leads":       {fails(fault.New(fault.NotLeader, "there is no leader")), true},
		"c1 dies of it":      {dies, false},
		"c1 breaks off":      {breaksOff, false},
		"c1 hangs":           {hangs, false},
		"c1 does not know":   {fails(fault.New(fault.Unknown, "?")), false},
		"c1 ran out of time": {fails(fault.New(fault.Timeout, "no majority answered")), false},
	} {
		for _, end := range []string{"deadline", "cancel"} {
			bubble(t, func(l *lab) {
				if tc.c1 != nil {
					l.serve("c1", tc.c1)
				}
				ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
				defer cancel()
				if end == "cancel" {
					ctx, cancel = context.WithCancel(l.t.Context())
					time.AfterFunc(5*time.Second, cancel)
				}
				start := time.Now()
				_, err := l.client.Change(ctx, change, api.ChangeOptions{})
				if took := time.Since(start); took > 6*time.Second {
					t.Errorf("%s: %s: %v after %s", name, end, err, took)
				}
				if got := !errors.Is(err, fault.Unknown); err == nil || got != tc.definite {
					t.Errorf("%s: %s: %s (%v); nothing can have happened: %v", name, end, fault.KindOf(err), err, tc.definite)
				}
				if !tc.definite && fault.Fix(err) == "" {
					t.Errorf("%s: %s: %v has no fix", name, end, err)
				}
			})
		}
	}
}

func TestASocketIsAnEndpoint(t *testing.T) {
	dir, err := os.MkdirTemp("", "A b_%") // what a host name could not hold
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "Controller.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { api.WriteJSON(w, r.URL.Path) })}
	go s.Serve(listener)
	defer s.Close()
	c := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + path + ".not", api.UnixScheme + path} }})
	defer c.Close()
	var got string
	if err := c.Get(t.Context(), api.PathStatus, &got); err != nil || got != api.PathStatus {
		t.Errorf("got %q, %v", got, err)
	}
}
