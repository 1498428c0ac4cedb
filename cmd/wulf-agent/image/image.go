// Package image fetches a node's image through the mesh and unpacks it into what becomes the node's root, within
// bounds of memory: a node has its image and all that makes it in the same memory.
package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"runtime"
	"sync/atomic"

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
//
// All segments in flight take maxFlight together, each its own bytes and the window of its decoder. A machine with
// many processors has no more workers for that than keep a fast card busy.
const (
	maxWhole   = 16 << 20
	maxWindow  = 8 << 20 // of a frame, which segment holds all frames to
	maxFlight  = 32 << 20
	minWorkers = 4
	maxWorkers = 16
)

// Memory is what the agent's own heap should stay below while it unpacks: what is in flight and as much again for
// everything else. It is a limit for the collector of garbage, which works harder near it.
const Memory = maxFlight + 16<<20

// Manifest fetches an image's manifest and believes it only under a signature of the cluster.
func Manifest(ctx context.Context, m *mesh.Mesh, id chunk.ID, keys [][]byte) (*chunk.Manifest, error) {
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

// Options say how an image is unpacked.
type Options struct {
	// Lost is told of each extended attribute that the root's file system cannot hold.
	Lost func(path, attribute string)
	// Over says that some of the root may hold what another image left there.
	Over bool
	// Done counts the bytes of segments that were fetched and unpacked, while it goes on.
	Done *atomic.Int64
}

// Unpack fetches and unpacks all segments of an image below root: the first, which holds the directories, before all
// others, and these several at once, while others are still on their way.
func Unpack(ctx context.Context, m *mesh.Mesh, image *chunk.Manifest, root string, o Options) error {
	if len(image.Segments) == 0 {
		return fault.New(fault.Corrupt, "the image has no content")
	}
	u, err := segment.NewUnpacker(root, segment.UnpackOptions{Owners: true, Lost: o.Lost, Over: o.Over})
	if err != nil {
		return err
	}
	defer u.Close()
	w := &work{mesh: m, unpacker: u, flight: semaphore.NewWeighted(maxFlight), done: o.Done}
	if err := w.segment(ctx, image.Segments[0]); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	// Twice the processors: while one of a pair unpacks, the other waits for the network.
	g.SetLimit(min(max(minWorkers, 2*runtime.NumCPU()), maxWorkers))
	for _, s := range image.Segments[1:] {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return w.segment(gctx, s) })
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

// work is the unpacking of one image.
type work struct {
	mesh     *mesh.Mesh
	unpacker *segment.Unpacker
	flight   *semaphore.Weighted
	done     *atomic.Int64
}

// segment fetches and unpacks one segment, when there is room for it.
func (w *work) segment(ctx context.Context, s chunk.Segment) error {
	whole := s.Size <= maxWhole
	weight := min(s.Unpacked, maxWindow)
	if whole {
		weight += s.Size
	}
	if err := w.flight.Acquire(ctx, weight); err != nil {
		return err
	}
	defer w.flight.Release(weight)
	if !whole {
		return w.mesh.Stream(ctx, s.Ref, func(r io.Reader) error { return w.unpack(ctx, r, s) })
	}
	b, err := w.mesh.Fetch(ctx, s.Ref)
	if err != nil {
		return err
	}
	return w.unpack(ctx, bytes.NewReader(b), s)
}

// unpack unpacks a segment from r and counts what it reads; what a failed try has read does not count.
func (w *work) unpack(ctx context.Context, r io.Reader, s chunk.Segment) error {
	in := &counted{r: r, done: w.done}
	err := w.unpacker.Unpack(ctx, in, s)
	if err != nil {
		w.done.Add(-in.n)
	}
	return err
}

type counted struct {
	r    io.Reader
	n    int64
	done *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.done.Add(int64(n))
	return n, err
}
