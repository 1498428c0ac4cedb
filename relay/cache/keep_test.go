package cache

import (
	"context"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
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
