package cache

import (
	"sync"
	"testing"
	"time"
)

// The root of a chunk's tree dies while all below get it as it comes. Each of them sees that the answer of the one above
// ends; only those that asked the root leave theirs.
func TestARootThatDiesDoesNotMakeThoseBelowLeaveTheirParents(t *testing.T) {
	for name, die := range map[string]func(w *world, root string){
		"process": func(w *world, root string) { w.net.Kill(root) },
		"machine": func(w *world, root string) { w.net.Stall(root) },
		"network": func(w *world, root string) { w.net.Cut(root) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 40, func(w *world) {
				ref := w.put(1, 120_000)
				root, _ := w.rootAndLeaf(ref)
				w.piece = 3000
				var wg sync.WaitGroup
				for _, r := range w.relays {
					if r != root {
						wg.Go(func() { r.mustRead(ref, Request{}) })
					}
				}
				time.Sleep(20 * time.Second)
				die(w, root.name)
				wg.Wait()
				if n := w.sentTotal(); n != 2 {
					t.Errorf("the controller sent the chunk %d times", n)
				}
				for name, r := range w.relays {
					if r == root {
						continue
					}
					for left := range r.cache.avoid {
						if left != "relay "+root.name {
							t.Errorf("%s leaves %s", name, left)
						}
					}
				}
				w.net.Heal()
			})
		})
	}
}
