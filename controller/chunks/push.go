package chunks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	pushStreams = 4                      // chunks on their way to one peer at once
	pushTries   = 4                      // per chunk and peer
	pushPause   = 500 * time.Millisecond // before the second try; doubled each time
)

// Push copies chunks, all of which must be here, to the other controllers and returns as soon as a majority of the
// controllers holds all of them, this one included. Peers that are slower fetch the rest when the catalog names it.
// It fails with fault.Unavailable if a majority cannot be had, or with fault.Full if that is for want of space.
// Progress, which may be nil, is told how many of the chunks a majority holds; it is called by one goroutine at once.
func (k *Keeper) Push(ctx context.Context, refs []chunk.Ref, progress func(done, total int64)) error {
	for _, ref := range refs {
		if _, err := k.store.Stat(ctx, ref.ID); err != nil {
			return err
		}
	}
	peers, have, voters := k.electorate()
	p := push{k: k, refs: refs, need: voters/2 + 1 - have, done: make([]atomic.Int64, len(peers))}
	if p.need <= 0 {
		return nil
	}
	if len(peers) < p.need {
		return noMajority(ctx, have, voters, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		peer *catalog.Controller
		err  error
	}
	ends := make(chan end, len(peers))
	var g errgroup.Group
	for i, peer := range peers {
		g.Go(func() error {
			ends <- end{peer, p.toPeer(ctx, i, peer)}
			return nil
		})
	}
	defer g.Wait()
	defer cancel() // before Wait: who was slower than a majority may stop
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var failed []error
	for good := 0; good < p.need; {
		select {
		case e := <-ends:
			if e.err == nil {
				good++
				continue
			}
			k.cfg.Log.Warn("cannot copy chunks to a controller", "controller", e.peer.Name, "err", e.err)
			failed = append(failed, fault.Wrap(fault.KindOf(e.err), e.err, "controller %s", e.peer.Name))
			if len(peers)-len(failed) < p.need {
				return noMajority(ctx, have+len(peers)-len(failed), voters, failed)
			}
		case <-tick.C:
			if progress != nil {
				progress(p.held(), int64(len(refs)))
			}
		}
	}
	return nil
}

// Publish stores bytes as a chunk, here and on a majority of the controllers.
func (k *Keeper) Publish(ctx context.Context, b []byte) (chunk.Ref, error) {
	ref := chunk.RefOf(b)
	if err := k.store.Put(ctx, ref, bytes.NewReader(b)); err != nil {
		return chunk.Ref{}, err
	}
	return ref, k.Push(ctx, []chunk.Ref{ref}, nil)
}

// electorate is the other controllers with a vote, how many votes this one has, and how many there are.
func (k *Keeper) electorate() (peers []*catalog.Controller, have, voters int) {
	all := k.cfg.Voters()
	for _, name := range all {
		if name == k.cfg.Self {
			have = 1
		}
	}
	for _, p := range k.peers() {
		if slices.Contains(all, p.Name) {
			peers = append(peers, p)
		}
	}
	return peers, have, len(all)
}

func noMajority(ctx context.Context, have, of int, failed []error) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Unavailable, ctx.Err(), "given up")
	}
	kind := fault.Unavailable
	if len(failed) == 0 {
		return fault.New(kind, "only %d of %d controllers are known, which is no majority", have, of)
	}
	if slices.ContainsFunc(failed, func(err error) bool { return errors.Is(err, fault.Full) }) {
		kind = fault.Full
	}
	return fault.Wrap(kind, failed[len(failed)-1], "only %d of %d controllers can hold the content, which is no majority", have, of)
}

// push is one call of Push.
type push struct {
	k    *Keeper
	refs []chunk.Ref
	need int            // peers that make a majority with this controller
	done []atomic.Int64 // chunks that each peer holds
}

// held is the number of chunks that a majority holds: as many as the slowest peer of the fastest majority.
func (p *push) held() int64 {
	counts := make([]int64, len(p.done))
	for i := range p.done {
		counts[i] = p.done[i].Load()
	}
	slices.SortFunc(counts, func(a, b int64) int { return cmp.Compare(b, a) })
	return counts[p.need-1]
}

func (p *push) toPeer(ctx context.Context, i int, peer *catalog.Controller) error {
	g, pushing := errgroup.WithContext(ctx) // which ends with g, whatever came of it
	g.SetLimit(pushStreams)
	for _, ref := range p.refs {
		if pushing.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := p.k.send(pushing, peer.API, ref); err != nil {
				return err
			}
			p.done[i].Add(1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// send makes sure that a peer holds a chunk. A peer that does not answer is asked again a few times: it may be
// restarting.
func (k *Keeper) send(ctx context.Context, endpoint string, ref chunk.Ref) error {
	pause := pushPause
	for try := 1; ; try++ {
		err := k.sendOnce(ctx, endpoint, ref)
		switch fault.KindOf(err) {
		case "":
			return nil
		case fault.Unavailable, fault.Unknown, fault.Timeout, fault.Internal:
		default:
			return err
		}
		if try == pushTries || !sleep(ctx, pause) {
			return err
		}
		pause *= 2
	}
}

func (k *Keeper) sendOnce(ctx context.Context, endpoint string, ref chunk.Ref) error {
	path := api.ChunkPath(ref.ID)
	a, err := k.cfg.Peers.DoAt(ctx, endpoint, api.Request{Method: http.MethodHead, Path: path})
	if err == nil {
		a.Body.Close()
		return nil
	}
	if !errors.Is(err, fault.NotFound) {
		return err
	}
	a, err = k.cfg.Peers.DoAt(ctx, endpoint, api.Request{
		Method: http.MethodPut, Path: path, Size: ref.Size,
		Body: func() (io.ReadCloser, error) { return k.store.Open(ctx, ref.ID) },
	})
	if err != nil {
		return err
	}
	return a.Body.Close()
}
