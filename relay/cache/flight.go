package cache

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// flight is a chunk being fetched. Whoever wants it meanwhile waits for it, so that a hundred readers cost one fetch. It
// is given up when all readers have left before it is there.
type flight struct {
	cancel   context.CancelFunc
	progress atomic.Int64 // bytes that came, here or where the upstream gets them from
	urgent   atomic.Bool  // a node waits for it

	// Guarded by Cache.mu.
	hurry func()        // tells the upstream that a node waits; nil where it knows
	users int           // those who wait for it, and the fetch itself
	part  *held         // what comes in memory now; nil before, and between two upstreams
	begun chan struct{} // closed when it begins to come so; another one after each upstream

	done chan struct{} // closed when the following are set
	body *held         // the chunk, where the disk did not take it; it stays until all users have seen it
	err  error
}

// sayEvery is how often one says that a chunk comes nearer.
const sayEvery = time.Second

// obtain gets a chunk that is not here. It returns nil when the chunk is on disk now, and the chunk itself where no
// disk would take it. Another relay may get the chunk while it comes: it verifies what it got before it goes on, and
// does not get the end before it was verified here.
//
// Relays never wait for each other in a circle: each asks only those above it in the chunk's tree, which is the same in
// every relay's view of the mesh, whoever is alive in it.
func (c *Cache) obtain(ctx context.Context, ref chunk.Ref, q Request) (chunkstore.File, error) {
	if q.Hops >= api.MaxHops {
		return nil, fault.New(fault.Unavailable, "relay %s does not have chunk %s", c.cfg.Name, ref.ID.Short())
	}
	c.mu.Lock()
	f, running := c.flights[ref.ID]
	if running {
		f.users++
	} else {
		f = &flight{users: 2, begun: make(chan struct{}), done: make(chan struct{})}
		var work context.Context
		work, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		c.flights[ref.ID] = f
		go c.work(work, f, ref, q.Hops)
	}
	if !q.Ahead && !f.urgent.Swap(true) && f.hurry != nil {
		go f.hurry()
	}
	c.mu.Unlock()
	if part, ok := c.await(ctx, f, ref.ID, q); ok {
		return part, nil
	}
	defer c.leave(ref.ID, f)
	select {
	case <-f.done:
		return f.body.open(), f.err
	default:
		return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "waiting for chunk %s", ref.ID.Short())
	}
}

// work is the fetch of a flight.
func (c *Cache) work(ctx context.Context, f *flight, ref chunk.Ref, hops int) {
	defer f.cancel()
	f.body, f.err = c.fetch(ctx, f, ref, hops)
	c.mu.Lock()
	if c.flights[ref.ID] == f {
		delete(c.flights, ref.ID)
	}
	c.mu.Unlock()
	close(f.done)
	c.leave(ref.ID, f)
}

// await waits until a flight has ended, or ctx has, and says now and then that the chunk comes nearer. A relay gets what
// comes in memory at once.
func (c *Cache) await(ctx context.Context, f *flight, id chunk.ID, q Request) (chunkstore.File, bool) {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	var begun chan struct{}
	if q.Hops > 0 {
		begun = c.beginning(f)
	}
	for said := int64(0); ; {
		select {
		case <-f.done:
			return nil, false
		case <-ctx.Done():
			return nil, false
		case <-begun:
			if file := c.partOf(f, id); file != nil {
				return file, true
			}
			begun = c.beginning(f) // from another upstream
		case <-tick.C:
			if p := f.progress.Load(); p > said && q.Nearer != nil {
				q.Nearer(p)
				said = p
			}
		}
	}
}

// aheadOf tells whether no node waits for a flight, and has hurry called when one does.
func (c *Cache) aheadOf(f *flight, hurry func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.hurry = hurry
	return !f.urgent.Load()
}

func (c *Cache) beginning(f *flight) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.begun
}

// partOf is what comes for a flight, to a reader that leaves the flight when it closes it; nil if nothing does now.
func (c *Cache) partOf(f *flight, id chunk.ID) chunkstore.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.part == nil {
		return nil
	}
	return f.part.openPart(func() { c.leave(id, f) })
}

// comes shows what comes in memory to those who may have it so, until over is called.
func (c *Cache) comes(f *flight, h *held) (over func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.part = h
	close(f.begun)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		f.part, f.begun = nil, make(chan struct{})
	}
}

// reached notes how far an upstream says that it has come, and reports whether that is news. It is never more than what
// came somewhere: if relays waited for each other after all, none would keep the other waiting.
func (f *flight) reached(progress int64) bool {
	for {
		old := f.progress.Load()
		if progress <= old {
			return false
		}
		if f.progress.CompareAndSwap(old, progress) {
			return true
		}
	}
}

// leave takes a user from a flight. When none is left but the fetch, that is given up, unless all has come; when it has
// left too, the chunk is.
func (c *Cache) leave(id chunk.ID, f *flight) {
	c.mu.Lock()
	f.users--
	left, forsaken := f.users, f.users == 1 && c.flights[id] == f && !f.part.whole()
	if forsaken {
		delete(c.flights, id) // whoever comes now begins anew
	}
	c.mu.Unlock()
	switch {
	case forsaken:
		f.cancel()
	case left == 0 && f.body != nil:
		f.body.release()
	}
}
