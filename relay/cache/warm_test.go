package cache

import (
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Fetching ahead may take hours. What nodes are to boot comes first even if it is published in the middle, and what was
// deleted meanwhile does not come at all.
func TestWhatIsPublishedMeanwhileComesFirst(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.declare("r1")
		w.apply(catalog.SetRelay{Name: "r1", Rate: new(int64(100_000))})
		_, slow := w.image("slow", 1, 400) // 44 seconds
		r.run()
		time.Sleep(3 * time.Second)
		_, refs := w.image("debian", 300, 5)
		w.apply(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Image: new("debian")}}}})
		time.Sleep(10 * time.Second) // in part of which those come that were under way, and others beside them
		for _, ref := range refs {
			if !r.cache.Has(ref.ID) {
				t.Errorf("chunk %s, which a node needs, waits behind what nobody needs", ref.ID.Short())
			}
		}
		w.apply(catalog.DeleteImage{Name: "slow"})
		time.Sleep(time.Minute)
		if s := r.cache.Status(); s.Missing != 0 || s.Chunks > len(slow)/2 {
			t.Errorf("%d chunks of an image that was deleted, status %+v", s.Chunks, s)
		}
	})
}

// What fails once is not left until all else has come.
func TestWhatFailsOnceIsFetchedBeforeTheRest(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		r := w.relays["r1"]
		w.declare("r1")
		w.apply(catalog.SetRelay{Name: "r1", Rate: new(int64(100_000))})
		_, refs := w.image("slow", 1, 200)
		lost := refs[0]
		w.mu.Lock()
		b := w.chunks[lost.ID]
		delete(w.chunks, lost.ID)
		w.mu.Unlock()
		r.run()
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		w.chunks[lost.ID] = b
		w.mu.Unlock()
		time.Sleep(12 * time.Second) // it shares the rate with others
		if s := r.cache.Status(); !r.cache.Has(lost.ID) || s.Missing == 0 {
			t.Errorf("what failed is here: %v; status %+v", r.cache.Has(lost.ID), s)
		}
		time.Sleep(time.Minute)
		if s := r.cache.Status(); s.Missing != 0 || s.Chunks != len(refs) {
			t.Errorf("status %+v", s)
		}
	})
}

func TestRetriesAreDueOnce(t *testing.T) {
	inWorld(t, 1, func(*world) {
		a, b := chunk.RefOf([]byte("a")), chunk.RefOf([]byte("b"))
		var r retries
		r.note(a)
		time.Sleep(warmRetry - time.Millisecond)
		r.note(b)
		if due := r.due(); due != nil {
			t.Errorf("%v are due too early", due)
		}
		time.Sleep(time.Millisecond)
		if due := r.due(); len(due) != 2 {
			t.Errorf("%v are due", due)
		}
		r.note(a)
		time.Sleep(time.Hour)
		if due := r.due(); due != nil {
			t.Errorf("%v are due again", due)
		}
	})
}
