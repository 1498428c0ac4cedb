package apiserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/controller/publish"
	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/replication"
)

// solo is a log of one member that orders commands by applying them.
type solo struct {
	mu    sync.Mutex
	state *state.State
	at    uint64
}

func (l *solo) Propose(_ context.Context, command []byte) (uint64, any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at++
	out, err := l.state.Apply([]replication.Entry{{Revision: l.at, Command: command}})
	if err != nil {
		return 0, nil, err
	}
	return l.at, out[0], nil
}

func (l *solo) Sync(context.Context) error { return nil }

func (l *solo) ReadIndex(context.Context) (uint64, error) { return l.at, nil }

func (l *solo) Status() replication.Status {
	m := replication.Member{ID: "c1", Store: "s", Addr: "10.0.0.1:4400", Voter: true}
	return replication.Status{Self: m, Role: replication.Leader, Leader: m, Members: []replication.MemberStatus{{Member: m, Healthy: true}}}
}

func (l *solo) Remove(context.Context, string) error { return nil }

func (l *solo) TransferLeadership(context.Context, string) error { return nil }

// bench is a Server of one controller whose requests need no network.
type bench struct {
	*Server
	t      testing.TB
	header http.Header // that requests have
	told   *told       // holds every answer to the description of the API
	ca     *pki.CA
	c1     *x509.Certificate // of the controller itself
	store  *disk
	log    *solo
}

// disk is a store that can be nearly full.
type disk struct {
	*chunkstore.Mem
	full atomic.Bool
}

// Free tells of a disk of 100 GiB.
func (d *disk) Free() (bytes int64, percent float64, err error) {
	if d.full.Load() {
		return 1 << 30, 1, nil
	}
	return 50 << 30, 50, nil
}

func newBench(t testing.TB) *bench {
	t.Helper()
	ca, err := pki.NewCA("demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	log := &solo{state: state.New()}
	log.state.Attach(log)
	quiet := slog.New(slog.DiscardHandler)
	j, err := journal.New(journal.Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	peers := api.NewClient(api.ClientConfig{
		Endpoints: func() []string { return nil },
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("there is no network here")
		},
	})
	t.Cleanup(peers.Close)
	mem := &disk{Mem: chunkstore.NewMem()}
	keeper := chunks.New(chunks.Config{Self: "c1", Store: mem, Catalog: log.state, Peers: peers, Log: quiet,
		Voters: func() []catalog.ControllerName { return []catalog.ControllerName{"c1"} }})
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	importer, err := publish.New(publish.Config{
		Chunks: keeper.Store(), Key: key, Trust: []byte("{}"), Work: t.TempDir(), Log: quiet,
		Agents: func(string) ([]byte, error) { return []byte("agent"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, told: readDescription(t), ca: ca, store: mem, log: log, Server: New(Config{
		Name: "c1", State: log.state, Log: log, Journal: j, Chunks: keeper, Importer: importer, CA: ca, Mesh: pki.NewMeshSecret(),
		Keys:  func() (map[string][]byte, error) { return map[string][]byte{"k": []byte("v")}, nil },
		Peers: peers, Status: func() api.ControllerStatus { return api.ControllerStatus{Name: "c1"} }, Logger: quiet,
	})}
	b.c1 = b.certificate(pki.Identity{Role: pki.Controller, Name: "c1"})
	b.must(catalog.InitCluster{
		Cluster:    catalog.Cluster{Name: "demo", CA: string(ca.Trust().PEM())},
		Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400", Key: pki.KeyHash(b.c1)},
	})
	b.must(catalog.AddNetwork{Network: catalog.Network{
		Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16"), DHCP: catalog.DHCPAuthoritative, Secrets: catalog.SecretsRelay,
	}})
	b.must(catalog.AddNetwork{Network: catalog.Network{
		Name: "other", Prefix: netip.MustParsePrefix("10.2.0.0/16"), DHCP: catalog.DHCPAuthoritative, Secrets: catalog.SecretsRefuse,
	}})
	return b
}

func (b *bench) must(change catalog.Change) {
	b.t.Helper()
	if _, err := b.propose(b.t.Context(), change, "test", ""); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) csr() []byte {
	_, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		b.t.Fatal(err)
	}
	return csr
}

func (b *bench) certificate(id pki.Identity) *x509.Certificate {
	b.t.Helper()
	cert, err := b.ca.Sign(b.csr(), id, nil, time.Hour, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	return parse(b.t, cert)
}

func parse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// admitRelay puts a relay into the catalog and returns its certificate.
func (b *bench) admitRelay(name, ip string, networks ...catalog.NetworkName) *x509.Certificate {
	b.t.Helper()
	cert := b.certificate(pki.Identity{Role: pki.Relay, Name: name})
	b.must(catalog.AddToken{Token: catalog.Token{
		ID: "t-" + name, Hash: []byte(name), Role: catalog.TokenRelay, Networks: networks, Uses: 1, Expires: time.Now().Add(time.Hour),
	}})
	b.must(catalog.AdmitRelay{Token: "t-" + name, Hash: []byte(name), Relay: newRelay(name, ip, pki.KeyHash(cert))})
	return cert
}

func newRelay(name, ip string, key []byte) catalog.Relay {
	return catalog.Relay{
		Name: catalog.RelayName(name), Addresses: []netip.Addr{netip.MustParseAddr(ip)}, BootPort: api.PortBoot, MeshPort: api.PortMesh,
		Mesh: ip + ":4481", Gossip: ip + ":4482", Key: key,
	}
}

// ask does a request with a certificate; nil is nobody.
func (b *bench) ask(cert *x509.Certificate, method, path string, body any) *httptest.ResponseRecorder {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	cs := &tls.ConnectionState{}
	if cert != nil {
		cs.PeerCertificates = []*x509.Certificate{cert}
	}
	return b.askRaw(cs, method, path, text)
}

func (b *bench) askRaw(cs *tls.ConnectionState, method, path string, body []byte) *httptest.ResponseRecorder {
	path, query, _ := strings.Cut(path, "?")
	return b.send(cs, method, path, query, body)
}

// send does a request; without a connection state it comes from root, through the socket.
func (b *bench) send(cs *tls.ConnectionState, method, path, query string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body)).WithContext(b.t.Context())
	r.URL.RawQuery = query
	if r.TLS = cs; cs == nil {
		r = r.WithContext(context.WithValue(r.Context(), processKey{}, process{0}))
	}
	return b.serve(r, body)
}

// serve answers a request, and holds both to the description.
func (b *bench) serve(r *http.Request, body []byte) *httptest.ResponseRecorder {
	for name, values := range b.header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	b.told.check(b.t, r, body, w)
	return w
}

func addNode(name catalog.NodeName) catalog.Change {
	return catalog.AddNodes{Nodes: []catalog.Node{{Name: name}}}
}

func problemOf(t testing.TB, w *httptest.ResponseRecorder) error {
	t.Helper()
	if w.Code < 300 {
		return nil
	}
	return api.ReadError(w.Code, w.Header().Get("Content-Type"), w.Body.Bytes())
}

// local is a request through the socket, by a user.
func (b *bench) local(uid int, method, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r = r.WithContext(context.WithValue(b.t.Context(), processKey{}, process{uid}))
	return b.serve(r, body)
}

func unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func withPeer(cert *x509.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
}
