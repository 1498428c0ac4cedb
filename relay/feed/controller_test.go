package feed_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/relay/feed"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

const cluster = "demo"

// history is a log of entries and the catalogs that come of it: what all controllers of a cluster share.
type history struct {
	t  *testing.T
	ca *pki.CA

	mu       sync.Mutex
	entries  []api.LogEntry
	catalogs []*catalog.Catalog // after so many entries
	news     chan struct{}
}

func newHistory(t *testing.T) *history {
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := &history{t: t, ca: ca, catalogs: []*catalog.Catalog{{}}, news: make(chan struct{})}
	h.change(catalog.InitCluster{Cluster: catalog.Cluster{Name: cluster}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}})
	h.change(catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16")}})
	secret := sha256.Sum256([]byte("secret"))
	h.change(catalog.AddToken{Token: catalog.Token{ID: "t", Hash: secret[:], Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 100, Expires: time.Now().Add(time.Hour)}})
	h.change(catalog.AdmitRelay{Token: "t", Hash: secret[:], Relay: catalog.Relay{
		Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, BootPort: 4480, MeshPort: 4481, Mesh: "10.1.0.1:4481", Gossip: "10.1.0.1:4482", Key: []byte{1},
	}})
	return h
}

// change appends an entry and returns the catalog that comes of it.
func (h *history) change(c catalog.Change) *catalog.Catalog {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	b, err := catalog.Entry{At: time.Now(), Change: c}.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	last := h.catalogs[len(h.catalogs)-1]
	next, out, err := last.Apply(last.Revision+1, b)
	if err != nil || out.Err != nil {
		h.t.Fatal(err, out.Err)
	}
	h.entries = append(h.entries, api.LogEntry{Revision: next.Revision, Entry: b})
	h.catalogs = append(h.catalogs, next)
	close(h.news)
	h.news = make(chan struct{})
	return next
}

func (h *history) addNode(i int) *catalog.Catalog {
	return h.change(catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(fmt.Sprintf("n%03d", i))}}})
}

func (h *history) latest() *catalog.Catalog {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.catalogs[len(h.catalogs)-1]
}

// controller serves a history, perhaps only its beginning.
type controller struct {
	*history
	name  string
	keep  catalog.Revision // deltas begin after this one; who has less gets a snapshot
	limit catalog.Revision // knows no later revision; 0: all
	lie   atomic.Bool      // deltas claim a wrong state hash
	deny  atomic.Bool      // requests are refused
	shut  atomic.Bool      // handshakes are

	seen    sync.Mutex
	status  []api.RelayStatus
	asked   int
	secrets api.RelaySecrets
	told    int // how often it gave them away
}

// hold makes s the secrets that the controller gives away.
func (c *controller) hold(s api.RelaySecrets) {
	c.seen.Lock()
	defer c.seen.Unlock()
	c.secrets = s
}

func (c *controller) tells() int {
	c.seen.Lock()
	defer c.seen.Unlock()
	return c.told
}

// start serves on a host until the returned function is called.
func (c *controller) start(host *memnet.Host) (stop func()) {
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := c.ca.Sign(csr, pki.Identity{Role: pki.Controller, Name: c.name}, nil, time.Hour*24, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	creds, err := pki.NewCredentials(key, cert, c.ca.Trust().PEM())
	if err != nil {
		c.t.Fatal(err)
	}
	l, err := host.Listen(":4400")
	if err != nil {
		c.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathCatalog, c.serveCatalog)
	mux.HandleFunc("GET "+api.PathSecrets, func(w http.ResponseWriter, r *http.Request) {
		c.seen.Lock()
		s := c.secrets
		c.told++
		c.seen.Unlock()
		api.WriteJSON(w, s)
	})
	mux.HandleFunc("POST "+api.PathRelayStatus, func(w http.ResponseWriter, r *http.Request) {
		var s api.RelayStatus
		if err := api.ReadJSON(w, r, &s); err != nil {
			api.WriteError(w, err)
			return
		}
		c.seen.Lock()
		c.status = append(c.status, s)
		c.seen.Unlock()
	})
	srv := &http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: pki.ServerTLS(pki.NewKeeper(creds), pki.Access{Protocols: []string{api.ALPNHTTP}, Roles: []pki.Role{pki.Relay}, Admit: func(pki.Identity, *x509.Certificate) error {
			if c.shut.Load() {
				return fault.New(fault.Denied, "relay is not admitted")
			}
			return nil
		}}),
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(l, "", "") }()
	return func() { srv.Close(); <-done }
}

func (c *controller) reports() []api.RelayStatus {
	c.seen.Lock()
	defer c.seen.Unlock()
	return c.status
}

func (c *controller) serveCatalog(w http.ResponseWriter, r *http.Request) {
	c.seen.Lock()
	c.asked++
	c.seen.Unlock()
	if c.deny.Load() {
		api.WriteError(w, fault.New(fault.Denied, "relay is not admitted"))
		return
	}
	since, _ := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	deadline := time.After(wait)
	for {
		c.mu.Lock()
		n := len(c.entries)
		if c.limit > 0 {
			n = min(n, int(c.limit))
		}
		entries, now, news := c.entries[:n], c.catalogs[n], c.news
		c.mu.Unlock()
		if since == 0 || catalog.Revision(since) < min(c.keep, now.Revision) {
			w.Header().Set("Content-Type", api.TypeSnapshot)
			now.WriteTo(w)
			return
		}
		d := api.Delta{Revision: now.Revision, Hash: now.Hash, Entries: entries[min(int(since), len(entries)):]}
		if len(d.Entries) > 0 {
			if c.lie.Load() {
				d.Hash[0]++
			}
			w.Header().Set("Content-Type", api.TypeDelta)
			json.NewEncoder(w).Encode(d)
			return
		}
		select {
		case <-news:
		case <-deadline:
			w.Header().Set("Content-Type", api.TypeDelta)
			json.NewEncoder(w).Encode(d)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// setup is what a feed of relay r1 needs.
type setup struct {
	t       *testing.T
	net     *memnet.Network
	host    *memnet.Host
	dir     string
	creds   *pki.Credentials
	clients []*api.Client
}

func newSetup(t *testing.T, h *history, dir string) *setup {
	n := memnet.New(memnet.Config{})
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := h.ca.Sign(csr, pki.Identity{Role: pki.Relay, Name: "r1"}, nil, time.Hour*24, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	creds, err := pki.NewCredentials(key, cert, h.ca.Trust().PEM())
	if err != nil {
		t.Fatal(err)
	}
	return &setup{t: t, net: n, host: n.Host("r1", "10.1.0.1"), dir: dir, creds: creds}
}

func (s *setup) config(endpoints ...string) feed.Config {
	c := api.NewClient(api.ClientConfig{
		Endpoints: func() []string { return endpoints }, Dial: s.host.Dial,
		TLS: pki.ClientTLS(pki.NewKeeper(s.creds), []string{api.ALPNHTTP}, pki.Controller),
	})
	s.clients = append(s.clients, c)
	return feed.Config{Dir: s.dir, Name: "r1", Cluster: cluster, Client: c, Endpoints: func() []string { return endpoints }, Log: slog.New(slog.DiscardHandler)}
}

func (s *setup) open(cfg feed.Config) *feed.Feed {
	s.t.Helper()
	f, err := feed.Open(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// run runs a feed until the returned function is called.
func (s *setup) run(f *feed.Feed) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	return func() {
		cancel()
		<-done
		for _, c := range s.clients {
			c.Close()
		}
	}
}
