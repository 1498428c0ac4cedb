package chunks

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// scrubAgain is how long a scrub rests after it has seen everything.
const scrubAgain = 24 * time.Hour

// scrub reads all chunks, slowly and again and again, and puts aside those that are not what they were: disks lose
// bits in silence, and a chunk that nobody asks for is found damaged only when the good copies are gone too. It begins
// anywhere, so that a controller that is often started again reads not only the same few.
func (k *Keeper) scrub(ctx context.Context) {
	for sleep(ctx, time.Minute) { // not while everything starts
		start := byte(rand.UintN(256))
		if !k.scrubIf(ctx, func(id chunk.ID) bool { return id[0] >= start }) ||
			!k.scrubIf(ctx, func(id chunk.ID) bool { return id[0] < start }) || !sleep(ctx, scrubAgain) {
			return
		}
	}
}

// scrubIf reads some of the chunks, and reports false if ctx ends before.
func (k *Keeper) scrubIf(ctx context.Context, which func(chunk.ID) bool) bool {
	for ref, err := range k.cfg.Store.All(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				k.cfg.Log.Warn("cannot look for damaged chunks", "err", err)
			}
			break
		}
		if !which(ref.ID) {
			continue
		}
		switch err := chunkstore.Verify(ctx, k.cfg.Store, ref.ID); {
		case errors.Is(err, fault.Corrupt):
			k.putAside(ref.ID, err)
			k.look()
		case err != nil && !errors.Is(err, fault.NotFound) && ctx.Err() == nil:
			k.cfg.Log.Warn("cannot read a chunk", "chunk", ref.ID.Short(), "err", err)
		}
		if !sleep(ctx, time.Duration(float64(ref.Size)/float64(k.cfg.Scrub)*float64(time.Second))) {
			return false
		}
	}
	return ctx.Err() == nil
}

// quarantiner is a store that can put a damaged chunk where a person may look at it.
type quarantiner interface {
	Quarantine(id chunk.ID) error
}

// putAside takes a damaged chunk out of the store, so that a good copy can take its place. It reads the chunk once more:
// somebody else may have had it repaired meanwhile.
func (k *Keeper) putAside(id chunk.ID, why error) {
	k.aside.Lock()
	defer k.aside.Unlock()
	if err := chunkstore.Verify(context.Background(), k.cfg.Store, id); !errors.Is(err, fault.Corrupt) {
		return
	}
	k.damaged.Add(1)
	k.cfg.Log.Error("a chunk is damaged on disk and is fetched again", "chunk", id.Short(), "err", why)
	var err error
	if q, ok := k.cfg.Store.(quarantiner); ok {
		err = q.Quarantine(id)
	} else {
		err = k.cfg.Store.Delete(context.Background(), id)
	}
	if err != nil {
		k.cfg.Log.Error("cannot put a damaged chunk aside", "chunk", id.Short(), "err", err)
	}
}
