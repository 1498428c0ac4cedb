package chunks

import (
	"context"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// collect deletes, from time to time, the chunks that the catalog has needed no longer for the time of grace.
func (k *Keeper) collect(ctx context.Context) {
	for sleep(ctx, max(k.cfg.Grace/8, time.Second)) {
		if _, err := k.Collect(ctx, CollectOptions{Grace: k.cfg.Grace}); err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("cannot collect chunks that are not needed", "err", err)
		}
	}
}

// CollectOptions say which chunks go.
type CollectOptions struct {
	Grace  time.Duration // those that nothing refers to and nobody has used for so long; 0: also those of imports elsewhere
	DryRun bool          // none: they are only counted
}

// CollectResult is what went.
type CollectResult struct {
	Chunks int
	Bytes  int64
	Held   int // chunks that would have gone, but somebody is making a version of them: see Keeper.Hold
}

// needed is every chunk that the catalog needs. It fails if a manifest is not here: then what is needed is not known.
func (k *Keeper) needed(ctx context.Context) (map[chunk.ID]bool, error) {
	c, _ := k.cfg.Catalog.Watch()
	if c.Cluster.Name == "" {
		return nil, fault.New(fault.Unavailable, "this controller does not know yet what the cluster needs").WithFix("wait until it has caught up with the others")
	}
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

// Collect deletes now what nothing needs. Where nothing is known of a chunk's use, as after a restart, it goes by when it was
// stored or last touched: so what an import that was killed left behind goes with the rest. It fails if a manifest is not
// here, for then what is needed is not known.
func (k *Keeper) Collect(ctx context.Context, o CollectOptions) (out CollectResult, err error) {
	needed, err := k.needed(ctx)
	if err != nil {
		return out, err
	}
	for ref, err := range k.cfg.Store.All(ctx) {
		if err != nil {
			return out, err
		}
		if needed[ref.ID] {
			continue
		}
		gone, held, err := k.store.unused(ctx, ref.ID, o)
		if err != nil {
			return out, err
		}
		if held {
			out.Held++
		}
		if gone {
			out.Chunks++
			out.Bytes += ref.Size
		}
	}
	k.store.forget(needed)
	if out.Chunks > 0 && !o.DryRun {
		k.cfg.Log.Info("collected chunks that nothing refers to", "chunks", out.Chunks, "bytes", out.Bytes)
	}
	return out, nil
}
