package chunks

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
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
		if r := rootsOf(c); !looked || k.missing.Load() > 0 || !reflect.DeepEqual(r, seen) {
			k.fetchMissing(ctx, c, r)
			k.store.note(k.manifests.keep(r.manifests))
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

// fetchMissing looks for every chunk that the roots need and fetches those that are not here. Manifests come first,
// for they name the others.
func (k *Keeper) fetchMissing(ctx context.Context, c *catalog.Catalog, r roots) {
	missing := k.fetch(ctx, append(r.contents[:len(r.contents):len(r.contents)], r.manifests...))
	var named []chunk.Ref
	for _, ref := range r.manifests {
		refs, err := k.manifests.load(ctx, k.cfg.Store, c, ref)
		if errors.Is(err, fault.Corrupt) {
			k.putAside(ref.ID, err)
			missing += k.fetch(ctx, []chunk.Ref{ref})
			refs, err = k.manifests.load(ctx, k.cfg.Store, c, ref)
		}
		if err != nil {
			if !errors.Is(err, fault.NotFound) { // counted as missing already
				k.blame(err)
			}
			continue
		}
		named = append(named, refs...)
	}
	k.missing.Store(int64(missing + k.fetch(ctx, named)))
}

// fetch fetches those of the chunks that are not here, and returns how many could not be had.
func (k *Keeper) fetch(ctx context.Context, refs []chunk.Ref) (missing int) {
	var lacking []chunk.Ref
	seen := make(map[chunk.ID]bool, len(refs))
	for _, ref := range refs {
		if seen[ref.ID] {
			continue
		}
		seen[ref.ID] = true
		if n, err := k.cfg.Store.Stat(ctx, ref.ID); err != nil || n != ref.Size {
			lacking = append(lacking, ref)
		}
	}
	if len(lacking) == 0 {
		return 0
	}
	k.missing.Store(int64(len(lacking)))
	k.cfg.Log.Info("fetching chunks from the other controllers", "chunks", len(lacking))
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(fetchStreams)
	for _, ref := range lacking {
		if ctx.Err() != nil {
			return len(lacking)
		}
		g.Go(func() error {
			if err := k.fetchOne(ctx, ref); err != nil {
				k.blame(err)
				mu.Lock()
				defer mu.Unlock()
				missing++
			}
			return nil
		})
	}
	g.Wait()
	return missing
}

// Obtain fetches a chunk from the other controllers unless it is here. It fails with fault.NotFound if none has it.
func (k *Keeper) Obtain(ctx context.Context, ref chunk.Ref) error {
	if n, err := k.store.Stat(ctx, ref.ID); err == nil && n == ref.Size {
		return nil
	}
	return k.fetchOne(ctx, ref)
}

// fetchOne asks the other controllers for a chunk, one after the other.
func (k *Keeper) fetchOne(ctx context.Context, ref chunk.Ref) error {
	err := error(fault.New(fault.NotFound, "no other controller has chunk %s", ref.ID.Short()))
	for _, peer := range k.peers() {
		e := k.fetchFrom(ctx, peer, ref)
		if e == nil {
			return nil
		}
		if !errors.Is(e, fault.NotFound) {
			err = fault.Wrap(fault.KindOf(e), e, "from controller %s", peer.Name)
		}
	}
	return err
}

func (k *Keeper) fetchFrom(ctx context.Context, peer *catalog.Controller, ref chunk.Ref) error {
	a, err := k.cfg.Peers.DoAt(ctx, peer.API, api.Request{Method: http.MethodGet, Path: api.ChunkPath(ref.ID)})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	err = k.store.Put(ctx, ref, io.LimitReader(a.Body, ref.Size+1)) // one more, so that too long is not mistaken for whole
	if errors.Is(err, fault.Corrupt) {
		k.cfg.Log.Warn("a controller sent a damaged chunk", "controller", peer.Name, "chunk", ref.ID.Short(), "err", err)
	}
	return err
}

// blame remembers the last reason for which something is missing.
func (k *Keeper) blame(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cause = err
}
