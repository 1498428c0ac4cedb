package mesh_test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// servePlain starts what answers at a relay's plain port; requests that reach it are noted with a +.
func (l *lab) servePlain(name string, answer http.HandlerFunc) {
	l.t.Helper()
	listener, err := l.host[name].Listen(":4480")
	if err != nil {
		l.t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, name+"+")
		l.mu.Unlock()
		if r.Header.Get("Authorization") != "" {
			l.t.Error("the session was shown over plain HTTP")
		}
		w.Header().Set(api.HeaderRelay, name)
		answer(w, r)
	})}
	go s.Serve(listener)
	l.t.Cleanup(func() { s.Close() })
}

// inSession gives the node a session that says where chunks come in plain.
func (l *lab) inSession() {
	l.mesh.SetSession(api.Session{Token: "session", Relays: []string{"r1:4481", "r2:4481"}, Plain: []string{"r1:4480", "r2:4480"}})
}

func TestChunksComeInPlainAndNothingElse(t *testing.T) {
	bubble(t, func(l *lab) {
		want := bytesOf(1, 100<<10)
		l.servePlain("r1", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(api.HeaderVerifies) == "" {
				l.t.Error("the agent does not say that it verifies")
			}
			sends(want)(w, r)
		})
		l.serve("r1", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer session" {
				l.t.Errorf("shown %q", r.Header.Get("Authorization"))
			}
			w.WriteHeader(http.StatusNoContent)
		})
		l.inSession()
		if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || !bytes.Equal(got, want) {
			l.t.Errorf("%d bytes, %v", len(got), err)
		}
		l.wantReached("a chunk", "r1+")
		if err := l.mesh.Report(l.t.Context(), nil); err != nil {
			l.t.Error(err)
		}
		l.wantReached("events", "r1")
	})
}

// Who answers in plain is nobody in particular. Whatever that is, it costs one request, and never the boot.
func TestAPlainPortThatIsNotTheRelaysIsAskedOnce(t *testing.T) {
	want := bytesOf(1, 100<<10)
	flipped := bytes.Clone(want)
	flipped[5] ^= 1
	for name, answer := range map[string]http.HandlerFunc{
		"wrong bytes":        sends(flipped),
		"more bytes":         sends(append(bytes.Clone(want), 0)),
		"says it is invalid": fails(fault.New(fault.Invalid, "no chunk has such a name")),
		"denies":             denies,
		"a proxy":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) },
		"sends it elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://r3:4480"+r.URL.Path, http.StatusFound)
		},
		"knows no such thing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
	} {
		bubble(t, func(l *lab) {
			l.servePlain("r1", answer)
			l.servePlain("r2", answer)
			l.servePlain("r3", func(http.ResponseWriter, *http.Request) { l.t.Errorf("%s: the redirection was followed", name) })
			l.serve("r1", sends(want))
			l.serve("r2", sends(want))
			l.inSession()
			start := time.Now()
			for range 2 {
				if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || !bytes.Equal(got, want) || time.Since(start) > 3*time.Second {
					l.t.Errorf("%s: %d bytes, %v after %s", name, len(got), err, time.Since(start))
				}
			}
			l.wantReached(name, "r1+", "r2+", "r1", "r1")
		})
	}
}

// A relay that is away, or busy, or has not got a chunk yet, is asked in plain again: encryption would not help.
func TestARelayInTroubleIsNotAskedForEncryption(t *testing.T) {
	want := bytesOf(1, 100<<10)
	for name, first := range map[string]http.HandlerFunc{
		"dies":            breaksOff(want, 1000, func() { panic(http.ErrAbortHandler) }),
		"is busy":         busyFor("1"),
		"has not got it":  fails(fault.New(fault.NotFound, "not here yet")),
		"has not, either": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
	} {
		bubble(t, func(l *lab) {
			tries := 0
			for _, r := range []string{"r1", "r2"} {
				l.servePlain(r, func(w http.ResponseWriter, q *http.Request) {
					if tries++; tries <= 2 {
						first(w, q)
						return
					}
					sends(want)(w, q)
				})
				l.serve(r, sends(want))
			}
			l.inSession()
			if got, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || !bytes.Equal(got, want) {
				l.t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			if got := strings.Join(l.reached(), " "); got != "r1+ r2+ r1+" {
				l.t.Errorf("%s: the requests reached %s", name, got)
			}
		})
	}
}
