package mesh_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// lab is a rack: a node, and relays r1, r2 and r3 that a test gives their behaviour.
type lab struct {
	t    *testing.T
	net  *memnet.Network
	ca   *pki.CA
	host map[string]*memnet.Host
	mesh *mesh.Mesh

	mu    sync.Mutex
	asked []string // relays that a request reached, in order
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("lab", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		l := &lab{t: t, net: memnet.New(memnet.Config{}), ca: ca, host: map[string]*memnet.Host{}}
		for i, name := range []string{"r1", "r2", "r3", "n1"} {
			l.host[name] = l.net.Host(name, fmt.Sprintf("10.0.0.%d", i+1))
		}
		l.mesh = l.newMesh("r1:4481", "r2:4481", "r3:4481")
		f(l)
		l.mesh.Close()
		l.net.Close()
		time.Sleep(time.Minute) // until the last handler has noticed
	})
}

func (l *lab) newMesh(relays ...string) *mesh.Mesh {
	return mesh.New(mesh.Config{Trust: l.ca.Trust(), Relays: relays, Dial: l.host["n1"].Dial, Log: slog.New(slog.DiscardHandler)})
}

// serve starts a relay of the cluster. It notes every request before it answers, and names itself.
func (l *lab) serve(name string, answer http.HandlerFunc) {
	l.t.Helper()
	l.serveAs(name, pki.ServerTLS(credentials(l.t, l.ca, pki.Relay, name), pki.Access{Protocols: []string{api.ALPNHTTP}, Anonymous: true}), answer)
}

func (l *lab) serveAs(name string, cfg *tls.Config, answer http.HandlerFunc) {
	l.t.Helper()
	listener, err := l.host[name].Listen(":4481")
	if err != nil {
		l.t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, name)
		l.mu.Unlock()
		w.Header().Set(api.HeaderRelay, name)
		answer(w, r)
	})}
	go s.Serve(tls.NewListener(listener, cfg))
	l.t.Cleanup(func() { s.Close() })
}

func credentials(t *testing.T, ca *pki.CA, role pki.Role, name string) *pki.Keeper {
	t.Helper()
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, pki.Identity{Role: role, Name: name}, nil, role.Validity(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, cert, ca.Trust().PEM())
	if err != nil {
		t.Fatal(err)
	}
	return pki.NewKeeper(c)
}

// reached returns the relays that requests have reached since it was asked last.
func (l *lab) reached() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.asked
	l.asked = nil
	return was
}

func (l *lab) wantReached(what string, want ...string) {
	l.t.Helper()
	if got := l.reached(); !slices.Equal(got, want) {
		l.t.Errorf("%s: the requests reached %v, want %v", what, got, want)
	}
}

// The ways in which a relay answers.

func fails(err error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { api.WriteError(w, err) }
}

func sends(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }
}

// breaksOff promises the content and sends some of it before it does what breaks it off.
func breaksOff(content []byte, after int, how func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:after])
		_ = http.NewResponseController(w).Flush()
		how()
		<-r.Context().Done()
	}
}

var (
	denies  = fails(fault.New(fault.Denied, "not you"))
	busyFor = func(seconds string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", seconds)
			api.WriteError(w, fault.New(fault.Unavailable, "too many at once"))
		}
	}
)
