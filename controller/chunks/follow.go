package chunks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	fetchStreams = 4                // chunks fetched at once
	fetchAgain   = 15 * time.Second // after which what could not be had is asked for again
	followPause  = time.Second      // between two looks, however fast the catalog changes
	followAgain  = 5 * time.Minute  // after which is looked in any case: files may have gone from the disk
)

// follow keeps what the catalog names here, from the first catalog on.
func (k *Keeper) follow(ctx context.Context) {
	var seen roots
	looked := false
	for {
		c, changed := k.cfg.Catalog.Watch()
		if r := rootsOf(c); !looked || k.missing.Load() > 0 || !r.equal(seen) {
			k.fetchMissing(ctx, c, r)
			k.store.note(append(k.manifests.keep(r.manifests), without(seen.contents, r.contents)...))
			seen, looked = r, true
		}
		if !sleep(ctx, followPause) {
			return
		}
		wait := followAgain
		if k.missing.Load() > 0 {
			wait = fetchAgain
		}
		again := time.NewTimer(wait)
		select {
		case <-changed:
		case <-again.C:
			looked = false
		case <-k.nudge:
			looked = false
		case <-ctx.Done():
		}
		again.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// without is the old ones that are not among the new.
func without(old, new []chunk.Ref) []chunk.Ref {
	have := make(map[chunk.Ref]bool, len(new))
	for _, ref := range new {
		have[ref] = true
	}
	return slices.DeleteFunc(slices.Clone(old), func(ref chunk.Ref) bool { return have[ref] })
}

// fetchMissing looks for every chunk that the roots need and fetches those that are not here. Manifests come first,
// for they name the others.
func (k *Keeper) fetchMissing(ctx context.Context, c *catalog.Catalog, r roots) {
	lost := make(map[chunk.ID]error)
	k.fetch(ctx, append(r.contents[:len(r.contents):len(r.contents)], r.manifests...), lost)
	var named []chunk.Ref
	for _, ref := range r.manifests {
		refs, err := k.manifests.load(ctx, k.cfg.Store, c, ref)
		if errors.Is(err, fault.Corrupt) {
			k.putAside(ref.ID, err)
			k.fetch(ctx, []chunk.Ref{ref}, lost)
			refs, err = k.manifests.load(ctx, k.cfg.Store, c, ref)
		}
		if err != nil {
			if lost[ref.ID] == nil {
				lost[ref.ID] = err
			}
			continue
		}
		named = append(named, refs...)
	}
	k.fetch(ctx, named, lost)
	if ctx.Err() == nil {
		k.tell(c, lost)
	}
}

// fetch fetches those of the chunks that are not here, and notes which could not be had, and why.
func (k *Keeper) fetch(ctx context.Context, refs []chunk.Ref, lost map[chunk.ID]error) {
	var lacking []chunk.Ref
	seen := make(map[chunk.ID]bool, len(refs))
	for _, ref := range refs {
		if seen[ref.ID] {
			continue
		}
		seen[ref.ID] = true
		n, err := k.cfg.Store.Stat(ctx, ref.ID)
		if err == nil && n == ref.Size {
			continue
		}
		if err == nil {
			k.putAside(ref.ID, fault.New(fault.Corrupt, "it has %d bytes and not %d", n, ref.Size))
		}
		lacking = append(lacking, ref)
	}
	if len(lacking) == 0 {
		return
	}
	k.missing.Store(int64(len(lost) + len(lacking)))
	k.cfg.Log.Info("fetching chunks from the other controllers", "chunks", len(lacking))
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(fetchStreams)
	for _, ref := range lacking {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			err := k.fetchOne(ctx, ref)
			if err == nil {
				k.missing.Add(-1)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			lost[ref.ID] = err
			return nil
		})
	}
	g.Wait()
}

// Obtain fetches a chunk from the other controllers unless it is here. It fails with fault.NotFound if none has it.
func (k *Keeper) Obtain(ctx context.Context, ref chunk.Ref) error {
	if n, err := k.store.Stat(ctx, ref.ID); err == nil && n == ref.Size {
		return nil
	}
	return k.fetchOne(ctx, ref)
}
