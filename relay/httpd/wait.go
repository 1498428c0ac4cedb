package httpd

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds and times of answers that are held back until there is something new.
const (
	maxWait    = time.Minute
	maxWaiting = 4096 // agents; who comes then is answered at once, and asks at its interval
	maxChecks  = 2    // that go on at once: other requests come before those that wait

	// After a change the relay looks what it means for a node no sooner than this, so that many changes in a row are looked
	// at once, and a little later for one node than for the other. With so many nodes waiting that looking for all of them
	// would take longer, the time grows with them.
	settle   = 300 * time.Millisecond
	spread   = 700 * time.Millisecond
	perAgent = 3 * time.Millisecond
)

// waits are the answers that are held back: one for a node and kind.
type waits struct {
	checks chan struct{}
	ending chan struct{} // closes when the server ends
	end    func()

	mu sync.Mutex
	of map[listingKey]chan struct{} // closes when another request of the node takes its place
}

func newWaits() *waits {
	w := &waits{checks: make(chan struct{}, maxChecks), ending: make(chan struct{}), of: map[listingKey]chan struct{}{}}
	w.end = sync.OnceFunc(func() { close(w.ending) })
	return w
}

// enter begins to hold back an answer, at the cost of one that is held back for the same node: an agent has one request,
// so that one is of an agent that is gone. It is not ok when too many wait.
func (w *waits) enter(key listingKey) (displaced <-chan struct{}, leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.of[key]
	if old == nil && len(w.of) >= maxWaiting {
		return nil, nil, false
	}
	if old != nil {
		close(old)
	}
	mine := make(chan struct{})
	w.of[key] = mine
	return mine, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.of[key] == mine {
			delete(w.of, key)
		}
	}, true
}

// pause is how long after a change it is looked at for one of the nodes that wait.
func (w *waits) pause() time.Duration {
	w.mu.Lock()
	n := len(w.of)
	w.mu.Unlock()
	return settle + rand.N(max(spread, time.Duration(n)*perAgent))
}

// waitOf is how long a request wants its answer held back (RFC 7240).
func waitOf(r *http.Request) time.Duration {
	for _, p := range strings.Split(r.Header.Get("Prefer"), ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(p), "wait="); ok {
			if n, err := strconv.ParseUint(text, 10, 16); err == nil {
				return min(time.Duration(n)*time.Second, maxWait)
			}
		}
	}
	return 0
}

// whenNew is what a node is to have when that is no longer what it has, or the time is over.
func (s *Server) whenNew(w http.ResponseWriter, r *http.Request, node catalog.NodeName, kind, has string) (*rendered, error) {
	ctx, feed := r.Context(), s.cfg.Feed
	wait := waitOf(r)
	if wait == 0 {
		return s.overlays.now(ctx, node, kind)
	}
	displaced, leave, ok := s.waits.enter(listingKey{node, kind})
	if !ok {
		return s.overlays.now(ctx, node, kind)
	}
	defer leave()
	// The time for a request is over before the answer is. A connection that cannot have a deadline is a test's.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(wait + headerTime))
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		changed, given := feed.Changed(), feed.SecretsChanged()
		made, err := s.check(ctx, node, kind)
		if err != nil || made.tag() != has && !made.pending {
			return made, err
		}
		select {
		case <-changed:
		case <-given:
		case <-over.C:
			return made, nil
		case <-displaced:
			return made, nil
		case <-s.waits.ending:
			return nil, fault.New(fault.Unavailable, "relay %s ends", s.cfg.Name)
		case <-ctx.Done():
			return made, nil
		}
		pause := time.NewTimer(s.waits.pause())
		select {
		case <-pause.C:
		case <-s.waits.ending:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// check is overlays.now for those that wait, which take turns.
func (s *Server) check(ctx context.Context, node catalog.NodeName, kind string) (*rendered, error) {
	select {
	case s.waits.checks <- struct{}{}:
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Timeout, ctx.Err(), "the node is gone")
	}
	defer func() { <-s.waits.checks }()
	return s.overlays.now(ctx, node, kind)
}
