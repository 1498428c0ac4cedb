package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// keep reads a chunk, verifies it, and puts it on disk; what no disk takes it returns, if it is not too large for
// that. A large chunk, or one too many at a time, goes to disk as it comes.
func (c *Cache) keep(ctx context.Context, f *flight, ref chunk.Ref, r io.Reader) (*held, error) {
	if ref.Size > maxInMemory || !c.memory.TryAcquire(ref.Size) {
		source := &counted{r: r}
		err := c.put(ctx, f, ref, source)
		switch {
		case err == nil:
			c.unkept(ref, nil)
		case source.err == nil && ctx.Err() == nil && !errors.Is(err, fault.Corrupt): // it came well, and is too large to be held
			err = fault.Wrap(fault.Full, err, "chunk %s cannot be kept here", ref.ID.Short())
			c.unkept(ref, err)
		}
		return nil, err
	}
	h := newHeld(ref.Size, func() { c.memory.Release(ref.Size) })
	over := c.comes(f, h)
	err := h.fill(r, ref)
	if err != nil {
		over()
		h.release()
		return nil, err
	}
	defer over()
	// All of it is here. Whether the upstream was given up meanwhile, or nobody waits any more, does not matter now.
	err = c.put(context.WithoutCancel(ctx), f, ref, bytes.NewReader(h.b))
	c.unkept(ref, err)
	if err != nil { // a relay whose disk is full or broken still serves
		return h, nil
	}
	h.release()
	return nil, nil
}

// overBudget is the error that a chunk would exceed the declared budget. That is nothing wrong: other relays would be told
// that this one is unwell for what its owner wants.
type overBudget struct{ error }

func (o overBudget) Unwrap() error { return o.error }

// unkept notes why a chunk could not be kept, or that one could, which says nothing of larger ones.
func (c *Cache) unkept(ref chunk.Ref, err error) {
	if _, declared := errors.AsType[overBudget](err); declared {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && ref.Size < c.fullFor.Size {
		return
	}
	if (c.full == nil) != (err == nil) {
		c.cfg.Log.Warn("whether chunks can be kept on disk has changed", "relay", c.cfg.Name, "err", err)
	}
	if c.full, c.fullFor = err, ref; err == nil {
		c.fullFor = chunk.Ref{}
	}
}

// mend looks whether what could not be kept could be by now: somebody may have made room, and nobody asks for it again.
func (c *Cache) mend() {
	c.mu.Lock()
	full, ref := c.full, c.fullFor
	c.mu.Unlock()
	if full == nil {
		return
	}
	_, _, err := c.victim(ref, false)
	if _, declared := errors.AsType[overBudget](err); (err == nil || declared) && c.store.Try() == nil {
		c.unkept(ref, nil)
	}
}

// Unkept says why chunks cannot be kept on disk; "" if they can.
func (c *Cache) Unkept() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full == nil {
		return ""
	}
	return "chunks are served without being kept: " + c.full.Error()
}

// wrongLength tells a chunk that breaks off, which another upstream has whole, from one whose bytes are wrong.
func wrongLength(r io.Reader, v *chunk.Verifier, n int, ref chunk.Ref, err error) error {
	if err != nil && ref.Size > 0 {
		return fault.Wrap(fault.Unavailable, err, "chunk %s breaks off after %d of %d bytes", ref.ID.Short(), n, ref.Size)
	}
	if n, _ := r.Read(make([]byte, 1)); n > 0 {
		return fault.New(fault.Corrupt, "chunk %s is longer than its %d bytes", ref.ID.Short(), ref.Size)
	}
	return v.Verify()
}

// put writes a chunk to disk, making room for it.
func (c *Cache) put(ctx context.Context, f *flight, ref chunk.Ref, r io.Reader) error {
	read := &counted{r: r, left: &c.coming.left}
	over, err := c.takeRoom(ctx, ref, read, !f.urgent.Load())
	if err != nil {
		return err
	}
	defer over()
	if !c.index.has(ref.ID) { // what lies there could not be put aside; it would be taken for the chunk
		if err := c.store.Delete(ctx, ref.ID); err != nil {
			return err
		}
	}
	if err := c.store.Put(ctx, ref, read); err != nil {
		return err
	}
	c.index.add(ref)
	kept, err := c.store.Open(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer kept.Close()
	if file, ok := kept.Content().(*os.File); ok && read.n == ref.Size { // it was verified as it was written; was it written?
		if id, err := identify(file); err == nil {
			c.index.judge(ref.ID, id, time.Now())
		}
	}
	return nil
}

// counted knows how much was read, and what went wrong with it.
type counted struct {
	r    io.Reader
	n    int64
	err  error
	left *atomic.Int64 // is less by as much; it may be nil
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left != nil {
		c.left.Add(-int64(n))
	}
	if c.n += int64(n); err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// coming is what goes to disk now: those who come at the same time are not to take the same room.
type coming struct {
	mu   sync.Mutex   // held while room is made and taken
	size atomic.Int64 // of the chunks
	left atomic.Int64 // bytes of them that are not written yet
}

// takeRoom makes room for a chunk, which is its own until over is called.
func (c *Cache) takeRoom(ctx context.Context, ref chunk.Ref, read *counted, ahead bool) (over func(), err error) {
	c.coming.mu.Lock()
	defer c.coming.mu.Unlock()
	if err := c.makeRoom(ctx, ref, ahead); err != nil {
		return nil, err
	}
	c.coming.size.Add(ref.Size)
	c.coming.left.Add(ref.Size)
	return func() {
		c.coming.size.Add(-ref.Size)
		c.coming.left.Add(read.n - ref.Size)
	}, nil
}

// makeRoom removes the chunks that were asked for longest ago, and that no node boots from, until there is room for
// one more; fault.Full if that is not enough. What nodes boot from may exceed the budget, but not the disk. What is
// fetched ahead, for images that only have a tag, does not push out its like: or they would take turns for ever.
// Until it is known what nodes boot from, as after a start, what may belong to it stays, and the budget is exceeded.
func (c *Cache) makeRoom(ctx context.Context, ref chunk.Ref, ahead bool) error {
	for {
		victim, ok, err := c.victim(ref, ahead)
		if err != nil || !ok {
			return err
		}
		c.index.remove(victim.ID)
		if err := c.store.Delete(ctx, victim.ID); err != nil {
			return err
		}
	}
}

// victim is the chunk that should go next so that there is room for one more; false if there is room.
func (c *Cache) victim(ref chunk.Ref, ahead bool) (victim chunk.Ref, ok bool, err error) {
	_, bytes := c.index.total()
	free, _, err := c.store.Free()
	if err != nil {
		return chunk.Ref{}, false, err
	}
	free -= c.coming.left.Load()
	budget, coming := c.budget(), c.coming.size.Load()
	over := budget > 0 && bytes+coming+ref.Size > budget
	if !over && free >= ref.Size+reserve {
		return chunk.Ref{}, false, nil
	}
	needs := c.present()
	spare := ahead && !needs.pinned(ref.ID)
	victim, ok = c.index.oldest(func(id chunk.ID) bool {
		k, known := needs.known[id]
		return id != ref.ID && (known || !needs.blind) && !k.pin && !k.keep && !(spare && k.want)
	})
	switch {
	case ok:
		return victim, true, nil
	case free < ref.Size+reserve:
		return chunk.Ref{}, false, fault.New(fault.Full, "the chunk cache's disk is full: %d bytes are free, and all chunks are needed", max(free, 0)).WithFix("give the relay a larger disk, or take images away that no node uses")
	case needs.pinned(ref.ID), !ahead && (needs.blind || bytes+ref.Size <= budget): // some of what comes may go later
		return chunk.Ref{}, false, nil
	default:
		return chunk.Ref{}, false, overBudget{fault.New(fault.Full, "the chunk cache's budget of %d bytes is spent on what nodes need", budget).WithFix("raise it: wulf relay set %s --budget SIZE", c.cfg.Name)}
	}
}
