package chunks

import (
	"context"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// collect deletes, from time to time, the chunks that the catalog has needed no longer for the time of grace.
func (k *Keeper) collect(ctx context.Context) {
	for sleep(ctx, max(k.cfg.Grace/8, time.Second)) {
		needed, err := k.needed(ctx)
		if err == nil {
			err = k.collectAllBut(ctx, needed)
		}
		if err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("cannot collect chunks that are not needed", "err", err)
		}
	}
}

// needed is every chunk that the catalog needs. It fails if a manifest is not here: then what is needed is not known.
func (k *Keeper) needed(ctx context.Context) (map[chunk.ID]bool, error) {
	c, _ := k.cfg.Catalog.Watch()
	r := rootsOf(c)
	needed := make(map[chunk.ID]bool)
	for _, ref := range r.contents {
		needed[ref.ID] = true
	}
	for _, ref := range r.manifests {
		refs, err := k.manifests.load(ctx, k.cfg.Store, c, ref)
		if err != nil {
			return nil, err
		}
		needed[ref.ID] = true
		for _, r := range refs {
			needed[r.ID] = true
		}
	}
	return needed, nil
}

func (k *Keeper) collectAllBut(ctx context.Context, needed map[chunk.ID]bool) error {
	var chunks int
	var bytes int64
	for ref, err := range k.cfg.Store.All(ctx) {
		if err != nil {
			return err
		}
		if needed[ref.ID] {
			continue
		}
		deleted, err := k.store.unused(ctx, ref.ID)
		if err != nil {
			return err
		}
		if deleted {
			chunks++
			bytes += ref.Size
		}
	}
	k.store.forget(needed)
	if chunks > 0 {
		k.cfg.Log.Info("collected chunks that nothing refers to", "chunks", chunks, "bytes", bytes)
	}
	return nil
}
