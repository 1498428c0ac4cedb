package chunks

import (
	"context"
	"errors"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Missing tells which of some chunks are not here with all their bytes, in the order of refs. It is a use of the others:
// whoever asks is about to make a version of them.
func (k *Keeper) Missing(ctx context.Context, refs []chunk.Ref) ([]chunk.ID, error) {
	missing := []chunk.ID{}
	for _, ref := range refs {
		n, err := k.store.Stat(ctx, ref.ID)
		switch {
		case errors.Is(err, fault.NotFound) || err == nil && n != ref.Size:
			missing = append(missing, ref.ID)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}
