package cache

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
)

// What is paced moves in pieces, so that what is urgent never waits for more than a few of them.
const (
	paceSize  = 16 << 10
	paceBurst = 4 * paceSize
	paceTime  = 20 * time.Millisecond // what a bounded flow may be ahead: no clock is exact
	yieldStep = 50 * time.Millisecond
	yieldMost = time.Second // for each piece: what a node waits for comes first, but nothing is given up for it
	busyTime  = time.Second

	hurryTime  = time.Minute
	maxHurried = 1024
)

// pace is what bounds how fast chunks move: the declared rates of the relay and of its zone's link.
type pace struct {
	out   *rate.Limiter // to other relays
	ahead *rate.Limiter // fetched before a node asked
	zone  *rate.Limiter // fetched from outside of the zone

	urgent atomic.Int64 // when something moved last for which a node waits; Unix time in nanoseconds

	mu      sync.Mutex
	hurried map[chunk.ID]time.Time // chunks that a node waits for below, since when
}

func newPace() *pace {
	limiter := func() *rate.Limiter { return rate.NewLimiter(rate.Inf, paceBurst) }
	return &pace{out: limiter(), ahead: limiter(), zone: limiter(), hurried: map[chunk.ID]time.Time{}}
}

// setPace follows what is declared. The relays of a zone that are alive share its rate: each fetches its part of the
// chunks from outside.
func (c *Cache) setPace() {
	set := func(l *rate.Limiter, bytes float64) {
		limit := rate.Inf
		if bytes > 0 {
			limit = rate.Limit(bytes)
		}
		if l.Limit() != limit {
			l.SetBurst(max(paceBurst, int(bytes*paceTime.Seconds())))
			l.SetLimit(limit)
		}
	}
	cat := c.cfg.Catalog()
	var own, zone float64
	if r, ok := cat.Relay(c.cfg.Name); ok {
		own = float64(r.Rate)
		if z, ok := cat.Zone(r.Zone); ok {
			others := 1
			for _, p := range c.view().peers {
				if p.Zone == r.Zone && p.Name != string(c.cfg.Name) && !p.Down {
					others++
				}
			}
			zone = float64(z.Rate) / float64(others)
		}
	}
	set(c.pace.out, own)
	set(c.pace.ahead, own)
	set(c.pace.zone, zone)
}

// budget is how many bytes the chunks may take: what is declared, else what the program was told.
func (c *Cache) budget() int64 {
	if r, ok := c.cfg.Catalog().Relay(c.cfg.Name); ok && r.Budget > 0 {
		return r.Budget
	}
	return c.cfg.Budget
}

// busy tells whether something moves for which a node waits. That one waits is not enough: it may wait in vain.
func (p *pace) busy() bool { return time.Now().UnixNano()-p.urgent.Load() < int64(busyTime) }

// hurry notes that a node waits for a chunk somewhere below, which may have been asked for ahead; hurries, whether one does.
func (p *pace) hurry(id chunk.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.hurried) >= maxHurried {
		clear(p.hurried)
	}
	p.hurried[id] = time.Now()
}

func (p *pace) hurries(id chunk.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.hurried[id]) < hurryTime
}

// take waits until a piece may move. What no node waits for lets the rest pass.
func (p *pace) take(ctx context.Context, n int, ahead func() bool, limits ...*rate.Limiter) error {
	for waited := time.Duration(0); waited < yieldMost && ahead() && p.busy(); waited += yieldStep {
		if !pause(ctx, yieldStep) {
			return ctx.Err()
		}
	}
	if !ahead() {
		p.urgent.Store(time.Now().UnixNano())
	}
	for _, l := range limits {
		if err := l.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// pacedReader reads no faster than it may.
type pacedReader struct {
	io.Reader
	take func(n int) error
}

func (r *pacedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), paceSize)])
	if n > 0 {
		if late := r.take(n); late != nil {
			return n, late
		}
	}
	return n, err
}

// arriving paces what comes from an upstream.
func (c *Cache) arriving(ctx context.Context, f *flight, u upstream, r io.Reader) io.Reader {
	c.setPace()
	return &pacedReader{r, func(n int) error {
		var limits []*rate.Limiter
		ahead := !f.urgent.Load()
		if ahead {
			limits = append(limits, c.pace.ahead)
		}
		if u.outside {
			limits = append(limits, c.pace.zone)
		}
		return c.pace.take(ctx, n, func() bool { return !f.urgent.Load() }, limits...)
	}}
}

// leaving paces what goes to another relay, if that is bounded.
func (c *Cache) leaving(ctx context.Context, f chunkstore.File, id chunk.ID, q Request) chunkstore.File {
	c.setPace()
	if f == nil || c.pace.out.Limit() == rate.Inf {
		return f
	}
	if !q.Ahead {
		c.pace.hurry(id)
	}
	return &pacedFile{f, func(n int) error {
		return c.pace.take(ctx, n, func() bool { return q.Ahead && !c.pace.hurries(id) }, c.pace.out)
	}}
}

// pacedFile is a chunkstore.File that is read no faster than it may be.
type pacedFile struct {
	chunkstore.File
	take func(n int) error
}

func (f *pacedFile) Read(p []byte) (int, error) {
	return (&pacedReader{f.File, f.take}).Read(p)
}

func (f *pacedFile) Content() io.ReadSeeker { return f }
