package chunks

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore/storetest"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/replication"
	"github.com/wulfmesh/wulfmesh/test/memnet"
)

// room is some controllers' chunk stores with keepers, behind the paths of the API, in one bubble.
type room struct {
	t     *testing.T
	net   *memnet.Network
	state *state.State // one for all: replication is not what is tested here
	at    uint64
	key   ed25519.PrivateKey
	ctls  []*peer
}

type peer struct {
	name  string
	host  *memnet.Host
	mem   *chunkstore.Mem
	store chunkstore.Store
	*Keeper
	full bool
}

func newRoom(t *testing.T, n int, cfg Config) *room {
	ca, err := pki.NewCA("demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, net: memnet.New(memnet.Config{}), state: state.New(), key: key}
	for i := range n {
		p := &peer{name: fmt.Sprintf("c%d", i+1), mem: chunkstore.NewMem()}
		p.store = p.mem
		p.host = r.net.Host(p.name, fmt.Sprintf("10.0.0.%d", i+1))
		keeper := credentials(t, ca, p.name)
		client := api.NewClient(api.ClientConfig{
			Endpoints: func() []string { return nil }, Dial: p.host.Dial, TLS: pki.ClientTLS(keeper, []string{api.ALPNHTTP}, pki.Controller),
		})
		t.Cleanup(client.Close)
		c := cfg
		c.Voters = func() (all []catalog.ControllerName) {
			for _, p := range r.ctls {
				all = append(all, catalog.ControllerName(p.name))
			}
			return all
		}
		c.Self, c.Store, c.Catalog, c.Peers, c.Log = catalog.ControllerName(p.name), p.store, r.state, client, slog.New(slog.DiscardHandler)
		p.Keeper = New(c)
		r.ctls = append(r.ctls, p)
		r.serve(p, keeper)
		ctl := catalog.Controller{Name: c.Self, API: fmt.Sprintf("10.0.0.%d:4400", i+1), Key: []byte(p.name)}
		if i == 0 {
			r.apply(catalog.InitCluster{Cluster: catalog.Cluster{Name: "demo", ManifestKeys: [][]byte{key.Public().(ed25519.PublicKey)}}, Controller: ctl})
			continue
		}
		r.apply(catalog.AddToken{Token: catalog.Token{ID: p.name, Hash: []byte("x"), Role: catalog.TokenController, Uses: 1, Expires: time.Now().Add(time.Hour)}})
		r.apply(catalog.AdmitController{Token: p.name, Hash: []byte("x"), Controller: ctl})
	}
	return r
}

func credentials(t *testing.T, ca *pki.CA, name string) *pki.Keeper {
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, pki.Identity{Role: pki.Controller, Name: name}, nil, 24*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.NewCredentials(key, cert, ca.Trust().PEM())
	if err != nil {
		t.Fatal(err)
	}
	return pki.NewKeeper(own)
}

// serve answers PathChunk out of a peer's store.
func (r *room) serve(p *peer, keeper *pki.Keeper) {
	l, err := p.host.Listen(":4400")
	if err != nil {
		r.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathChunk, func(w http.ResponseWriter, q *http.Request) {
		id, err := chunk.ParseID(q.PathValue("id"))
		if err == nil {
			var f chunkstore.File
			if f, err = p.Store().Open(q.Context(), id); err == nil {
				defer f.Close()
				http.ServeContent(w, q, "", time.Time{}, f.Content())
				return
			}
		}
		api.WriteError(w, err)
	})
	mux.HandleFunc("PUT "+api.PathChunk, func(w http.ResponseWriter, q *http.Request) {
		id, err := chunk.ParseID(q.PathValue("id"))
		if err == nil && p.full {
			err = fault.New(fault.Full, "%s is full", p.name)
		}
		if err == nil {
			err = p.Store().Put(q.Context(), chunk.Ref{ID: id, Size: q.ContentLength}, q.Body)
		}
		if err != nil {
			api.WriteError(w, err)
		}
	})
	srv := &http.Server{Handler: mux, TLSConfig: pki.ServerTLS(keeper, pki.Access{Protocols: []string{api.ALPNHTTP}, Roles: []pki.Role{pki.Controller}}),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go srv.ServeTLS(l, "", "")
	r.t.Cleanup(func() { srv.Close() })
}

func (r *room) apply(change catalog.Change) {
	r.t.Helper()
	b, err := catalog.Entry{At: time.Now(), Change: change}.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.try(b); err != nil {
		r.t.Fatal(err)
	}
}

// try applies an encoded entry and returns what came of it.
func (r *room) try(b []byte) error {
	r.at++
	out, err := r.state.Apply([]replication.Entry{{Revision: r.at, Command: b}})
	if err != nil {
		return err
	}
	return out[0].(catalog.Outcome).Err
}

// image stores an image of some chunks at a peer and returns all of them, the manifest last.
func (r *room) image(p *peer, chunks ...string) []chunk.Ref {
	r.t.Helper()
	m := &chunk.Manifest{Format: chunk.ManifestFormat, Image: "rocky"}
	var refs []chunk.Ref
	for _, c := range chunks {
		ref := r.put(p, []byte(c))
		m.Segments = append(m.Segments, chunk.Segment{Ref: ref})
		refs = append(refs, ref)
	}
	signed, err := chunk.Sign(m, r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return append(refs, r.put(p, signed))
}

func (r *room) put(p *peer, b []byte) chunk.Ref {
	r.t.Helper()
	ref := chunk.RefOf(b)
	if err := p.Store().Put(r.t.Context(), ref, bytes.NewReader(b)); err != nil {
		r.t.Fatal(err)
	}
	return ref
}

func (r *room) putImage(refs []chunk.Ref) {
	r.t.Helper()
	r.apply(catalog.PutImage{Name: "rocky", Version: catalog.ImageVersion{Manifest: refs[len(refs)-1]}})
}

func (p *peer) has(refs []chunk.Ref) (n int) {
	for _, ref := range refs {
		if _, err := p.mem.Stat(context.Background(), ref.ID); err == nil {
			n++
		}
	}
	return n
}

// run lets keepers work until the returned function is called.
func run(t *testing.T, peers ...*peer) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Errorf("%s ended with %v", p.name, err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func TestTheGuardedStoreIsAStore(t *testing.T) {
	storetest.Test(t, func(*testing.T) chunkstore.Store { return New(Config{Store: chunkstore.NewMem()}).Store() })
}

func TestChunksAreOnAMajorityWhenPushEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 3, Config{})
		defer r.net.Close()
		refs := r.image(r.ctls[0], "a", "b", "c", strings.Repeat("d", 100_000))
		if err := r.ctls[0].Push(t.Context(), refs, nil); err != nil {
			t.Fatal(err)
		}
		if r.ctls[1].has(refs) != len(refs) && r.ctls[2].has(refs) != len(refs) {
			t.Errorf("%d and %d of %d chunks at the others", r.ctls[1].has(refs), r.ctls[2].has(refs), len(refs))
		}

		// One of three may be away.
		r.net.Cut("c2")
		more := r.image(r.ctls[0], "e", "f")
		if err := r.ctls[0].Push(t.Context(), more, nil); err != nil || r.ctls[2].has(more) != len(more) {
			t.Errorf("with one controller away: %v, %d of %d at the other", err, r.ctls[2].has(more), len(more))
		}
		// Two may not.
		r.net.Cut("c3")
		last := r.image(r.ctls[0], "g")
		if err := r.ctls[0].Push(t.Context(), last, nil); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "1 of 3") {
			t.Errorf("alone: %v", err)
		}
		r.net.Heal()
		r.ctls[1].full, r.ctls[2].full = true, true
		if err := r.ctls[0].Push(t.Context(), last, nil); !errors.Is(err, fault.Full) {
			t.Errorf("others without space: %v", err)
		}
		if err := r.ctls[0].Push(t.Context(), []chunk.Ref{chunk.RefOf([]byte("not here"))}, nil); !errors.Is(err, fault.NotFound) {
			t.Errorf("a chunk that is not here: %v", err)
		}
	})
}

func TestWhatTheCatalogNamesIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 3, Config{})
		defer r.net.Close()
		late := r.ctls[2]
		r.net.Cut(late.name)
		defer run(t, late)()
		refs := r.image(r.ctls[0], "a", "b", "c")
		content := r.put(r.ctls[1], []byte("overlay"))
		if err := r.ctls[0].Push(t.Context(), refs, nil); err != nil {
			t.Fatal(err)
		}
		r.putImage(refs)
		file := r.put(r.ctls[1], []byte("site file"))
		r.apply(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "o", Content: content}})
		r.apply(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/motd", Content: file}})
		r.apply(catalog.LinkSiteFile{Path: "/etc/issue", Target: "motd"})
		time.Sleep(time.Minute)
		if n := late.has(refs); n != 0 || len(late.Problems()) != 1 {
			t.Errorf("cut off, it has %d chunks and says %q", n, late.Problems())
		}
		r.net.Heal()
		time.Sleep(time.Minute)
		all := append(refs, content, file)
		if n := late.has(all); n != len(all) || len(late.Problems()) != 0 {
			t.Errorf("a minute later it has %d of %d chunks and says %q", n, len(all), late.Problems())
		}
	})
}

func TestWhatNothingNeedsGoesAfterTheTimeOfGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{Grace: 24 * time.Hour})
		defer r.net.Close()
		p := r.ctls[0]
		defer run(t, p)()
		kept, stray := r.image(p, "a", "b"), r.image(p, "stray")
		r.putImage(kept)
		again := r.put(p, []byte("used again"))
		time.Sleep(20 * time.Hour)
		if p.has(stray) != len(stray) {
			t.Fatal("chunks went before their time")
		}
		r.put(p, []byte("used again")) // an import finds it there and will refer to it
		time.Sleep(20 * time.Hour)
		if n := p.has(stray); n != 0 {
			t.Errorf("%d chunks that nothing refers to are still here", n)
		}
		if p.has(kept) != len(kept) || p.has([]chunk.Ref{again}) != 1 {
			t.Errorf("%d of %d chunks are left that something refers to, and %d that was just used", p.has(kept), len(kept), p.has([]chunk.Ref{again}))
		}
		time.Sleep(48 * time.Hour)
		if p.has([]chunk.Ref{again}) != 0 {
			t.Error("a chunk is kept for a use that led to nothing")
		}
		if n := len(p.Keeper.store.used); n != 0 {
			t.Errorf("%d uses are remembered for ever", n)
		}
	})
}

func TestNothingIsCollectedWhileAManifestIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{Grace: time.Hour})
		defer r.net.Close()
		p := r.ctls[0]
		defer run(t, p)()
		refs := r.image(p, "a", "b")
		r.putImage(refs)
		if err := p.mem.Delete(t.Context(), refs[2].ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if n := p.has(refs[:2]); n != 2 {
			t.Errorf("%d of 2 chunks are left of an image whose manifest is lost", n)
		}
	})
}

// rotten is a store whose disk loses bits.
type rotten struct {
	*chunkstore.Mem
	mu  sync.Mutex
	bad map[chunk.ID]bool
}

func (s *rotten) Open(ctx context.Context, id chunk.ID) (chunkstore.File, error) {
	s.mu.Lock()
	bad := s.bad[id]
	s.mu.Unlock()
	if !bad {
		return s.Mem.Open(ctx, id)
	}
	other := chunkstore.NewMem()
	b := []byte("x")
	if err := other.Put(ctx, chunk.RefOf(b), bytes.NewReader(b)); err != nil {
		return nil, err
	}
	return other.Open(ctx, chunk.Of(b))
}

func (s *rotten) Put(ctx context.Context, ref chunk.Ref, r io.Reader) error {
	if err := s.Mem.Put(ctx, ref, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bad, ref.ID)
	return nil
}

func TestDamageIsFoundAndMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{Scrub: 1 << 20})
		defer r.net.Close()
		p := r.ctls[0]
		disk := &rotten{Mem: p.mem, bad: map[chunk.ID]bool{}}
		p.cfg.Store, p.Keeper.store.Store = disk, disk
		refs := r.image(p, "a", "b", "c")
		if err := p.Push(t.Context(), refs, nil); err != nil {
			t.Fatal(err)
		}
		r.putImage(refs)
		defer run(t, p)()
		time.Sleep(10 * time.Second)
		disk.mu.Lock()
		disk.bad[refs[1].ID] = true
		disk.mu.Unlock()
		time.Sleep(5 * time.Minute)
		if err := chunkstore.Verify(t.Context(), disk, refs[1].ID); err != nil {
			t.Errorf("the damaged chunk: %v", err)
		}
		if say := p.Problems(); len(say) != 1 || !strings.Contains(say[0], "damaged") {
			t.Errorf("problems %q", say)
		}
	})
}

// small is a store with little room.
type small struct {
	*chunkstore.Mem
	free int64
}

func (s small) Free() (int64, float64, error) { return s.free, 1, nil }

func TestTheLastOfTheDiskIsLeftToTheLog(t *testing.T) {
	g := New(Config{Store: small{chunkstore.NewMem(), 1 << 20}, Reserve: 1 << 19}).Store()
	if err := g.Put(t.Context(), chunk.RefOf([]byte("a")), strings.NewReader("a")); err != nil {
		t.Errorf("with room: %v", err)
	}
	big := bytes.Repeat([]byte("b"), 1<<19+1)
	if err := g.Put(t.Context(), chunk.RefOf(big), bytes.NewReader(big)); !errors.Is(err, fault.Full) || fault.Fix(err) == "" {
		t.Errorf("without: %v", err)
	}
}
