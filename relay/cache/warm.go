package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Timings and bounds of fetching what nobody has asked for yet.
const (
	warmParallel = 32              // chunks: with few under way a link stands still while those above it fetch what it waits for
	warmLarge    = 4 << 20         // bytes
	warmRetry    = 5 * time.Second // after something could not be fetched
	warmEvery    = 5 * time.Minute // in any case
	warmFull     = time.Minute     // while the disk takes nothing
	warmSettle   = 100 * time.Millisecond
)

// warm fetches what the catalog needs, as soon as it is published: nodes that boot should find it here.
func (c *Cache) warm(ctx context.Context) {
	if !pause(ctx, c.cfg.Settle) {
		return
	}
	for ctx.Err() == nil {
		changed := c.cfg.Changed()
		err := c.warmOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.unfetched = err
		c.mu.Unlock()
		wait := warmEvery
		if c.Unkept() != "" {
			wait = warmFull
		}
		if err != nil {
			wait = warmRetry
			c.cfg.Log.Debug("not all that nodes may need is here", "relay", c.cfg.Name, "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
			pause(ctx, warmSettle)
		case <-c.poke:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// warmOnce reads the manifests that are wanted and fetches the chunks that are missing. What does not fit is left to
// be fetched when it is asked for. It ends early when other chunks are wanted: some of them may come before the rest. What
// nodes boot shares the link with nothing that they might boot.
func (c *Cache) warmOnce(ctx context.Context) error {
	var first failure
	var g errgroup.Group
	g.SetLimit(warmParallel)
	for _, ref := range c.present().unread {
		g.Go(func() error {
			_, err := c.Manifest(ctx, ref.ID)
			first.note(err)
			return nil
		})
	}
	g.Wait()
	var full failure
	// A budget that was lowered is kept to at once. What nodes boot may exceed it.
	c.mend()
	if err := c.makeRoom(ctx, chunk.Ref{}, false); err != nil && !errors.Is(err, fault.Full) {
		first.note(err)
	}
	n := c.present()
	missing := c.missing()
	c.inTurn(missing)
	var again retries
	pinned := false // chunks of what nodes boot may be under way
	for ; len(missing) > 0 && ctx.Err() == nil && full.err() == nil; missing = missing[1:] {
		if now := c.present(); now != n {
			if !slices.Equal(now.wanted, n.wanted) {
				c.wake()
				break
			}
			n = now
		}
		missing = slices.Insert(missing, 0, again.due()...)
		ref := missing[0]
		if pin := n.pinned(ref.ID); pinned && !pin {
			g.Wait()
			pinned = false
		} else {
			pinned = pinned || pin
		}
		g.Go(func() error {
			err := c.fetchAhead(ctx, ref)
			if errors.Is(err, fault.Full) {
				full.note(err)
			} else if first.note(err); err != nil {
				again.note(ref)
			}
			return nil
		})
	}
	g.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, declared := errors.AsType[overBudget](full.err()); declared {
		c.spent = full.err()
	} else {
		c.spent = nil
	}
	return first.err()
}

// fetchAhead fetches a chunk to disk, or not at all.
func (c *Cache) fetchAhead(ctx context.Context, ref chunk.Ref) error {
	if c.index.has(ref.ID) {
		return nil
	}
	if err := c.makeRoom(ctx, ref, true); err != nil {
		c.unkept(ref, err)
		return err
	}
	f, err := c.obtain(ctx, ref, Request{Ahead: true})
	if f != nil {
		f.Close()
		return fault.New(fault.Full, "chunk %s does not fit on the disk", ref.ID.Short())
	}
	return err
}

// missing lists the wanted chunks that are not on disk, in the order in which they are fetched.
func (c *Cache) missing() []chunk.Ref {
	n := c.present()
	var refs []chunk.Ref
	for _, ref := range n.wanted {
		if !c.index.has(ref.ID) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// inTurn orders chunks to be fetched ahead: what boots begin with first; of the rest large ones, which take longest to come
// through; then those that few relays stand above of, here. So relays begin with different chunks, and most find what they
// ask for with the one that they ask.
func (c *Cache) inTurn(refs []chunk.Ref) {
	n, mesh, self := c.present(), c.view().mesh, string(c.cfg.Name)
	above := make(map[chunk.ID]int, len(refs))
	for _, ref := range refs {
		for _, u := range mesh.Tree(ref).Above(self) {
			if !u.Kept {
				above[ref.ID]++
			}
		}
	}
	slices.SortStableFunc(refs, func(a, b chunk.Ref) int {
		return cmp.Or(cmp.Compare(n.known[a.ID].turn, n.known[b.ID].turn), cmp.Compare(b.Size/warmLarge, a.Size/warmLarge), cmp.Compare(above[a.ID], above[b.ID]))
	})
}

// retries are the chunks that could not be fetched. Each is tried again once, before the rest, which may take hours.
type retries struct {
	mu    sync.Mutex
	tried map[chunk.ID]bool
	refs  []chunk.Ref
	since time.Time // when the first of refs failed
}

func (r *retries) note(ref chunk.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tried[ref.ID] {
		return
	}
	if r.tried == nil {
		r.tried = map[chunk.ID]bool{}
	}
	r.tried[ref.ID] = true
	if len(r.refs) == 0 {
		r.since = time.Now()
	}
	r.refs = append(r.refs, ref)
}

// due returns what should be tried again by now.
func (r *retries) due() []chunk.Ref {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.refs) == 0 || time.Since(r.since) < warmRetry {
		return nil
	}
	refs := r.refs
	r.refs = nil
	return refs
}

// failure keeps the first of many errors.
type failure struct {
	once  sync.Mutex
	first error
}

func (f *failure) note(err error) {
	f.once.Lock()
	defer f.once.Unlock()
	if f.first == nil {
		f.first = err
	}
}

func (f *failure) err() error {
	f.once.Lock()
	defer f.once.Unlock()
	return f.first
}

// Status counts what the cache holds and did since the start. Missing is about the catalog that is served now; a
// manifest that was not read yet stands for all of its chunks and counts as one.
func (c *Cache) Status() api.CacheStatus {
	chunks, bytes := c.index.total()
	n := c.present()
	missing := 0
	for _, ref := range n.wanted {
		if !c.index.has(ref.ID) {
			missing++
		}
	}
	for _, ref := range n.unread {
		if c.index.has(ref.ID) { // or it is counted already
			missing++
		}
	}
	return api.CacheStatus{
		Images: c.resident(n), Chunks: chunks, Bytes: bytes, Missing: missing, Held: c.holds.held(),
		FromController: c.count.controllers.Load(), FromRelays: c.count.relays.Load(), Served: c.count.served.Load(), Corrupt: c.count.corrupt.Load(),
	}
}

// resident tells how much is here of the versions that should be.
func (c *Cache) resident(n *needs) []api.CachedImage {
	var all []api.CachedImage
	for _, v := range n.images[:min(len(n.images), api.MaxCachedImages)] {
		i := api.CachedImage{Manifest: v.manifest}
		i.Have, i.Bytes, i.Verified = c.index.hold(v.chunks)
		if v.read {
			i.Need = len(v.chunks)
			for _, ref := range v.chunks {
				i.Size += ref.Size
			}
		}
		all = append(all, i)
	}
	return all
}

// Problems are what a person should know, one line each.
func (c *Cache) Problems() []string {
	var lines []string
	if p := c.Unkept(); p != "" {
		lines = append(lines, p)
	}
	missing := len(c.missing())
	c.mu.Lock()
	defer c.mu.Unlock()
	if missing > 0 && c.spent != nil {
		lines = append(lines, fmt.Sprintf("%d chunks that nodes may need are fetched when a node asks: %v", missing, c.spent))
	}
	for _, d := range c.damage {
		if time.Since(d.at) < damageTold {
			lines = append(lines, fmt.Sprintf("chunk %s was damaged (%s) at %s and is fetched again", d.id.Short(), d.where, d.at.UTC().Format(time.RFC3339)))
		}
	}
	if c.gone > 0 && time.Since(c.goneAt) < damageTold {
		lines = append(lines, fmt.Sprintf("%d chunks were gone from its disk at %s and are fetched again", c.gone, c.goneAt.UTC().Format(time.RFC3339)))
	}
	if missing > 0 && c.unfetched != nil {
		lines = append(lines, fmt.Sprintf("%d chunks that nodes may need are not here: %v", missing, c.unfetched))
	}
	return lines
}
