package cache

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// sameRoot returns two chunks of so many bytes that the leaf asks the root for, and both.
func (w *world) sameRoot(one, other int) (a, b chunk.Ref, root, leaf *relay) {
	a = w.put(1, one)
	root, leaf = w.rootAndLeaf(a)
	for seed := uint64(2); b.Size == 0; seed++ {
		ref := w.put(seed, other)
		if r, _ := w.rootAndLeaf(ref); r == root {
			b = ref
		}
	}
	return a, b, root, leaf
}

// A chunk that is fetched ahead through another relay rests while that one's nodes wait for others. When a node waits for it,
// too, that goes for it no longer, wherever it is on its way.
func TestANodeThatWaitsIsHeardOfAbove(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		a, b, root, leaf := w.sameRoot(2<<20, 2<<20)
		w.piece = 64 << 10 // half a minute each
		var wg sync.WaitGroup
		wg.Go(func() { root.mustRead(a, Request{}) })
		wg.Go(func() {
			if _, err := leaf.cache.obtain(context.Background(), b, Request{Ahead: true}); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(5 * time.Second)
		began := time.Now()
		leaf.mustRead(b, Request{})
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("the node waited for %v", took)
		}
		wg.Wait()
		if n := w.sentTotal(); n != 2 {
			t.Errorf("the controller sent %d chunks", n)
		}
	})
}

// So it is where the other relay has the chunk and may send no more than a declared rate.
func TestANodeThatWaitsIsHeardOfWhereSendingIsBounded(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		a, b, root, leaf := w.sameRoot(4<<20, 1<<20)
		root.mustRead(a, Request{})
		root.mustRead(b, Request{})
		w.declare(root.name)
		w.apply(catalog.SetRelay{Name: catalog.RelayName(root.name), Rate: new(int64(200_000))})
		ahead := func(ref chunk.Ref) {
			if _, err := leaf.cache.obtain(context.Background(), ref, Request{Ahead: true}); err != nil {
				t.Error(err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { leaf.mustRead(a, Request{}) })
		wg.Go(func() { ahead(b) })
		time.Sleep(time.Second)
		began := time.Now()
		leaf.mustRead(b, Request{})
		if took := time.Since(began); took > 15*time.Second { // the other takes longer
			t.Errorf("the node waited for %v", took)
		}
		wg.Wait()
	})
}

// A node that waits for what does not come keeps nothing else waiting.
func TestOnlyWhatMovesIsUrgent(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.piece = 1000
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = r.cache.Open(ctx, w.put(1, 120_000), Request{}) })
		time.Sleep(5 * time.Second)
		if !r.cache.pace.busy() {
			t.Error("what a node waits for, and what moves, is not urgent")
		}
		w.net.Stall("c1")
		time.Sleep(2 * time.Second)
		if r.cache.pace.busy() {
			t.Error("what does not move is urgent")
		}
		cancel()
		wg.Wait()
		w.net.Heal()
		time.Sleep(5 * time.Minute) // for the controller to notice
	})
}
