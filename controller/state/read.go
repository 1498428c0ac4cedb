package state

import (
	"context"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Fresh returns a catalog that holds every change acknowledged anywhere before the call. It asks the leader, so it
// fails with fault.Unavailable, or fault.Timeout when ctx ends, while there is none that a majority follows.
//
// Calls that wait at the same time share one question to the leader: thousands of relays that ask at once cost two.
func (s *State) Fresh(ctx context.Context) (*catalog.Catalog, error) {
	if err := s.reads.wait(ctx, s.log.Sync); err != nil {
		return nil, err
	}
	return s.Current(), nil
}

// reads lets waiting readers share questions. A reader may only use the answer to a question asked after the reader
// came; so those who come while one is under way share the next.
type reads struct {
	mu      sync.Mutex
	current *read // under way; nil: none
	next    *read // begins when current is done; nil: nobody waits for it
}

type read struct {
	ctx    context.Context
	cancel context.CancelFunc // called when the last waiter leaves
	users  int                // guarded by reads.mu
	done   chan struct{}
	err    error // set before done is closed
}

// wait asks, or waits for others who ask, and returns the answer.
func (r *reads) wait(ctx context.Context, ask func(context.Context) error) error {
	q := r.enter(ctx, ask)
	defer r.leave(q)
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, ctx.Err(), "no leader has answered in time").
			WithFix("see which controllers are missing; what this one knows can be read with ?consistency=stale")
	}
}

// enter joins the next question, and asks it at once if none is under way.
func (r *reads) enter(ctx context.Context, ask func(context.Context) error) *read {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r.next = &read{ctx: ctx, cancel: cancel, done: make(chan struct{})}
	}
	q := r.next
	q.users++
	if r.current == nil {
		r.start(ask)
	}
	return q
}

// leave ends a question that nobody waits for any more.
func (r *reads) leave(q *read) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.users--; q.users > 0 {
		return
	}
	q.cancel()
	if r.next == q {
		r.next = nil
	}
}

// start makes next the question under way. r.mu is held.
func (r *reads) start(ask func(context.Context) error) {
	q := r.next
	r.current, r.next = q, nil
	go func() {
		q.err = ask(q.ctx)
		close(q.done)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.current = nil
		if r.next != nil {
			r.start(ask)
		}
	}()
}
