package chunks

import (
	"context"
	"errors"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	checkAgain = time.Hour // after which a chunk that was whole is read again before it is opened
	maxChecked = 20_000    // chunks of which it is remembered
)

// checking is when a chunk was found whole, and of what age the file was then: one that was written since has another.
type checking struct{ at, stored time.Time }

// Open opens a chunk that is whole. One that is damaged is put aside, fetched again, and not here until then: so nobody
// is sent wrong bytes, and the first who asks has it repaired.
func (g *guard) Open(ctx context.Context, id chunk.ID) (chunkstore.File, error) {
	if !g.isChecked(id) {
		if err := g.check(ctx, id); err != nil {
			return nil, g.notice(err)
		}
	}
	f, err := g.Store.Open(ctx, id)
	return f, g.notice(err)
}

// notice tells whoever repairs the store of a chunk that somebody wants and that is not here.
func (g *guard) notice(err error) error {
	if errors.Is(err, fault.NotFound) && g.lacking != nil {
		g.lacking()
	}
	return err
}

// check reads a chunk. What is damaged is told to whoever repairs it.
func (g *guard) check(ctx context.Context, id chunk.ID) error {
	now := checking{time.Now(), g.stored(id)}
	err := chunkstore.Verify(ctx, g.Store, id)
	if errors.Is(err, fault.Corrupt) {
		if g.broken != nil {
			g.broken(id, err)
		}
		return fault.New(fault.NotFound, "chunk %s was damaged on this disk", id.Short()).WithFix("ask again: it is being fetched from the other controllers")
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.checked) >= maxChecked {
		clear(g.checked)
	}
	g.checked[id] = now
	return nil
}

func (g *guard) isChecked(id chunk.ID) bool {
	g.mu.Lock()
	c, ok := g.checked[id]
	g.mu.Unlock()
	return ok && time.Since(c.at) < checkAgain && c.stored.Equal(g.stored(id))
}

// stored is when the store says that a chunk came; no time if it does not know.
func (g *guard) stored(id chunk.ID) (at time.Time) {
	if d, ok := g.Store.(dated); ok {
		at, _ = d.Stored(id)
	}
	return at
}
