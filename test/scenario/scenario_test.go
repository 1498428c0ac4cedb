// Package scenario tells stories of a whole mesh in virtual time: what must hold while controllers and relays die, are
// cut off, grow and come back, and while machines boot through all that. The mesh is real but for its network, its
// machines and its clock: see test/mesh.
//
// A story is told with several seeds, which move what dies and when, and what the network loses: one with -short, as
// many as WULF_SEEDS says, else two. A seed that failed is told again with WULF_SEED.
package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// tell tells a story of a mesh of that size, with each seed in a bubble of its own. The dice are the story's.
func tell(t *testing.T, size mesh.Size, story func(t *testing.T, m *mesh.Mesh, dice *rand.Rand)) {
	t.Helper()
	seeds(t, func(t *testing.T, seed uint64) {
		size.Seed = seed
		mesh.Run(t, size, func(t *testing.T, m *mesh.Mesh) {
			story(t, m, rand.New(rand.NewPCG(seed, 0x73746f7279)))
		})
	})
}

// seeds runs a test with each seed.
func seeds(t *testing.T, run func(t *testing.T, seed uint64)) {
	t.Helper()
	count := 2
	if testing.Short() {
		count = 1
	}
	if n, err := strconv.Atoi(os.Getenv("WULF_SEEDS")); err == nil {
		count = n
	}
	first := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("WULF_SEED"), 10, 64); err == nil {
		first, count = n, 1
	}
	for seed := first; seed < first+uint64(count); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { run(t, seed) })
	}
}

// between is a duration chosen by the dice.
func between(dice *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(dice.Int64N(int64(to-from)))
}

// pace is the pause of a writer after each write: virtual time is free, writes are not.
const pace = 100 * time.Millisecond

// writers add nodes, one after the other each, through all controllers, until stop.
type writers struct {
	t      *testing.T
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	acked map[catalog.NodeName]catalog.Revision
}

// write starts so many writers. A write that is refused for another reason than that nobody can order it is an error:
// a change that was applied twice is refused as a conflict with itself.
func write(t *testing.T, m *mesh.Mesh, count int) *writers { return writeEvery(t, m, count, pace) }

// writeEvery is write with another pause: each node that is added is one more in everybody's overlays.
func writeEvery(t *testing.T, m *mesh.Mesh, count int, pause time.Duration) *writers {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writers{t: t, cancel: cancel, acked: map[catalog.NodeName]catalog.Revision{}}
	t.Cleanup(w.stop)
	for i := range count {
		client := m.ClientOf()
		w.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := catalog.NodeName(fmt.Sprintf("w%d-%05d", i, n))
				rev, err := client.Change(ctx, catalog.AddNodes{Nodes: []catalog.Node{{Name: name}}}, api.ChangeOptions{})
				switch {
				case err == nil:
					w.mu.Lock()
					w.acked[name] = rev
					w.mu.Unlock()
				case ctx.Err() == nil:
					t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	return w
}

// count is how many writes were acknowledged so far.
func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// stop ends the writers and waits for them.
func (w *writers) stop() {
	w.cancel()
	w.done.Wait()
}

// progress waits until more was acknowledged.
func (w *writers) progress(m *mesh.Mesh, more int) {
	w.t.Helper()
	before := w.count()
	m.Eventually(fmt.Sprintf("%d more writes", more), func() bool { return w.count() >= before+more })
}

// check looks for every acknowledged write on every controller that runs, at its revision or after.
func (w *writers) check(m *mesh.Mesh) {
	w.t.Helper()
	for _, c := range m.Controllers {
		if !c.Running() {
			continue
		}
		now, missing := c.Catalog(), 0
		for name, rev := range w.acked {
			if _, ok := now.Node(name); !ok || rev > now.Revision {
				missing++
				w.t.Errorf("%s was acknowledged at revision %d, and %s at revision %d does not have it", name, rev, c.Name, now.Revision)
			}
			if missing > 5 {
				break
			}
		}
	}
}

// get reads JSON from some controllers, or all.
func get[T any](t *testing.T, m *mesh.Mesh, path string, of ...*mesh.Controller) (T, error) {
	t.Helper()
	client := m.ClientOf(of...)
	defer client.Close()
	var out T
	err := client.Get(m.Ctx(), path, &out)
	return out, err
}
