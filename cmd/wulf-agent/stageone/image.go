package stageone

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Bounds of the memory that unpacking takes besides what it unpacks. A segment up to maxWhole is verified before a
// byte of it is looked at; a longer one holds a single large file, and is verified while it is written: two copies of
// it would not fit where one just does. Nothing of the root is used before all of it is verified.
const (
	maxWhole  = 16 << 20
	maxFlight = 32 << 20
)

// manifest fetches the image's manifest and believes it only under a signature of the cluster.
func manifest(ctx context.Context, m *mesh.Mesh, id chunk.ID, keys [][]byte) (*chunk.Manifest, error) {
	b, err := m.FetchID(ctx, id, chunk.MaxManifest)
	if err != nil {
		return nil, err
	}
	trusted := make([]ed25519.PublicKey, len(keys))
	for i, k := range keys {
		trusted[i] = k
	}
	return chunk.Open(b, trusted)
}

// unpack fetches and unpacks all segments of an image below root: the first, which holds the directories, before all
// others, and these several at once, while others are still on their way. Lost is told of each extended attribute
// that the root's file system cannot hold.
func unpack(ctx context.Context, m *mesh.Mesh, image *chunk.Manifest, root string, lost func(path, attribute string)) error {
	u, err := segment.NewUnpacker(root, segment.UnpackOptions{Owners: true, Lost: lost})
	if err != nil {
		return err
	}
	defer u.Close()
	flight := semaphore.NewWeighted(maxFlight)
	one := func(ctx context.Context, s chunk.Segment) error {
		if s.Size > maxWhole {
			return m.Stream(ctx, s.Ref, func(r io.Reader) error { return u.Unpack(ctx, r, s) })
		}
		if err := flight.Acquire(ctx, s.Size); err != nil {
			return err
		}
		defer flight.Release(s.Size)
		b, err := m.Fetch(ctx, s.Ref)
		if err != nil {
			return err
		}
		return u.Unpack(ctx, bytes.NewReader(b), s)
	}
	if len(image.Segments) == 0 {
		return fault.New(fault.Corrupt, "the image has no content")
	}
	if err := one(ctx, image.Segments[0]); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	// Twice the processors: while one of a pair unpacks, the other waits for the network.
	g.SetLimit(max(4, 2*runtime.NumCPU()))
	for _, s := range image.Segments[1:] {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return one(gctx, s) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if image.Extras.ID.IsZero() {
		return u.Finish(nil)
	}
	extras, err := m.Fetch(ctx, image.Extras)
	if err != nil {
		return err
	}
	return u.Finish(bytes.NewReader(extras))
}
