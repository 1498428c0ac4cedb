package chunks

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// slow is a store that keeps whoever puts a chunk, or opens one that is there, waiting until it is let go.
type slow struct {
	chunkstore.Store
	gate chan struct{}
	puts atomic.Int64
}

func (s *slow) wait(ctx context.Context) error {
	select {
	case <-s.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) Put(ctx context.Context, ref chunk.Ref, r io.Reader) error {
	s.puts.Add(1)
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Store.Put(ctx, ref, r)
}

func (s *slow) Open(ctx context.Context, id chunk.ID) (chunkstore.File, error) {
	f, err := s.Store.Open(ctx, id)
	if err == nil {
		err = s.wait(ctx)
	}
	return f, err
}

func (p *peer) slow() *slow {
	s := &slow{Store: p.mem, gate: make(chan struct{})}
	p.cfg.Store, p.Keeper.store.Store = s, s
	return s
}

func TestTheMajorityIsOneOfThoseWhoVoteWhenAPushEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 5, Config{})
		defer r.net.Close()
		var mu sync.Mutex
		voters := []catalog.ControllerName{"c1", "c2", "c3"}
		p := r.ctls[0]
		p.cfg.Voters = func() []catalog.ControllerName {
			mu.Lock()
			defer mu.Unlock()
			return voters
		}
		r.net.Cut("c3")
		s := r.ctls[1].slow()
		refs := r.image(p, "a", "b")
		done := make(chan error, 1)
		go func() { done <- p.Push(t.Context(), refs, nil) }()
		time.Sleep(time.Second)
		mu.Lock()
		voters = []catalog.ControllerName{"c1", "c3", "c4", "c5"} // c2 has no vote any more
		mu.Unlock()
		close(s.gate)
		must(t, <-done)
		if r.ctls[3].has(refs) != len(refs) || r.ctls[4].has(refs) != len(refs) {
			t.Errorf("c4 and c5 have %d and %d of %d chunks", r.ctls[3].has(refs), r.ctls[4].has(refs), len(refs))
		}
	})
}

func TestAControllerThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 3, Config{})
		defer r.net.Close()
		s := r.ctls[1].slow()
		refs := r.image(r.ctls[0], "a", "b")
		began := time.Now()
		must(t, r.ctls[0].Push(t.Context(), refs, nil)) // the third is enough
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a push with one controller that hangs took %s", took)
		}
		r.net.Cut("c3")
		more := r.image(r.ctls[0], "c")
		began = time.Now()
		if err := r.ctls[0].Push(t.Context(), more, nil); !errors.Is(err, fault.Unavailable) {
			t.Errorf("without a majority: %v", err)
		}
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("it took %s to say so", took)
		}
		r.net.Heal()

		// Who lacks chunks gets them from the other one.
		r.putImage(refs)
		late := r.ctls[2]
		for _, ref := range refs {
			must(t, late.mem.Delete(t.Context(), ref.ID))
		}
		defer run(t, late)()
		time.Sleep(3 * time.Minute)
		if n := late.has(refs); n != len(refs) {
			t.Errorf("with one controller that hangs it got %d of %d chunks", n, len(refs))
		}
		close(s.gate)
	})
}

func TestTheSameChunksPushedTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 3, Config{})
		defer r.net.Close()
		refs := r.image(r.ctls[0], "a", "b", "c")
		r.image(r.ctls[1], "a", "b", "c")
		var g sync.WaitGroup
		for i := range 4 {
			g.Go(func() {
				if err := r.ctls[i%2].Push(t.Context(), refs, nil); err != nil {
					t.Error(err)
				}
			})
		}
		g.Wait()
	})
}

// A push that is broken off and done again sends only what is not there yet.
func TestAPushThatIsDoneAgainGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{})
		defer r.net.Close()
		s := r.ctls[1].slow()
		refs := r.image(r.ctls[0], "a", "b", "c", "d", "e", "f")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		for range 2 {
			go func() { s.gate <- struct{}{} }()
		}
		if err := r.ctls[0].Push(ctx, refs, nil); !errors.Is(err, fault.Unavailable) {
			t.Errorf("broken off: %v", err)
		}
		close(s.gate)
		time.Sleep(time.Second) // what was on its way arrives
		had := r.ctls[1].has(refs)
		if had == 0 || had == len(refs) {
			t.Fatalf("%d chunks came over", had)
		}
		before := s.puts.Load()
		must(t, r.ctls[0].Push(t.Context(), refs, nil))
		if n := int(s.puts.Load() - before); n != len(refs)-had || r.ctls[1].has(refs) != len(refs) {
			t.Errorf("%d chunks were sent where %d of %d were there", n, had, len(refs))
		}
	})
}

func TestWhatIsHeldIsNotCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 1, Config{})
		defer r.net.Close()
		p := r.ctls[0]
		stray := r.image(p, "stray")
		time.Sleep(time.Second)
		release := p.Hold()
		refs := r.image(p, "a", "b")
		time.Sleep(time.Hour)
		if out := collect(t, p, CollectOptions{}); out.Chunks != len(stray) || out.Held != len(refs) || p.has(refs) != len(refs) {
			t.Errorf("collected %+v, and %d of %d are left", out, p.has(refs), len(refs))
		}
		release()
		release()
		if out := collect(t, p, CollectOptions{}); out.Chunks != len(refs) {
			t.Errorf("let go: %+v", out)
		}
		p.Hold() // who forgets to let go
		refs = r.image(p, "c")
		time.Sleep(maxHold + time.Minute)
		if out := collect(t, p, CollectOptions{}); out.Chunks != len(refs) {
			t.Errorf("a day later: %+v", out)
		}
	})
}

func TestNothingIsCollectedBeforeTheCatalogIsKnown(t *testing.T) {
	r := newRoom(t, 0, Config{})
	k := New(Config{Store: chunkstore.NewMem(), Catalog: r.state})
	if _, err := k.Collect(t.Context(), CollectOptions{}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Collect = %v", err)
	}
}
