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
	pushRounds  = 8                      // among those that vote, should they change meanwhile
	pushStreams = 4                      // chunks on their way to one peer at once
	pushTries   = 6                      // per chunk and peer
	pushPause   = 500 * time.Millisecond // before the second try; doubled each time
)

// Push copies chunks to the other controllers and returns as soon as a majority of the controllers holds all of them,
// this one included, durably: a majority of those that vote then, whoever voted when it began. Peers that are slower
// fetch the rest when the catalog names it. A chunk that is not here is fetched from another controller first.
// It fails with fault.NotFound if none has it, with fault.Unavailable if a majority cannot be had, or with fault.Full if
// that is for want of space. Progress, which may be nil, is told how many of the chunks a majority holds; it is called by
// one goroutine at once.
func (k *Keeper) Push(ctx context.Context, refs []chunk.Ref, progress func(done, total int64)) error {
	defer k.Hold()()
	for _, ref := range refs {
		if err := k.Obtain(ctx, ref); err != nil {
			return err
		}
	}
	holders := make(map[catalog.ControllerName]bool)
	for range pushRounds {
		peers, have, voters := k.electorate(holders)
		p := push{k: k, refs: refs, peers: peers, have: have, voters: voters, need: voters/2 + 1 - have, done: make([]atomic.Int64, len(peers))}
		if p.need <= 0 {
			return nil
		}
		good, err := p.run(ctx, progress)
		if err != nil {
			return err
		}
		for _, name := range good {
			holders[name] = true
		}
	}
	return fault.New(fault.Unavailable, "the controllers that vote changed again and again while chunks were copied to them").WithFix("try again when they have settled")
}

// push copies chunks to those that vote at one time.
type push struct {
	k            *Keeper
	refs         []chunk.Ref
	peers        []*catalog.Controller // that may not hold them yet
	have, voters int                   // who holds them already, this controller included, and of how many
	need         int                   // peers that make a majority with those
	done         []atomic.Int64        // chunks that each peer holds
}

// run copies until enough peers hold everything, and returns who they are.
func (p *push) run(ctx context.Context, progress func(done, total int64)) (good []catalog.ControllerName, err error) {
	if len(p.peers) < p.need {
		return nil, noMajority(ctx, p.have, p.voters, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		peer *catalog.Controller
		err  error
	}
	ends := make(chan end, len(p.peers))
	var g errgroup.Group
	for i, peer := range p.peers {
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
	for len(good) < p.need {
		select {
		case e := <-ends:
			if e.err == nil {
				good = append(good, e.peer.Name)
				continue
			}
			p.k.cfg.Log.Warn("cannot copy chunks to a controller", "controller", e.peer.Name, "err", e.err)
			failed = append(failed, fault.Wrap(fault.KindOf(e.err), e.err, "controller %s", e.peer.Name))
			if len(p.peers)-len(failed) < p.need {
				return nil, noMajority(ctx, p.have+len(p.peers)-len(failed), p.voters, failed)
			}
		case <-tick.C:
			if progress != nil {
				progress(p.held(), int64(len(p.refs)))
			}
		}
	}
	return good, nil
}

// Publish stores bytes as a chunk, here and on a majority of the controllers.
func (k *Keeper) Publish(ctx context.Context, b []byte) (chunk.Ref, error) {
	defer k.Hold()()
	ref := chunk.RefOf(b)
	if err := k.store.Put(ctx, ref, bytes.NewReader(b)); err != nil {
		return chunk.Ref{}, err
	}
	return ref, k.Push(ctx, []chunk.Ref{ref}, nil)
}

// electorate is the other controllers with a vote that do not hold the chunks yet, how many votes those have that do, this
// one among them, and how many votes there are.
func (k *Keeper) electorate(holders map[catalog.ControllerName]bool) (peers []*catalog.Controller, have, voters int) {
	all := k.cfg.Voters()
	for _, name := range all {
		if name == k.cfg.Self || holders[name] {
			have++
		}
	}
	for _, p := range k.peers() {
		if slices.Contains(all, p.Name) && !holders[p.Name] {
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
	ctx, alive, stop := watch(ctx)
	defer stop()
	path := api.ChunkPath(ref.ID)
	a, err := k.cfg.Peers.DoAt(ctx, endpoint, api.Request{Method: http.MethodHead, Path: path})
	if err == nil {
		a.Body.Close()
		if a.ContentLength == ref.Size {
			return nil
		}
	} else if !errors.Is(err, fault.NotFound) {
		return err
	}
	a, err = k.cfg.Peers.DoAt(ctx, endpoint, api.Request{
		Method: http.MethodPut, Path: path, Size: ref.Size,
		Body: func() (io.ReadCloser, error) {
			f, err := k.store.Open(ctx, ref.ID)
			if err != nil {
				return nil, err
			}
			return moving{f, alive}, nil
		},
	})
	if err != nil {
		return err
	}
	return a.Body.Close()
}
