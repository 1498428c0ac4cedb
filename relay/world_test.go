package relay_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/relay"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// world is a network with one small controller, which has all that relays ask of one, and real relays.
type world struct {
	t        *testing.T
	net      *memnet.Network
	ca       *pki.CA
	mesh     pki.MeshSecret
	key      ed25519.PrivateKey
	hosts    map[string]*memnet.Host
	running  map[string]func() // ends it
	cleaning []func()
	validity time.Duration // of relays' certificates
	withhold bool          // relays may not hold the network's secrets

	mu       sync.Mutex
	catalogs []*catalog.Catalog // of revisions 0, 1, …
	entries  []api.LogEntry
	news     chan struct{}
	chunks   map[chunk.ID][]byte
	sent     map[chunk.ID]int
	events   []boot.Event
	status   map[catalog.RelayName]api.RelayStatus
}

const controllerAddr = "10.0.0.1:4400"

func inWorld(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		n.Segment("rack", "10.1.0.0/16")
		w := &world{t: t, net: n, validity: pki.Relay.Validity(), mesh: pki.NewMeshSecret(), hosts: map[string]*memnet.Host{}, running: map[string]func(){},
			catalogs: []*catalog.Catalog{{}}, news: make(chan struct{}), chunks: map[chunk.ID][]byte{}, sent: map[chunk.ID]int{}, status: map[catalog.RelayName]api.RelayStatus{}}
		var err error
		if w.ca, err = pki.NewCA("demo", time.Now()); err != nil {
			t.Fatal(err)
		}
		_, w.key, _ = ed25519.GenerateKey(nil)
		w.change(catalog.InitCluster{
			Cluster:    catalog.Cluster{Name: "demo", CA: string(w.ca.Trust().PEM()), ManifestKeys: [][]byte{w.key.Public().(ed25519.PublicKey)}},
			Controller: catalog.Controller{Name: "c1", API: controllerAddr},
		})
		w.change(catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16"),
			Pool: catalog.Range{First: netip.MustParseAddr("10.1.200.1"), Last: netip.MustParseAddr("10.1.200.99")}}})
		w.startController()
		defer func() {
			for _, stop := range w.running {
				stop()
			}
			for _, f := range w.cleaning {
				f()
			}
			synctest.Wait()
			if open := n.Open(); len(open) > 0 {
				t.Errorf("left open: %q", open)
			}
		}()
		f(w)
	})
}

func (w *world) change(c catalog.Change) {
	w.t.Helper()
	b, err := catalog.Entry{At: time.Now(), Change: c}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.catalogs[len(w.catalogs)-1]
	next, out, err := last.Apply(last.Revision+1, b)
	if err != nil || out.Err != nil {
		w.t.Fatal(err, out.Err)
	}
	w.entries = append(w.entries, api.LogEntry{Revision: next.Revision, Entry: b})
	w.catalogs = append(w.catalogs, next)
	close(w.news)
	w.news = make(chan struct{})
}

func (w *world) catalog() *catalog.Catalog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.catalogs[len(w.catalogs)-1]
}

func (w *world) credentials(id pki.Identity) *pki.Credentials {
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := w.ca.Sign(csr, id, nil, 30*24*time.Hour, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := pki.NewCredentials(key, cert, w.ca.Trust().PEM())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) host(name, addr string) *memnet.Host {
	if w.hosts[name] == nil {
		w.hosts[name] = w.net.Host(name, addr).Join("rack")
	}
	return w.hosts[name]
}

// startController serves all that relays ask for.
func (w *world) startController() {
	l, err := w.host("c1", "10.0.0.1").Listen(":4400")
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			if err := h(rw, r); err != nil {
				api.WriteError(rw, err)
			}
		})
	}
	handle("GET "+api.PathCatalog, w.serveCatalog)
	handle("POST "+api.PathJoinRelay, w.serveJoin)
	handle("GET "+api.PathSecrets, w.serveSecrets)
	handle("GET "+api.PathChunk, w.serveChunk)
	handle("POST "+api.PathRenew, w.serveRenew)
	handle("POST "+api.PathEvents, func(rw http.ResponseWriter, r *http.Request) error {
		var b api.EventBatch
		if err := api.ReadJSON(rw, r, &b); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, b.Events...)
		return nil
	})
	handle("POST "+api.PathRelayStatus, func(rw http.ResponseWriter, r *http.Request) error {
		var s api.RelayStatus
		if err := api.ReadJSON(rw, r, &s); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.status[s.Name] = s
		return nil
	})
	srv := &http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: pki.ServerTLS(pki.NewKeeper(w.credentials(pki.Identity{Role: pki.Controller, Name: "c1"})),
			pki.Access{Protocols: []string{api.ALPNHTTP}, Roles: []pki.Role{pki.Relay}, Anonymous: true}),
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(l, "", "") }()
	w.running["c1"] = func() { srv.Close(); <-done; delete(w.running, "c1") }
}

func (w *world) serveCatalog(rw http.ResponseWriter, r *http.Request) error {
	since, _ := strconv.Atoi(r.URL.Query().Get("since"))
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	over := time.After(wait)
	for {
		w.mu.Lock()
		c, entries, news := w.catalogs[len(w.catalogs)-1], w.entries, w.news
		w.mu.Unlock()
		if since == 0 {
			rw.Header().Set("Content-Type", api.TypeSnapshot)
			_, err := c.WriteTo(rw)
			return err
		}
		waiting := true
		if len(entries) <= since {
			select {
			case <-news:
				continue
			case <-over:
			case <-r.Context().Done():
			}
			waiting = false
		}
		if len(entries) > since || !waiting {
			rw.Header().Set("Content-Type", api.TypeDelta)
			return json.NewEncoder(rw).Encode(api.Delta{Revision: c.Revision, Hash: c.Hash, Entries: entries[min(since, len(entries)):]})
		}
	}
}

// token makes a join token.
func (w *world) token(name string) string {
	t := pki.NewToken(w.ca.Fingerprint())
	hash, _ := hex.DecodeString(t.Hash())
	w.change(catalog.AddToken{Token: catalog.Token{ID: t.ID, Hash: hash, Role: catalog.TokenRelay, Name: name, Networks: []catalog.NetworkName{"rack"}, Uses: 1, Expires: time.Now().Add(time.Hour)}})
	return t.Text()
}

func (w *world) serveJoin(rw http.ResponseWriter, r *http.Request) error {
	var q api.JoinRelay
	if err := api.ReadJSON(rw, r, &q); err != nil {
		return err
	}
	t, err := pki.ParseToken(q.Token)
	if err != nil {
		return err
	}
	known, ok := w.catalog().Token(t.ID)
	if !ok {
		return fault.New(fault.Denied, "the token is not known")
	}
	cert, err := w.ca.Sign(q.CSR, pki.Identity{Role: pki.Relay, Name: known.Name}, q.Relay.Addresses, w.validity, time.Now())
	if err != nil {
		return err
	}
	q.Relay.Key, _ = pki.CertificateKeyHash(cert)
	w.change(catalog.AdmitRelay{Token: t.ID, Hash: known.Hash, Relay: q.Relay})
	api.WriteJSON(rw, api.JoinedRelay{Name: catalog.RelayName(known.Name), Cluster: "demo", Certificate: string(cert), CA: string(w.ca.Trust().PEM()), Endpoints: []string{controllerAddr}})
	return nil
}

func (w *world) serveRenew(rw http.ResponseWriter, r *http.Request) error {
	var q api.CertificateRequest
	if err := api.ReadJSON(rw, r, &q); err != nil {
		return err
	}
	id, err := pki.PeerIdentity(*r.TLS)
	if err != nil {
		return err
	}
	cert, err := w.ca.Sign(q.CSR, id, nil, w.validity, time.Now())
	if err != nil {
		return err
	}
	api.WriteJSON(rw, api.Certificate{Certificate: string(cert)})
	return nil
}

func (w *world) serveSecrets(rw http.ResponseWriter, r *http.Request) error {
	if _, err := pki.PeerIdentity(*r.TLS); err != nil {
		return err
	}
	s := api.RelaySecrets{Gossip: w.mesh.GossipKey(1).Reveal(), Tickets: map[string][]byte{"rack": w.mesh.NetworkKey("tickets/rack").Reveal()}}
	if !w.withhold {
		s.Networks = map[string][]byte{"rack": w.mesh.NetworkKey("rack").Reveal()}
	}
	api.WriteJSON(rw, s)
	return nil
}

func (w *world) serveChunk(rw http.ResponseWriter, r *http.Request) error {
	if _, err := pki.PeerIdentity(*r.TLS); err != nil {
		return err
	}
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	w.mu.Lock()
	b, ok := w.chunks[id]
	w.sent[id]++
	w.mu.Unlock()
	if !ok {
		return fault.New(fault.NotFound, "no such chunk")
	}
	_, err = rw.Write(b)
	return err
}

func (w *world) put(b []byte) chunk.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	ref := chunk.RefOf(b)
	w.chunks[ref.ID] = b
	return ref
}

func (w *world) body(id chunk.ID) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chunks[id]
}

// image publishes an image and returns its manifest, and what /file of it must be.
func (w *world) image(name string) (*chunk.Manifest, chunk.ID, []byte) {
	rng := rand.NewChaCha8([32]byte{1})
	some := func(n int) []byte { b := make([]byte, n); rng.Read(b); return b }
	m := &chunk.Manifest{Format: chunk.ManifestFormat, Image: name, Arch: "amd64"}
	m.Kernels = []chunk.Kernel{{Version: "6.1", Kernel: w.put(some(40_000)), StageOne: w.put(some(30_000))}}
	var whole []byte
	for i := range 5 {
		b := some(9_000 + 1000*i)
		whole = append(whole, b...)
		m.Segments = append(m.Segments, chunk.Segment{Ref: w.put(b)})
	}
	b, err := chunk.Sign(m, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	ref := w.put(b)
	w.change(catalog.PutImage{Name: catalog.ImageName(name), Version: catalog.ImageVersion{Manifest: ref, Arch: "amd64", Kernels: m.Kernels, Size: m.Size()}})
	return m, ref.ID, whole
}

// overlays declares an overlay that shows a node its name and its host key.
func (w *world) overlays() {
	b, err := overlay.NewBundle([]overlay.File{
		{Path: "etc/hostname", Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: []byte("{{.Hostname}}\n")},
		{Path: "etc/ssh/key", Type: overlay.TypeFile, Mode: 0o600, Template: true, Content: []byte("{{range .SshHostKeys}}{{.Private}}{{end}}")},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := b.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.change(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "base", Content: w.put(body)}})
}

func (w *world) node(i int, settings catalog.Settings) catalog.HardwareAddr {
	hw := catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:00:%02x", i))
	settings.Image = new("debian")
	settings.Overlays = catalog.OverlaySettings{System: []string{"base"}, Runtime: []string{"base"}}
	settings.Nets = map[string]catalog.NetDev{"default": {Hardware: &hw, Address: new(netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}))}}
	w.change(catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(fmt.Sprintf("n%d", i)), Settings: settings}}})
	return hw
}

// join lets a relay join at 10.1.0.i.
func (w *world) join(i int, dir string) {
	w.t.Helper()
	name := fmt.Sprintf("r%d", i)
	host := w.host(name, fmt.Sprintf("10.1.0.%d", i))
	s, err := relay.Join(context.Background(), dir, relay.JoinConfig{
		Token: w.token(name), Endpoints: []string{controllerAddr}, Dial: host.Dial, Settings: relay.Settings{Addresses: []netip.Addr{host.Addr()}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if string(s.Name) != name || s.Cluster != "demo" {
		w.t.Fatalf("joined as %+v", s)
	}
}

// run starts the relay in dir; it ends with the world, or by the function that is returned.
func (w *world) run(i int, dir string, more ...func(*relay.Config)) (r *relay.Relay, stop func()) {
	w.t.Helper()
	name := fmt.Sprintf("r%d", i)
	host := w.hosts[name]
	cfg := relay.Config{Dir: dir, Dial: host.Dial, Log: slog.New(slog.DiscardHandler), Version: "test", Settle: time.Second, Loaders: []string{filepath.Join(dir, "loaders")}}
	var err error
	for _, l := range []struct {
		into *net.Listener
		port int
	}{{&cfg.Boot, api.PortBoot}, {&cfg.Mesh, api.PortMesh}, {&cfg.Gossip, api.PortGossip}} {
		if *l.into, err = host.Listen(fmt.Sprintf("%s:%d", host.Addr(), l.port)); err != nil {
			w.t.Fatal(err)
		}
	}
	if cfg.GossipPackets, err = host.ListenPacket(fmt.Sprintf("%s:%d", host.Addr(), api.PortGossip)); err != nil {
		w.t.Fatal(err)
	}
	for _, f := range more {
		f(&cfg)
	}
	if r, err = relay.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("%s ended with %v", name, err)
		}
		delete(w.running, name)
	}
	w.running[name] = stop
	return r, stop
}

// total is how many chunks the controller has sent.
func (w *world) total() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.sent {
		n += k
	}
	return n
}

// heard is what the controller heard last from a relay.
func (w *world) heard(r catalog.RelayName) api.RelayStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status[r]
}

func (w *world) seen(stage boot.Stage) (found []boot.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Stage == stage {
			found = append(found, e)
		}
	}
	return found
}

// machine asks relays as firmware and agents do.
type machine struct {
	*world
	http *http.Client
}

func (w *world) machine(i int) *machine {
	host := w.host(fmt.Sprintf("machine%d", i), fmt.Sprintf("10.1.1.%d", i))
	tr := &http.Transport{DialContext: host.Dial, TLSClientConfig: w.ca.Trust().ClientTLS([]string{api.ALPNHTTP}, pki.Relay), DisableCompression: true}
	w.cleaning = append(w.cleaning, tr.CloseIdleConnections)
	return &machine{w, &http.Client{Transport: tr}}
}

type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
}

func (m *machine) do(method, url string, header http.Header, body []byte) answer {
	m.t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	a, err := m.http.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return answer{a.StatusCode, a.Header, b, err}
}

func (m *machine) get(url string) answer { m.t.Helper(); return m.do("GET", url, nil, nil) }

// flip inverts two bytes of a chunk in a relay's cache, in place.
func flip(t *testing.T, dir string, id chunk.ID) {
	t.Helper()
	path := filepath.Join(dir, "chunks", fmt.Sprintf("%02x", id[0]), id.String())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{^b[0], ^b[1]}, 1000); err != nil {
		t.Fatal(err)
	}
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:6]) }
