package chunks

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// guard is a store from which nothing is collected that somebody has just put there, or found there and now
// relies on: between the two and the change that refers to the chunk may lie the hours of an import. It opens no
// damaged chunk.
type guard struct {
	chunkstore.Store
	grace   time.Duration
	reserve int64                        // 0: reserveOf
	broken  func(id chunk.ID, why error) // told of a chunk that was found damaged; it takes it out of the store
	lacking func()                       // told when somebody wanted what is not here

	mu      sync.Mutex
	used    map[chunk.ID]time.Time     // last use, or when it was first found that nothing refers to it
	going   map[chunk.ID]chan struct{} // being deleted now; closed when it is gone
	holds   map[*hold]struct{}
	coming  int64                 // bytes of the chunks that are being put
	checked map[chunk.ID]checking // those that were whole a while ago
}

func newGuard(s chunkstore.Store, cfg Config) *guard {
	return &guard{
		Store: s, grace: cfg.Grace, reserve: cfg.Reserve,
		used: map[chunk.ID]time.Time{}, going: map[chunk.ID]chan struct{}{}, holds: map[*hold]struct{}{}, checked: map[chunk.ID]checking{},
	}
}

// freer is a store that knows how much room it has.
type freer interface {
	Free() (bytes int64, percent float64, err error)
}

// Put stores a chunk unless its file system is nearly full: the log needs the last of it.
func (g *guard) Put(ctx context.Context, ref chunk.Ref, r io.Reader) error {
	if err := g.use(ctx, ref.ID); err != nil {
		return err
	}
	err := g.admit(ref.Size)
	if err == nil {
		err = g.Store.Put(ctx, ref, r)
		g.mu.Lock()
		g.coming -= ref.Size
		g.mu.Unlock()
	}
	if err != nil {
		g.unuse(ref.ID)
		return err
	}
	g.touch(ref.ID)
	return nil
}

// admit takes room for a chunk, or fails with fault.Full. What others are putting now is not free.
func (g *guard) admit(size int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.room(g.coming + size); err != nil {
		return err
	}
	g.coming += size
	return nil
}

// room tells whether so many bytes more may be stored: nil, or fault.Full.
func (g *guard) room(size int64) error {
	f, ok := g.Store.(freer)
	if !ok {
		return nil
	}
	free, percent, err := f.Free()
	if err != nil {
		return err
	}
	reserve := g.reserve
	if reserve == 0 {
		reserve = reserveOf(free, percent)
	}
	if free-size < reserve {
		return fault.New(fault.Full, "the chunk store has %d MiB left, and %d MiB of its disk stay reserved", free>>20, reserve>>20).
			WithFix("delete images that are not needed, or give the data directory a larger disk")
	}
	return nil
}

// reserveOf is what chunks leave free: more than that with which the log on the same disk stops taking entries, which
// is a tenth of it and at most 1 GiB (replication.Config.MinFree).
func reserveOf(free int64, percent float64) int64 {
	if percent <= 0 {
		return 0
	}
	total := float64(free) * 100 / percent
	return int64(min(total/8, 3<<29))
}

// Stat tells the size of a chunk to somebody who will rely on it.
func (g *guard) Stat(ctx context.Context, id chunk.ID) (int64, error) {
	if err := g.use(ctx, id); err != nil {
		return 0, err
	}
	n, err := g.Store.Stat(ctx, id)
	if err != nil {
		g.unuse(id)
		return n, err
	}
	g.touch(id)
	return n, nil
}

// unuse forgets a use of what is not here. Should somebody else be storing it at this moment, it is noticed, and its
// time begins, when it is first found that nothing refers to it.
func (g *guard) unuse(id chunk.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.used, id)
}

// use keeps a chunk from being collected. It waits for a collection of the chunk that has begun.
func (g *guard) use(ctx context.Context, id chunk.ID) error {
	for {
		g.mu.Lock()
		gone, is := g.going[id]
		if !is {
			g.used[id] = time.Now()
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dated is a store that knows when it was given a chunk, or when somebody last relied on it.
type dated interface {
	Stored(id chunk.ID) (time.Time, error)
	Touch(id chunk.ID) error
}

// touch notes a use where a restart does not forget it, unless a recent one is noted there. Where that fails nothing is
// lost before the next restart.
func (g *guard) touch(id chunk.ID) {
	if d, ok := g.Store.(dated); ok {
		if at, err := d.Stored(id); err == nil && time.Since(at) > g.grace/8 {
			_ = d.Touch(id)
		}
	}
}

// note says that something referred to these until now.
func (g *guard) note(refs []chunk.Ref) {
	g.mu.Lock()
	for _, ref := range refs {
		g.used[ref.ID] = time.Now()
	}
	g.mu.Unlock()
	for _, ref := range refs {
		g.touch(ref.ID)
	}
}

// unused deletes a chunk that nothing refers to if it has been so, and unused, for the time of grace. Of whose use nothing
// is known, the time begins when it was stored, or now where the store does not know that.
func (g *guard) unused(ctx context.Context, id chunk.ID, o CollectOptions) (gone, held bool, err error) {
	done := make(chan struct{})
	g.mu.Lock()
	last, known := g.used[id]
	if !known {
		last = time.Now()
		if d, ok := g.Store.(dated); ok {
			if at, err := d.Stored(id); err == nil {
				last = at
			}
		}
		g.used[id] = last
	}
	old := time.Since(last) >= o.Grace
	held = known && g.held(last)
	if !old || held || o.DryRun {
		g.mu.Unlock()
		return old && !held, old && held, nil
	}
	g.going[id] = done
	delete(g.used, id)
	delete(g.checked, id)
	g.mu.Unlock()

	err = g.Store.Delete(ctx, id)

	g.mu.Lock()
	delete(g.going, id)
	g.mu.Unlock()
	close(done)
	return err == nil, false, err
}

// forget drops what is known of uses that are over: of chunks that something refers to, and of those that left.
func (g *guard) forget(needed map[chunk.ID]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, last := range g.used {
		if old := time.Since(last); needed[id] && old >= g.grace || old >= 2*g.grace {
			delete(g.used, id)
		}
	}
}
