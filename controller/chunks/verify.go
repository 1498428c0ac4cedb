package chunks

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// VerifyResult is what this controller has of a version of an image.
type VerifyResult struct {
	Chunks                     int   // that the version needs, its manifest among them
	Bytes                      int64 // of those
	Missing, Damaged, Repaired []chunk.Ref
}

// Verify looks whether all chunks of a version are here, and with deep reads all of them. What is missing or damaged is
// fetched from another controller. A version that the catalog does not know is fault.NotFound.
func (k *Keeper) Verify(ctx context.Context, manifest chunk.ID, deep bool) (VerifyResult, error) {
	var out VerifyResult
	c, _ := k.cfg.Catalog.Watch()
	var root chunk.Ref
	for _, ref := range rootsOf(c).manifests {
		if ref.ID == manifest {
			root = ref
		}
	}
	if root.ID.IsZero() {
		return out, fault.New(fault.NotFound, "no image has a version %s", manifest.Short())
	}
	v := verifying{k: k, out: &out}
	if err := v.one(ctx, root, true); err != nil {
		return out, err
	}
	refs, err := k.manifests.load(ctx, k.cfg.Store, c, root)
	if err != nil {
		return out, err
	}
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(fetchStreams)
	seen := map[chunk.ID]bool{root.ID: true}
	for _, ref := range refs {
		if seen[ref.ID] {
			continue
		}
		seen[ref.ID] = true
		g.Go(func() error { return v.one(working, ref, deep) })
	}
	err = g.Wait()
	if len(out.Missing)+len(out.Damaged) > 0 {
		k.look() // what other versions need may be gone as well
	}
	return out, err
}

type verifying struct {
	k *Keeper

	mu  sync.Mutex
	out *VerifyResult
}

// one looks at one chunk, with deep reads it, and repairs it if need be.
func (v *verifying) one(ctx context.Context, ref chunk.Ref, deep bool) error {
	missing, damaged := false, false
	n, err := v.k.cfg.Store.Stat(ctx, ref.ID)
	switch {
	case errors.Is(err, fault.NotFound):
		missing = true
	case err != nil:
		return err
	case n != ref.Size:
		damaged, err = true, fault.New(fault.Corrupt, "chunk %s has %d bytes and not %d", ref.ID.Short(), n, ref.Size)
	case deep:
		err = chunkstore.Verify(ctx, v.k.cfg.Store, ref.ID)
		damaged = errors.Is(err, fault.Corrupt)
		if err != nil && !damaged {
			return err
		}
	}
	if damaged {
		v.k.putAside(ref.ID, err)
	}
	repaired := (missing || damaged) && v.k.fetchOne(ctx, ref) == nil
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Chunks++
	v.out.Bytes += ref.Size
	if missing {
		v.out.Missing = append(v.out.Missing, ref)
	}
	if damaged {
		v.out.Damaged = append(v.out.Damaged, ref)
	}
	if repaired {
		v.out.Repaired = append(v.out.Repaired, ref)
	}
	return ctx.Err()
}
