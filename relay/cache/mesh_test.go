package cache

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/tree"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// world is a mesh of relays and one controller in a bubble: real caches, real TLS, and handlers that do no more than
// the paths for chunks need.
type world struct {
	t   *testing.T
	net *memnet.Network
	ca  *pki.CA
	key ed25519.PrivateKey

	mu       sync.Mutex
	catalog  *catalog.Catalog
	changed  chan struct{}
	sent     map[chunk.ID]int                                             // by the controller
	chunks   map[chunk.ID][]byte                                          // at the controller
	mangle   func(relay, id string, b []byte, w http.ResponseWriter) bool // what relays do instead of answering rightly
	piece    int                                                          // bytes that the controller sends in a second; 0: all
	relays   map[string]*relay
	stopping []func()
}

type relay struct {
	*world
	name  string
	host  *memnet.Host
	dir   string
	cache *Cache
	peers func() []Peer
	stop  func()
}

func inWorld(t *testing.T, relays int, f func(w *world)) {
	dirs := make([]string, relays)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: memnet.New(memnet.Config{}), catalog: &catalog.Catalog{}, changed: make(chan struct{}),
			sent: map[chunk.ID]int{}, chunks: map[chunk.ID][]byte{}, relays: map[string]*relay{}}
		var err error
		if w.ca, err = pki.NewCA("demo", time.Now()); err != nil {
			t.Fatal(err)
		}
		_, w.key, _ = ed25519.GenerateKey(nil)
		w.apply(catalog.InitCluster{Cluster: catalog.Cluster{Name: "demo", ManifestKeys: [][]byte{w.key.Public().(ed25519.PublicKey)}}, Controller: catalog.Controller{Name: "c1"}})
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/chunks/{id}", w.serveController)
		w.serve(w.net.Host("c1", "10.0.0.1"), ":4400", pki.Identity{Role: pki.Controller, Name: "c1"}, mux)
		for i, dir := range dirs {
			w.addRelay(fmt.Sprintf("r%d", i+1), fmt.Sprintf("10.1.0.%d", i+1), dir)
		}
		f(w)
		for _, r := range w.relays {
			r.stop()
			if size, left := r.cache.coming.size.Load(), r.cache.coming.left.Load(); size != 0 || left != 0 {
				t.Errorf("%s: room for %d bytes is taken by nobody, %d of them unwritten", r.name, size, left)
			}
		}
		for _, stop := range w.stopping {
			stop()
		}
	})
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

func (w *world) serve(host *memnet.Host, addr string, id pki.Identity, h http.Handler) (stop func()) {
	l, err := host.Listen(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{
		Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: pki.ServerTLS(pki.NewKeeper(w.credentials(id)), pki.Access{Protocols: []string{api.ALPNHTTP}, Roles: []pki.Role{pki.Relay}}),
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(l, "", "") }()
	stop = sync.OnceFunc(func() { srv.Close(); <-done })
	w.stopping = append(w.stopping, stop)
	return stop
}

func (w *world) addRelay(name, addr, dir string) *relay {
	r := &relay{world: w, name: name, host: w.net.Host(name, addr), dir: dir}
	r.peers = func() []Peer {
		var peers []Peer
		for i := range 100 {
			other := fmt.Sprintf("r%d", i+1)
			if w.relays[other] != nil && other != name {
				peers = append(peers, Peer{tree.Relay{Name: other}, fmt.Sprintf("10.1.0.%d:4481", i+1)})
			}
		}
		return peers
	}
	w.relays[name] = r
	r.open(Config{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathMeshChunk, r.serveMesh)
	w.serve(r.host, ":4481", pki.Identity{Role: pki.Relay, Name: name}, mux)
	return r
}

// open makes the relay's cache, with the fields of cfg that are not about the world.
func (r *relay) open(cfg Config) {
	keeper := pki.NewKeeper(r.credentials(pki.Identity{Role: pki.Relay, Name: r.name}))
	client := func(role pki.Role, header time.Duration) *api.Client {
		return api.NewClient(api.ClientConfig{
			Dial: r.host.Dial, TLS: pki.ClientTLS(keeper, []string{api.ALPNHTTP}, role), Endpoints: func() []string { return nil }, Header: header,
		})
	}
	cfg.Dir, cfg.Name, cfg.Log = r.dir, catalog.RelayName(r.name), slog.New(slog.DiscardHandler)
	cfg.Catalog = func() *catalog.Catalog { r.mu.Lock(); defer r.mu.Unlock(); return r.catalog }
	cfg.Changed = func() <-chan struct{} { r.mu.Lock(); defer r.mu.Unlock(); return r.changed }
	cfg.Peers = func() []Peer { return r.peers() }
	cfg.Relays, cfg.Controllers = client(pki.Relay, -1), client(pki.Controller, 0)
	cfg.Endpoints = func() []string { return []string{"10.0.0.1:4400"} }
	c, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.cache = c
	halt := func() {}
	r.stop = func() {
		halt()
		cfg.Relays.Close()
		cfg.Controllers.Close()
	}
}

// run runs the relay's cache until the world ends.
func (r *relay) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.cache.Run(ctx) }()
	stop := r.stop
	r.stop = func() { cancel(); <-done; stop() }
}

func (w *world) serveController(rw http.ResponseWriter, r *http.Request) {
	id, err := chunk.ParseID(r.PathValue("id"))
	w.mu.Lock()
	b, ok := w.chunks[id]
	if ok {
		w.sent[id]++
	}
	w.mu.Unlock()
	if err != nil || !ok {
		api.WriteError(rw, fault.New(fault.NotFound, "no such chunk"))
		return
	}
	time.Sleep(5 * time.Millisecond)
	for rw.Header().Set("Content-Length", strconv.Itoa(len(b))); len(b) > 0; {
		piece := b[:min(len(b), cmp.Or(w.piece, len(b)))]
		rw.Write(piece)
		rw.(http.Flusher).Flush()
		if b = b[len(piece):]; len(b) > 0 {
			time.Sleep(time.Second)
		}
	}
}

func (r *relay) serveMesh(rw http.ResponseWriter, q *http.Request) {
	id, _ := chunk.ParseID(q.PathValue("id"))
	size, _ := strconv.ParseInt(q.Header.Get(api.HeaderSize), 10, 64)
	hops, _ := strconv.Atoi(q.Header.Get(api.HeaderHops))
	f, err := r.cache.Open(q.Context(), chunk.Ref{ID: id, Size: size}, Request{Hops: hops, Ahead: q.Header.Get(api.HeaderAhead) != "", Nearer: func(n int64) {
		rw.Header().Set(api.HeaderProgress, strconv.FormatInt(n, 10))
		rw.WriteHeader(http.StatusProcessing)
	}})
	if err != nil {
		api.WriteError(rw, err)
		return
	}
	defer f.Close()
	if q.Header.Get("Range") != "" {
		http.ServeContent(rw, q, "", time.Time{}, f.Content())
		return
	}
	rw.Header().Set("Content-Length", strconv.FormatInt(f.Size(), 10))
	if r.mangle == nil {
		rw.(http.Flusher).Flush()
		if _, err := io.Copy(rw, f); err != nil {
			panic(http.ErrAbortHandler)
		}
		return
	}
	b, err := io.ReadAll(f)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if !r.mangle(r.name, id.String(), b, rw) {
		rw.Write(b)
	}
}

// put gives the controller a chunk of random bytes.
func (w *world) put(seed uint64, size int) chunk.Ref {
	b := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(b)
	return w.putBytes(b)
}

func (w *world) putBytes(b []byte) chunk.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	ref := chunk.RefOf(b)
	w.chunks[ref.ID] = b
	return ref
}

func (w *world) apply(c catalog.Change) {
	w.t.Helper()
	b, err := catalog.Entry{At: time.Now(), Change: c}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	next, out, err := w.catalog.Apply(w.catalog.Revision+1, b)
	if err != nil || out.Err != nil {
		w.t.Fatal(err, out.Err)
	}
	w.catalog = next
	close(w.changed)
	w.changed = make(chan struct{})
}

// declare has a relay in the catalog.
func (w *world) declare(name string) {
	w.t.Helper()
	w.apply(catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16")}})
	w.apply(catalog.AddToken{Token: catalog.Token{ID: "t", Hash: []byte("h"), Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 1, Expires: time.Now().Add(time.Hour)}})
	w.apply(catalog.AdmitRelay{Token: "t", Hash: []byte("h"), Relay: catalog.Relay{
		Name: catalog.RelayName(name), Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.200")}, BootPort: 80, MeshPort: 443, Mesh: "a:1", Gossip: "a:2", Key: []byte("k"),
	}})
}

// image publishes an image of so many segments and returns its manifest and all chunks of it.
func (w *world) image(name string, seed uint64, segments int) (chunk.Ref, []chunk.Ref) {
	w.t.Helper()
	m := &chunk.Manifest{Format: chunk.ManifestFormat, Image: name, Arch: "amd64"}
	m.Kernels = []chunk.Kernel{{Version: "6.1", Kernel: w.put(seed, 50_000), StageOne: w.put(seed+1, 70_000)}}
	for i := range segments {
		m.Segments = append(m.Segments, chunk.Segment{Ref: w.put(seed+2+uint64(i), 10_000+i)})
	}
	b, err := chunk.Sign(m, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	ref := w.putBytes(b)
	w.apply(catalog.PutImage{Name: catalog.ImageName(name), Version: catalog.ImageVersion{Manifest: ref, Arch: "amd64", Kernels: m.Kernels}})
	return ref, append(m.Refs(), ref)
}

// read opens a chunk and reads it whole, as a server would; it fails the test if a byte is wrong.
func (r *relay) read(ref chunk.Ref, req Request) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	f, err := r.cache.Open(ctx, ref, req)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || chunk.Of(b) != ref.ID || f.Size() != ref.Size {
		r.t.Errorf("%s served %d bytes that are not chunk %s (%v)", r.name, len(b), ref.ID.Short(), err)
	}
	return nil
}

func (r *relay) mustRead(ref chunk.Ref, req Request) {
	r.t.Helper()
	if err := r.read(ref, req); err != nil {
		r.t.Error(err)
	}
}

// flip inverts two bytes of a chunk on the relay's disk, in place.
func (r *relay) flip(ref chunk.Ref) {
	r.t.Helper()
	path := filepath.Join(r.dir, fmt.Sprintf("%02x", ref.ID[0]), ref.ID.String())
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	at := len(b) / 2
	if _, err := f.WriteAt([]byte{^b[at], ^b[at+1]}, int64(at)); err != nil {
		r.t.Fatal(err)
	}
}

func (w *world) sentTotal() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, k := range w.sent {
		n += k
	}
	return n
}

// root and leaf are relays of which the leaf asks the root for the chunk.
func (w *world) rootAndLeaf(ref chunk.Ref) (root, leaf *relay) {
	for _, r := range w.relays {
		above := slices.DeleteFunc(r.cache.view().mesh.Tree(ref).Above(r.name), func(u tree.Upstream) bool { return u.Kept })
		if len(above) == 0 {
			root = r
		}
		if len(above) == 1 {
			leaf = r
		}
	}
	return root, leaf
}

// hook fails writes of the disk while on is set.
type hook struct {
	mu  sync.Mutex
	err error
}

func (h *hook) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *hook) fs() durable.FS {
	return durable.FS{Hook: func(op durable.Op, _ string) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if op == durable.OpWrite {
			return h.err
		}
		return nil
	}}
}
