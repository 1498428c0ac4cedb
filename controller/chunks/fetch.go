package chunks

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	stalled  = time.Minute // after which a controller that neither sends nor takes a byte is given up
	failWait = time.Minute // for which a controller that failed is asked after all others
)

// fetchOne asks the other controllers for a chunk, one after the other. It fails with fault.NotFound only if each of them
// says that it has none.
func (k *Keeper) fetchOne(ctx context.Context, ref chunk.Ref) error {
	err := error(fault.New(fault.NotFound, "no other controller has chunk %s", ref.ID.Short()))
	for _, peer := range k.sources(ref.ID) {
		e := k.fetchFrom(ctx, peer, ref)
		if e == nil || ctx.Err() != nil {
			return e
		}
		if !errors.Is(e, fault.NotFound) {
			kind := fault.KindOf(e)
			if kind == fault.Full {
				return e // it is this controller that is full
			}
			k.fails(peer.Name)
			err = fault.Wrap(kind, e, "from controller %s", peer.Name)
		}
	}
	return err
}

// sources are the other controllers in the order in which they are asked: it differs from chunk to chunk, so that all
// of them share the work, but for those that failed a moment ago, which come last.
func (k *Keeper) sources(id chunk.ID) []*catalog.Controller {
	peers := k.peers()
	if len(peers) == 0 {
		return nil
	}
	at := int(id[len(id)-1]) % len(peers)
	peers = slices.Concat(peers[at:], peers[:at])
	k.mu.Lock()
	defer k.mu.Unlock()
	late := func(c *catalog.Controller) int {
		if at, ok := k.failing[c.Name]; ok && time.Since(at) < failWait {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(peers, func(a, b *catalog.Controller) int { return cmp.Compare(late(a), late(b)) })
	return peers
}

func (k *Keeper) fails(name catalog.ControllerName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing[name] = time.Now()
}

func (k *Keeper) fetchFrom(ctx context.Context, peer *catalog.Controller, ref chunk.Ref) error {
	ctx, alive, stop := watch(ctx)
	defer stop()
	a, err := k.cfg.Peers.DoAt(ctx, peer.API, api.Request{Method: http.MethodGet, Path: api.ChunkPath(ref.ID)})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	err = k.store.Put(ctx, ref, io.LimitReader(moving{a.Body, alive}, ref.Size+1)) // one more, so that too long is not mistaken for whole
	if errors.Is(err, fault.Corrupt) {
		k.cfg.Log.Warn("a controller sent a damaged chunk", "controller", peer.Name, "chunk", ref.ID.Short(), "err", err)
	}
	return err
}

// watch returns a context that ends when alive was not called for as long as a controller may be silent.
func watch(ctx context.Context) (_ context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(stalled, func() {
		cancel(fault.New(fault.Timeout, "no byte went over in %s", stalled))
	})
	return ctx, func() { t.Reset(stalled) }, func() {
		t.Stop()
		cancel(nil)
	}
}

// moving calls alive whenever bytes are read.
type moving struct {
	io.ReadCloser
	alive func()
}

// Read reads.
func (m moving) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.alive()
	}
	return n, err
}
