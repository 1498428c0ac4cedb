package cache

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// After a start nobody knows yet which chunks nodes boot from. What other relays ask for meanwhile pushes none of them out.
func TestWhatNodesBootFromOutlivesARestart(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		manifest, refs := w.image("debian", 1, 9)
		w.apply(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Image: new("debian")}}}})
		r.run()
		time.Sleep(time.Minute)
		r.stop()
		const budget = 50_000 // what nodes boot from exceeds it
		r.open(Config{Budget: budget, Settle: 5 * time.Second})
		here := func(when string) {
			t.Helper()
			for _, ref := range refs {
				if !r.cache.Has(ref.ID) {
					t.Errorf("%s: chunk %s, which a node needs, is gone", when, ref.ID.Short())
				}
			}
		}
		stranger := w.put(100, 60_000)
		r.mustRead(stranger, Request{Hops: 1})
		here("before anything is known")

		r.flip(manifest) // and the controllers have no good one
		w.mu.Lock()
		good := w.chunks[manifest.ID]
		w.chunks[manifest.ID] = make([]byte, manifest.Size)
		w.mu.Unlock()
		r.run()
		time.Sleep(time.Minute)
		r.mustRead(w.put(101, 60_000), Request{})
		refs = refs[:len(refs)-1]
		here("without the manifest")

		w.mu.Lock()
		w.chunks[manifest.ID] = good
		w.mu.Unlock()
		time.Sleep(5 * time.Minute)
		refs = append(refs, manifest)
		here("when all is known")
		if r.cache.Has(stranger.ID) {
			t.Error("what no node needs is kept beyond the budget")
		}
		if _, err := r.cache.Manifest(context.Background(), manifest.ID); err != nil {
			t.Error(err)
		}
	})
}

// The disk is well where the one who waited for a large chunk leaves while it is written.
func TestWhoLeavesDoesNotMakeTheDiskFull(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		r.stop()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r.open(Config{Disk: durable.FS{Hook: func(op durable.Op, _ string) error {
			if op == durable.OpWrite {
				cancel()
				time.Sleep(time.Second) // for the flight to be given up meanwhile
			}
			return nil
		}}})
		if _, err := r.cache.Open(ctx, w.put(1, maxInMemory+1), Request{}); err == nil {
			t.Error("a reader that left got its chunk")
		}
		time.Sleep(time.Minute)
		if p := r.cache.Problems(); len(p) > 0 {
			t.Errorf("problems %q", p)
		}
	})
}

// A disk that has room again makes the relay well again, though nobody asks for what could not be kept.
func TestADiskThatIsWellAgainIsNoticed(t *testing.T) {
	for name, size := range map[string]int{"small": 1000, "large": maxInMemory + 1} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				var h hook
				r := w.relays["r1"]
				r.stop()
				r.open(Config{Disk: h.fs()})
				r.run()
				time.Sleep(time.Second)
				h.set(fault.New(fault.Full, "no space left"))
				_ = r.read(w.put(1, size), Request{})
				time.Sleep(warmEvery + time.Second)
				if r.cache.Unkept() == "" {
					t.Error("nothing is told of a disk that takes nothing")
				}
				h.set(nil)
				time.Sleep(warmEvery + time.Second)
				if p := r.cache.Problems(); len(p) > 0 {
					t.Errorf("problems %q", p)
				}
			})
		})
	}
}

// Small chunks that find room say nothing of a large one that did not.
func TestASmallChunkDoesNotHideThatALargeOneFindsNoRoom(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		r.cache.unkept(chunk.Ref{Size: 1 << 40}, fault.New(fault.Full, "no space left"))
		r.mustRead(w.put(1, 1000), Request{})
		if r.cache.Unkept() == "" {
			t.Error("the relay says that it is well")
		}
	})
}

// What has a tag only need not all be here: an owner who gave a relay little room wants it so.
func TestASmallBudgetIsToldAndNotCalledUnwell(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.declare("r1")
		w.apply(catalog.SetRelay{Name: "r1", Budget: new(int64(16 << 20))})
		w.image("debian", 1, 3)
		for seed := range uint64(5) {
			w.apply(catalog.PutOverlay{Overlay: catalog.Overlay{Name: catalog.OverlayName(fmt.Sprintf("o%d", seed)), Content: w.put(100+seed, 4<<20)}})
		}
		r.run()
		time.Sleep(2 * warmEvery)
		if why := r.cache.Unkept(); why != "" {
			t.Errorf("unwell: %s", why)
		}
		if p := strings.Join(r.cache.Problems(), "\n"); !strings.Contains(p, "budget of 16777216 bytes is spent") {
			t.Errorf("problems %q", p)
		}
	})
}

// Many chunks that come at once do not take the room that is left of the disk each for itself.
func TestWhatComesAtTheSameTimeTakesRoom(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		free, _, err := r.cache.store.Free()
		if err != nil {
			t.Fatal(err)
		}
		r.cache.coming.left.Store(free)
		ref := w.put(1, 1000)
		if r.mustRead(ref, Request{}); r.cache.Has(ref.ID) || r.cache.Unkept() == "" {
			t.Error("a chunk was kept where others take all room")
		}
		r.cache.coming.left.Store(0)
		if r.mustRead(ref, Request{}); !r.cache.Has(ref.ID) || r.cache.Unkept() != "" {
			t.Error("a chunk was not kept where there is room")
		}
	})
}

// What is fetched ahead for an image that has a tag only is not kept at the cost of its like, though there was room when it was
// asked for.
func TestWhatIsFetchedAheadDoesNotPushOutItsLike(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.declare("r1")
		w.apply(catalog.SetRelay{Name: "r1", Budget: new(int64(16 << 20))})
		for i := range uint64(8) {
			big := w.put(100+i, 5<<20)
			m := &chunk.Manifest{Format: chunk.ManifestFormat, Image: "debian", Arch: "amd64", Segments: []chunk.Segment{{Ref: big}}}
			m.Kernels = []chunk.Kernel{{Version: "6.1", Kernel: w.put(1, 1000), StageOne: w.put(2, 1000)}}
			b, err := chunk.Sign(m, w.key)
			if err != nil {
				t.Fatal(err)
			}
			w.apply(catalog.PutImage{Name: catalog.ImageName(fmt.Sprintf("i%d", i)), Version: catalog.ImageVersion{Manifest: w.putBytes(b), Arch: "amd64", Kernels: m.Kernels}})
		}
		w.piece = 1 << 20 // so that all eight come at once
		r.run()
		time.Sleep(10 * time.Minute)
		sent := w.sentTotal()
		time.Sleep(time.Hour)
		if s := r.cache.Status(); s.Bytes > 16<<20 || s.Bytes < 15<<20 || w.sentTotal() != sent {
			t.Errorf("%d bytes are here, %d chunks came in an hour", s.Bytes, w.sentTotal()-sent)
		}
	})
}

// An upstream that was given up for its silence may have sent all by then. What is here is kept: to wait with it in memory,
// as if the disk took nothing, would end a round of fetching ahead.
func TestWhatHasComeIsKeptThoughItsUpstreamWasGivenUp(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		c := w.relays["r1"].cache
		body := strings.Repeat("x", 10_000)
		ref := chunk.RefOf([]byte(body))
		ctx, giveUp := context.WithCancel(context.Background())
		f := &flight{begun: make(chan struct{}), done: make(chan struct{})}
		held, err := c.keep(ctx, f, ref, &fading{strings.NewReader(body), giveUp})
		if held != nil || err != nil || !c.Has(ref.ID) || c.Unkept() != "" {
			t.Errorf("in memory %v, on disk %v, %v; %q", held != nil, c.Has(ref.ID), err, c.Unkept())
		}
	})
}

// fading is a reader whose upstream is given up as its last byte comes.
type fading struct {
	*strings.Reader
	giveUp func()
}

func (f *fading) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.Len() == 0 {
		f.giveUp()
	}
	return n, err
}
