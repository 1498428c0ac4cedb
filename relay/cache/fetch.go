package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Patience with an upstream: how long its answer may take to begin, since it said last that the chunk comes nearer there,
// and how long it may then send nothing.
const (
	toBegin   = 8 * time.Second // and the time to verify a large one
	leastRate = 4 << 20         // bytes a second that an upstream's disk gives
	toGoOn    = 5 * time.Second
	perLevel  = 500 * time.Millisecond // more of both for each relay above the upstream: those that are nearer see it first
)

// A relay whose answer breaks off may only pass on that the one above it has died. It is asked once more, after this and up
// to twice as much again: it fetches the chunk from another by then.
const brokenPause = 100 * time.Millisecond

// How long an upstream that failed is asked last.
const (
	avoidFailed  = 15 * time.Second
	avoidCorrupt = time.Minute
)

// A relay that has just started may have started with all the others, which are not there yet: where power comes back, or
// a site begins. It asks those above it for a while before it troubles the controllers, which all would.
const (
	youngFor   = 4 // times Config.Settle
	youngTries = 8
	youngPause = 400 * time.Millisecond // and up to as much again
)

func (c *Cache) young() bool { return time.Since(c.born) < youngFor*c.cfg.Settle }

// upstream is where a chunk may come from.
type upstream struct {
	name       string // for people
	controller bool
	outside    bool // of this relay's zone
	kept       bool // asked for what it has on disk only
	above      int  // relays, of it
	get        func(ctx context.Context) (io.ReadCloser, error)
}

// fetch asks one upstream after the other. Those that failed a moment ago come last.
func (c *Cache) fetch(ctx context.Context, f *flight, ref chunk.Ref, hops int) (*held, error) {
	all := c.failedLast(c.upstreams(f, ref, hops))
	asked := 0 // of these, in vain
	for range youngTries {
		above := slices.IndexFunc(all, func(u upstream) bool { return u.controller })
		if above <= 0 || !c.young() {
			break
		}
		away := false
		for _, u := range all[:above] {
			body, err := c.from(ctx, f, u, ref)
			switch {
			case err == nil:
				c.count.relays.Add(1)
				return body, nil
			case ctx.Err() != nil, errors.Is(err, fault.Full):
				return nil, err
			}
			_, answers := errors.AsType[answered](err)
			away = away || !u.kept && !answers
		}
		if !away {
			asked = above
			break
		}
		if !pause(ctx, youngPause+rand.N(youngPause)) {
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "chunk %s", ref.ID.Short())
		}
		all = c.failedLast(c.upstreams(f, ref, hops))
	}

	err := error(fault.New(fault.Unavailable, "nobody is known who could have chunk %s", ref.ID.Short()))
	controllers, lacking := 0, 0
	for _, u := range all[asked:] {
		var body *held
		body, err = c.from(ctx, f, u, ref)
		switch {
		case err == nil:
			if u.controller {
				c.count.controllers.Add(1)
			} else {
				c.count.relays.Add(1)
			}
			return body, nil
		case ctx.Err() != nil, errors.Is(err, fault.Full):
			return nil, err
		}
		if u.controller {
			controllers++
		}
		if u.controller && errors.Is(err, fault.NotFound) {
			lacking++
		}
		c.cfg.Log.Debug("a chunk was not to be had", "relay", c.cfg.Name, "chunk", ref.ID.Short(), "from", u.name, "err", err)
	}
	if controllers > 0 && lacking == controllers {
		return nil, fault.New(fault.NotFound, "nobody has chunk %s: no controller, and no relay that was asked", ref.ID.Short())
	}
	return nil, fault.Wrap(fault.Unavailable, err, "chunk %s cannot be fetched; at last", ref.ID.Short())
}

func (c *Cache) fromRelay(f *flight, p Peer, ref chunk.Ref, hops int) upstream {
	ask := func(ctx context.Context, how http.Header) (io.ReadCloser, error) {
		how.Set(api.HeaderSize, strconv.FormatInt(ref.Size, 10))
		how.Set(api.HeaderHops, strconv.Itoa(hops))
		a, err := c.cfg.Relays.DoAt(ctx, p.Mesh, api.Request{Method: http.MethodGet, Path: "/v1/mesh/chunks/" + ref.ID.String(), Header: how})
		if err != nil {
			return nil, err
		}
		return a.Body, nil
	}
	return upstream{name: "relay " + p.Name, get: func(ctx context.Context) (io.ReadCloser, error) {
		ahead := c.aheadOf(f, func() { // asked for one byte it sees that a node waits, and tells the one above it
			if r, err := ask(ctx, http.Header{"Range": {"bytes=0-0"}}); err == nil {
				_, _ = io.CopyN(io.Discard, r, 2) // and its end, so that the connection can be used again
				r.Close()
			}
		})
		if !ahead {
			return ask(ctx, http.Header{})
		}
		return ask(ctx, http.Header{api.HeaderAhead: {"1"}})
	}}
}

func (c *Cache) fromController(endpoint string, ref chunk.Ref) upstream {
	return upstream{name: "controller " + endpoint, controller: true, outside: true, get: func(ctx context.Context) (io.ReadCloser, error) {
		a, err := c.cfg.Controllers.DoAt(ctx, endpoint, api.Request{Method: http.MethodGet, Path: "/v1/chunks/" + ref.ID.String()})
		if err != nil {
			return nil, err
		}
		return a.Body, nil
	}}
}

// failedLast puts the upstreams that failed a moment ago behind the others.
func (c *Cache) failedLast(all []upstream) []upstream {
	now := time.Now()
	var good, bad []upstream
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range all {
		if c.avoid[u.name].After(now) {
			bad = append(bad, u)
		} else {
			good = append(good, u)
		}
	}
	return append(good, bad...)
}

func (c *Cache) failed(u upstream, err error) {
	d := avoidFailed
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Full: // it is well, and does not have it; we are not, and cannot keep it
		return
	case fault.Corrupt:
		d = avoidCorrupt
	}
	if _, refused := errors.AsType[answered](err); refused {
		return // it is well, and said no
	}
	if d == avoidFailed && !u.controller && c.young() {
		return // it may be about to start
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.avoid) > 1024 {
		clear(c.avoid)
	}
	c.avoid[u.name] = time.Now().Add(d)
}

// answered is the error that an upstream itself gave.
type answered struct{ error }

func (a answered) Unwrap() error { return a.error }

// brokeOff is the error that an upstream did not send all, though it had begun.
type brokeOff struct{ error }

func (b brokeOff) Unwrap() error { return b.error }

// from fetches a chunk from one upstream and keeps it.
func (c *Cache) from(ctx context.Context, f *flight, u upstream, ref chunk.Ref) (*held, error) {
	body, err := c.attempt(ctx, f, u, ref)
	if _, broken := errors.AsType[brokeOff](err); broken && !u.controller && pause(ctx, brokenPause+rand.N(2*brokenPause)) {
		body, err = c.attempt(ctx, f, u, ref)
	}
	if err != nil && ctx.Err() == nil {
		c.failed(u, err)
	}
	return body, err
}

// attempt gives the upstream up when it takes too long to begin or to go on.
func (c *Cache) attempt(ctx context.Context, f *flight, u upstream, ref chunk.Ref) (body *held, err error) {
	more := time.Duration(u.above) * perLevel
	patience := toBegin + more + time.Duration(float64(ref.Size)/leastRate*float64(time.Second))
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer c.aheadOf(f, nil)
	watchdog := time.AfterFunc(patience, func() { cancel(fault.New(fault.Timeout, "%s sends nothing", u.name)) })
	defer watchdog.Stop()
	r, err := u.get(httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		if n, err := strconv.ParseInt(h.Get(api.HeaderProgress), 10, 64); err == nil && f.reached(n) {
			watchdog.Reset(patience)
		}
		return nil
	}}))
	if err != nil {
		if cause := context.Cause(attempt); cause != nil {
			return nil, cause
		}
		if said, ok := errors.AsType[*fault.Error](err); ok && said.Err == nil { // an answer; a failure on the way has a cause
			return nil, answered{err}
		}
		return nil, err
	}
	defer r.Close()
	watchdog.Stop()
	w := &watched{r: r, watchdog: watchdog, patience: toGoOn + more, progress: &f.progress}
	body, err = c.keep(attempt, f, ref, c.arriving(attempt, f, u, w))
	switch {
	case err == nil:
		return body, nil
	case context.Cause(attempt) != nil:
		return nil, context.Cause(attempt)
	case errors.Is(err, fault.Corrupt):
		c.report(ref.ID, "sent by "+u.name)
	case w.broke:
		return nil, brokeOff{fmt.Errorf("%s: %w", u.name, err)}
	}
	return nil, fmt.Errorf("%s: %w", u.name, err)
}

// watched has the watchdog wait for bytes, while they are waited for: a slow disk is not the upstream's fault.
type watched struct {
	r        io.Reader
	watchdog *time.Timer
	patience time.Duration
	progress *atomic.Int64
	begun    bool // something came
	broke    bool // and then an error
}

func (w *watched) Read(p []byte) (int, error) {
	w.watchdog.Reset(w.patience)
	defer w.watchdog.Stop()
	n, err := w.r.Read(p)
	w.progress.Add(int64(n))
	w.begun = w.begun || n > 0
	w.broke = w.broke || w.begun && err != nil && err != io.EOF
	return n, err
}
