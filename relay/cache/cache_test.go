package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestHundredReadersCostOneFetch(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		ref, r := w.put(1, 120_000), w.relays["r1"]
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { r.mustRead(ref, Request{Strict: i%2 == 0}) })
		}
		wg.Wait()
		if n := w.sentTotal(); n != 1 {
			t.Errorf("%d fetches for 100 readers", n)
		}
		if s := r.cache.Status(); s.FromController != 1 || s.Served != 100 || s.Chunks != 1 || s.Bytes != ref.Size {
			t.Errorf("status %+v", s)
		}
	})
}

// The reader that does the fetch goes away: the others still get their chunk.
func TestReadersSurviveTheFirstOneLeaving(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		ref, r := w.put(1, 120_000), w.relays["r1"]
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.cache.Open(ctx, ref, Request{}); err == nil {
				t.Error("a reader that left got its chunk")
			}
		})
		time.Sleep(time.Millisecond)
		for range 10 {
			wg.Go(func() { r.mustRead(ref, Request{}) })
		}
		time.Sleep(time.Millisecond)
		cancel()
		wg.Wait()
		if n := w.sentTotal(); n > 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestControllersSendEachChunkAboutOnce(t *testing.T) {
	inWorld(t, 8, func(w *world) {
		for _, r := range w.relays {
			r.run()
		}
		_, refs := w.image("debian", 1, 16)
		time.Sleep(10 * time.Second)
		for name, r := range w.relays {
			if s := r.cache.Status(); s.Missing != 0 || s.Chunks != len(refs) {
				t.Errorf("%s has %+v of %d chunks; %q", name, s, len(refs), r.cache.Problems())
			}
		}
		if n := w.sentTotal(); n != len(refs) {
			t.Errorf("the controller sent %d chunks for %d", n, len(refs))
		}
	})
}

func TestStatusSaysHowMuchOfAnImageIsHere(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		for _, r := range w.relays {
			r.run()
		}
		manifest, refs := w.image("debian", 1, 5)
		time.Sleep(10 * time.Second)
		var size int64
		for _, ref := range refs {
			size += ref.Size
		}
		r := w.relays["r1"]
		images := r.cache.Status().Images
		if len(images) != 1 || images[0].Manifest != manifest.ID || images[0].Need != len(refs) || images[0].Have != len(refs) ||
			images[0].Bytes != size || images[0].Size != size || time.Since(images[0].Verified) > 10*time.Second {
			t.Errorf("images %+v, want %d chunks of %d bytes", images, len(refs), size)
		}
		r.cache.discard(refs[2].ID)
		if images := r.cache.Status().Images; images[0].Have != len(refs)-1 || images[0].Bytes != size-refs[2].Size {
			t.Errorf("images %+v after one was lost", images)
		}
	})
}

// What is fetched ahead keeps to the relay's rate; what a node waits for does not, and goes first.
func TestWhatNodesWaitForIsNotBoundedByTheRate(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.declare("r1")
		w.apply(catalog.SetRelay{Name: "r1", Rate: new(int64(100_000))})
		_, refs := w.image("debian", 1, 90)
		r.run()
		time.Sleep(3 * time.Second)
		if s := r.cache.Status(); s.Missing == 0 {
			t.Errorf("%d bytes were there after three seconds", s.Bytes)
		}
		began := time.Now()
		r.mustRead(w.put(500, 120_000), Request{})
		if took := time.Since(began); took > time.Second {
			t.Errorf("a node waited for %v", took)
		}
		time.Sleep(20 * time.Second)
		if s := r.cache.Status(); s.Missing != 0 || s.Chunks != len(refs)+1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestADeclaredBudgetWins(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.declare("r1")
		w.apply(catalog.SetRelay{Name: "r1", Budget: new(int64(16 << 20))})
		for i := range uint64(4) {
			r.mustRead(w.put(i+1, 6<<20), Request{})
		}
		if s := r.cache.Status(); s.Bytes > 16<<20 || s.Chunks != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFlippedBytesAreNeverServed(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				ref, r := w.put(1, 120_000), w.relays["r1"]
				r.mustRead(ref, Request{Strict: strict})
				r.flip(ref)
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() { r.mustRead(ref, Request{Strict: strict}) }) // reads what is right, or fails the test
				}
				wg.Wait()
				s := r.cache.Status()
				if n := w.sentTotal(); s.Corrupt != 1 || n != 2 || s.Chunks != 1 {
					t.Errorf("status %+v, sent %d", s, n)
				}
				if p := strings.Join(r.cache.Problems(), "\n"); !strings.Contains(p, "was damaged (on disk)") {
					t.Errorf("problems %q", p)
				}
				if _, err := os.Stat(filepath.Join(r.dir, "damaged", ref.ID.String())); err != nil {
					t.Errorf("the damaged chunk was not put aside: %v", err)
				}
			})
		})
	}
}

func TestDamageFoundAfterARestart(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		ref, r := w.put(1, 120_000), w.relays["r1"]
		r.mustRead(ref, Request{})
		r.flip(ref)
		r.stop()
		r.open(Config{})
		r.mustRead(ref, Request{})
		if s := r.cache.Status(); s.Corrupt != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// A disk that changes bytes by itself leaves the file's times as they are. What cannot verify is protected at once,
// what can within the time after which chunks are verified again.
func TestDamageBelowTheFileSystem(t *testing.T) {
	for name, c := range map[string]struct {
		req  Request
		wait time.Duration
	}{"strict": {Request{Strict: true}, 0}, "later": {Request{}, recheck}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				ref, r := w.put(1, 120_000), w.relays["r1"]
				r.mustRead(ref, Request{})
				r.flip(ref)
				f, err := os.Open(r.cache.store.Path(ref.ID))
				if err != nil {
					t.Fatal(err)
				}
				id, err := identify(f)
				f.Close()
				if err != nil {
					t.Fatal(err)
				}
				r.cache.index.judge(ref.ID, id, time.Now()) // as if the file were the one that was verified
				time.Sleep(c.wait)
				r.mustRead(ref, c.req)
				if s := r.cache.Status(); s.Corrupt != 1 {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestScrubFindsDamageThatNobodyAsksFor(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		_, refs := w.image("debian", 1, 5)
		r.run()
		time.Sleep(time.Minute)
		r.flip(refs[3])
		time.Sleep(25 * time.Hour)
		if s := r.cache.Status(); s.Corrupt != 1 || s.Missing != 0 {
			t.Errorf("status %+v", s)
		}
		r.mustRead(refs[3], Request{})
	})
}

func TestDamagedChunkOfAParentIsRefusedAndTheNextAsked(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		ref := w.put(1, 120_000)
		root, leaf := w.rootAndLeaf(ref)
		w.mangle = func(_, _ string, b []byte, rw http.ResponseWriter) bool {
			b[len(b)/2] ^= 1
			return false
		}
		leaf.mustRead(ref, Request{})
		s := leaf.cache.Status()
		if s.Corrupt != 1 || s.FromController != 1 || s.FromRelays != 0 {
			t.Errorf("status %+v", s)
		}
		if p := strings.Join(leaf.cache.Problems(), "\n"); !strings.Contains(p, "sent by relay "+root.name) {
			t.Errorf("problems %q", p)
		}
	})
}

func TestParentThatFailsInTheMiddleIsLeft(t *testing.T) {
	for name, mangle := range map[string]func(w *world, root string, rw http.ResponseWriter, b []byte){
		"breaks off": func(w *world, _ string, rw http.ResponseWriter, b []byte) {
			rw.Write(b[:len(b)/2])
			rw.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"says less": func(_ *world, _ string, rw http.ResponseWriter, b []byte) {
			rw.Header().Set("Content-Length", "10")
			rw.Write(b[:10])
		},
		"falls silent": func(w *world, root string, rw http.ResponseWriter, b []byte) {
			rw.Write(b[:len(b)/2])
			rw.(http.Flusher).Flush()
			w.net.Stall(root)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 2, func(w *world) {
				ref, again := w.put(1, 120_000), chunk.Ref{}
				root, leaf := w.rootAndLeaf(ref)
				for seed := uint64(2); again.Size == 0; seed++ {
					if r := w.put(seed, 1000); func() bool { a, _ := w.rootAndLeaf(r); return a == root }() {
						again = r
					}
				}
				w.mangle = func(_, _ string, b []byte, rw http.ResponseWriter) bool { mangle(w, root.name, rw, b); return true }
				began := time.Now()
				leaf.mustRead(ref, Request{})
				if s, took := leaf.cache.Status(), time.Since(began); s.FromController != 1 || took > toBegin+2*toGoOn {
					t.Errorf("status %+v after %v", s, took)
				}
				began = time.Now()
				leaf.mustRead(again, Request{}) // does not wait for it once more
				if took := time.Since(began); took > time.Second {
					t.Errorf("the next chunk took %v", took)
				}
				w.net.Heal()
			})
		})
	}
}

// Whoever asks for a chunk that comes slowly to those above gets it as it comes, and does not ask a controller too.
func TestAChunkIsHandedOnWhileItComes(t *testing.T) {
	inWorld(t, 9, func(w *world) {
		ref := w.put(1, 120_000)
		w.piece = 3000
		began := time.Now()
		var wg sync.WaitGroup
		for _, r := range w.relays {
			wg.Go(func() { r.mustRead(ref, Request{}) })
		}
		wg.Wait()
		if n, took := w.sentTotal(), time.Since(began); n != 1 || took > 45*time.Second {
			t.Errorf("the controller sent the chunk %d times; it took %v", n, took)
		}
	})
}

// A chunk that is too large to be handed on as it comes takes minutes, and everybody waits as long as it comes nearer.
func TestALargeChunkIsWaitedForWhileItComesNearer(t *testing.T) {
	inWorld(t, 9, func(w *world) {
		ref := w.put(1, maxInMemory+1)
		w.piece = 256 << 10 // two minutes
		var wg sync.WaitGroup
		for _, r := range w.relays {
			wg.Go(func() { r.mustRead(ref, Request{}) })
		}
		wg.Wait()
		if n := w.sentTotal(); n != 1 {
			t.Errorf("the controller sent the chunk %d times", n)
		}
	})
}

// A relay dies while it hands on a chunk that still comes: those below have it from the next, and nobody sends it twice
// to the same.
func TestAParentThatDiesInTheMiddleOfAChunk(t *testing.T) {
	inWorld(t, 9, func(w *world) {
		ref := w.put(1, 120_000)
		root, leaf := w.rootAndLeaf(ref)
		w.piece = 3000
		var wg sync.WaitGroup
		wg.Go(func() { leaf.mustRead(ref, Request{}) })
		time.Sleep(20 * time.Second)
		w.net.Stall(root.name)
		began := time.Now()
		wg.Wait()
		if s, took := leaf.cache.Status(), time.Since(began); s.FromController != 1 || s.FromRelays != 0 || s.Corrupt != 0 || took > toGoOn+45*time.Second {
			t.Errorf("status %+v after %v", s, took)
		}
		if n := w.sentTotal(); n != 2 {
			t.Errorf("the controller sent the chunk %d times", n)
		}
		w.net.Heal()
	})
}

// Bytes that turn out wrong are handed on no further than to the relays that were waiting, and never whole.
func TestAWrongChunkIsNotHandedOnWhole(t *testing.T) {
	inWorld(t, 9, func(w *world) {
		ref := w.put(1, 120_000)
		w.mu.Lock()
		right := w.chunks[ref.ID]
		wrong := bytes.Clone(right)
		wrong[7] ^= 1
		w.chunks[ref.ID] = wrong
		w.mu.Unlock()
		w.piece = 30_000
		_, leaf := w.rootAndLeaf(ref)
		if err := leaf.read(ref, Request{}); err == nil {
			t.Error("a wrong chunk was served")
		}
		for name, r := range w.relays {
			for _, p := range r.cache.Problems() {
				if strings.Contains(p, "sent by relay") {
					t.Errorf("%s: %s", name, p)
				}
			}
		}
	})
}

func TestRelaysServeEachOtherWithoutControllers(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		ref := w.put(1, 120_000)
		root, leaf := w.rootAndLeaf(ref)
		peers := leaf.peers
		leaf.peers = func() []Peer { return nil } // it was alone when it fetched
		leaf.mustRead(ref, Request{})
		leaf.peers = peers
		w.net.Cut("c1")
		root.mustRead(ref, Request{}) // the root, which asks nobody but controllers, finds it below
		if s := root.cache.Status(); s.FromRelays != 1 {
			t.Errorf("status %+v", s)
		}
		if err := root.read(w.put(2, 1000), Request{}); !errors.Is(err, fault.Unavailable) {
			t.Errorf("a chunk that nobody has: %v", err)
		}
	})
}

func TestUnknownChunkIsNotFound(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		if err := w.relays["r1"].read(chunk.RefOf([]byte("nowhere")), Request{}); !errors.Is(err, fault.NotFound) {
			t.Errorf("a chunk that nobody has: %v", err)
		}
	})
}

func TestFullDiskServesWithoutKeeping(t *testing.T) {
	for name, failure := range map[string]error{"full": fault.New(fault.Full, "no space left"), "broken": errors.New("input/output error")} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				var h hook
				r := w.relays["r1"]
				r.stop()
				r.open(Config{Disk: h.fs()})
				h.set(failure)
				ref := w.put(1, 120_000)
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() { r.mustRead(ref, Request{Strict: true}) })
				}
				wg.Wait()
				if n := w.sentTotal(); n != 1 {
					t.Errorf("%d fetches for readers at once", n)
				}
				if p := strings.Join(r.cache.Problems(), "\n"); !strings.Contains(p, "without being kept") {
					t.Errorf("problems %q", p)
				}
				if !r.cache.memory.TryAcquire(maxMemory) {
					t.Error("memory is not given back")
				} else {
					r.cache.memory.Release(maxMemory)
				}
				h.set(nil)
				r.mustRead(ref, Request{})
				if s, p := r.cache.Status(), r.cache.Problems(); s.Chunks != 1 || len(p) > 0 {
					t.Errorf("status %+v, problems %q", s, p)
				}
			})
		})
	}
}

func TestBudgetEvictsWhatWasAskedForLongestAgoAndNothingNeeded(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		r.stop()
		r.open(Config{Budget: 300_000})
		_, refs := w.image("debian", 1, 3)
		w.apply(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Image: new("debian")}}}})
		r.run()
		time.Sleep(time.Minute)
		if s := r.cache.Status(); s.Missing != 0 {
			t.Fatalf("status %+v", s)
		}
		a, b, c := w.put(100, 60_000), w.put(101, 60_000), w.put(102, 60_000)
		for _, ref := range []chunk.Ref{a, b, a, c} { // a is used again before c needs room
			r.mustRead(ref, Request{})
			time.Sleep(time.Second)
		}
		if r.cache.Has(b.ID) || !r.cache.Has(a.ID) || !r.cache.Has(c.ID) {
			t.Errorf("a %v b %v c %v; want b gone", r.cache.Has(a.ID), r.cache.Has(b.ID), r.cache.Has(c.ID))
		}
		for _, ref := range refs {
			if !r.cache.Has(ref.ID) {
				t.Errorf("chunk %s, which a node needs, was evicted", ref.ID.Short())
			}
		}
		if s := r.cache.Status(); s.Bytes > 300_000 {
			t.Errorf("%d bytes are over the budget", s.Bytes)
		}
	})
}

// The version that nodes booted before the present one stays, for a rollback; the one before that is like any other.
func TestTheVersionBeforeIsKeptForARollback(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		r.stop()
		const budget = 400_000
		r.open(Config{Budget: budget})
		r.run()
		var versions [][]chunk.Ref
		for seed := range 3 {
			_, refs := w.image("debian", uint64(1+10*seed), 3)
			if seed == 0 {
				w.apply(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Image: new("debian")}}}})
			}
			versions = append(versions, refs)
			time.Sleep(time.Minute)
		}
		for i := range 8 { // more than the budget has room for
			r.mustRead(w.put(uint64(100+i), 60_000), Request{})
			time.Sleep(time.Second)
		}
		missing := func(refs []chunk.Ref) (n int) {
			for _, ref := range refs {
				if !r.cache.Has(ref.ID) {
					n++
				}
			}
			return n
		}
		if first, before, now := missing(versions[0]), missing(versions[1]), missing(versions[2]); first == 0 || before > 0 || now > 0 {
			t.Errorf("%d chunks of the first version are gone, %d of the one before, %d of the present one", first, before, now)
		}
		if s := r.cache.Status(); s.Bytes > budget {
			t.Errorf("%d bytes are over the budget", s.Bytes)
		}
	})
}

func TestSiteFilesAreHereBeforeAnybodyAsks(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		r.stop()
		r.open(Config{Budget: 1})
		file, empty := w.put(50, 1000), w.putBytes(nil)
		w.apply(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/motd", Content: file}})
		w.apply(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/empty", Content: empty}})
		w.apply(catalog.LinkSiteFile{Path: "/etc/issue", Target: "motd"})
		r.run()
		time.Sleep(time.Minute)
		if s := r.cache.Status(); s.Missing != 0 || !r.cache.Has(file.ID) || !r.cache.Has(empty.ID) {
			t.Errorf("status %+v, problems %q", s, r.cache.Problems())
		}
	})
}

func TestOnlyWhatImagesNeedIsPublic(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		manifest, refs := w.image("debian", 1, 3)
		overlay := w.put(50, 1000)
		w.apply(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "secretive", Content: overlay}})
		file := w.put(51, 1000)
		w.apply(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/motd", Content: file}})
		for _, ref := range refs {
			if got, err := r.cache.Public(context.Background(), ref.ID); err != nil || got != ref {
				t.Errorf("chunk %s: %v, %v", ref.ID.Short(), got, err)
			}
		}
		for name, id := range map[string]chunk.ID{"an overlay": overlay.ID, "a site file": file.ID, "a stranger": w.put(60, 1000).ID} {
			if _, err := r.cache.Public(context.Background(), id); !errors.Is(err, fault.NotFound) {
				t.Errorf("%s is public: %v", name, err)
			}
		}
		if m, err := r.cache.Manifest(context.Background(), manifest.ID); err != nil || len(m.Segments) != 3 {
			t.Errorf("manifest %v, %v", m, err)
		}
	})
}

func TestManifestThatTheClusterDidNotSignIsNotUsed(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		own := w.key
		w.key = make([]byte, len(own))
		copy(w.key, own)
		w.key[3] ^= 1
		manifest, refs := w.image("debian", 1, 3)
		r := w.relays["r1"]
		if _, err := r.cache.Manifest(context.Background(), manifest.ID); !errors.Is(err, fault.Corrupt) {
			t.Errorf("a foreign manifest: %v", err)
		}
		if _, err := r.cache.Public(context.Background(), manifest.ID); err == nil {
			t.Error("a foreign manifest is public")
		}
		if _, err := r.cache.Public(context.Background(), refs[0].ID); err == nil {
			t.Error("a segment of a foreign manifest is public")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	c, err := New(Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 16<<20)
	ref := chunk.RefOf(body)
	if err := c.store.Put(b.Context(), ref, strings.NewReader(string(body))); err != nil {
		b.Fatal(err)
	}
	c.index.add(ref)
	b.SetBytes(ref.Size)
	for b.Loop() {
		f, err := c.Open(b.Context(), ref, Request{Strict: true})
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
