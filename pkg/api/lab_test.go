package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// lab is a network with three controllers, whose behaviour a test decides, and clients that know all three.
type lab struct {
	t     *testing.T
	net   *memnet.Network
	hosts map[string]*memnet.Host
	tls   *tls.Config // of the controllers

	client *api.Client

	mu    sync.Mutex
	asked []string // names of the controllers that a request reached, in order
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, net: memnet.New(memnet.Config{}), hosts: map[string]*memnet.Host{}, tls: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}}
		for i, name := range []string{"c1", "c2", "c3", "admin"} {
			l.hosts[name] = l.net.Host(name, fmt.Sprintf("10.0.0.%d", i+1))
		}
		l.client = l.newClient(nil)
		defer l.net.Close()
		defer l.client.Close()
		f(l)
	})
}

// newClient makes a client; verify, if there is one, has the say on whom it speaks to.
func (l *lab) newClient(verify func(tls.ConnectionState) error) *api.Client {
	return api.NewClient(api.ClientConfig{
		Endpoints: func() []string { return []string{"c1:4400", "c2:4400", "c3:4400"} },
		TLS:       &tls.Config{InsecureSkipVerify: true, VerifyConnection: verify}, // who may speak to whom is pkg/pki's business
		Dial:      l.hosts["admin"].Dial,
	})
}

func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve starts a controller; it notes every request before it answers.
func (l *lab) serve(name string, answer http.HandlerFunc) {
	l.t.Helper()
	listener, err := l.hosts[name].Listen(":4400")
	if err != nil {
		l.t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, name)
		l.mu.Unlock()
		answer(w, r)
	})}
	go s.Serve(tls.NewListener(listener, l.tls))
	l.t.Cleanup(func() { s.Close() })
}

// reached returns the controllers that requests have reached since it was asked last.
func (l *lab) reached() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.asked
	l.asked = nil
	return was
}

func (l *lab) wantReached(want ...string) {
	l.t.Helper()
	if got := l.reached(); !slices.Equal(got, want) {
		l.t.Errorf("the request reached %v, want %v", got, want)
	}
}

// The ways in which a controller answers.

func fails(err error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { api.WriteError(w, err) }
}

func says(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { api.WriteJSON(w, v) }
}

// dies reads the request and closes the connection without a word.
func dies(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// hangs reads the request and answers never.
func hangs(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// breaksOff announces an answer and closes the connection in the middle of it.
func breaksOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"revision":`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
