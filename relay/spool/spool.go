// Package spool keeps what a relay saw of boots until every controller has it.
//
// Each controller has its own place in the spool: one that is away for an hour gets what it missed when it is back,
// and holds nobody else up. The spool is bounded; when it is full the oldest events go, and those who miss them are
// told how many.
package spool

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bounds and times.
const (
	maxEvents  = 50_000
	linger     = 200 * time.Millisecond // how long an event waits for others to travel with it
	firstPause = time.Second
	maxPause   = 30 * time.Second
	sendTime   = 20 * time.Second
)

// Config says to whom a spool sends.
type Config struct {
	Relay       catalog.RelayName
	Controllers func() []string // host:port of every controller; asked now and then
	// Send hands a batch to one controller. It may be called for several controllers at once.
	Send func(ctx context.Context, controller string, batch api.EventBatch) error
	Log  *slog.Logger
}

// Spool is the queue of a relay. Record may be called by any number of goroutines; it never blocks.
type Spool struct {
	cfg Config

	mu     sync.Mutex
	events []boot.Event
	first  uint64            // number of events[0]
	wake   chan struct{}     // closed and replaced when something is recorded
	beats  map[string]uint64 // number of the last heart-beat of a boot that nobody has taken yet
}

// New makes a spool; Run sends.
func New(cfg Config) *Spool {
	return &Spool{cfg: cfg, wake: make(chan struct{}), beats: map[string]uint64{}}
}

// Record puts an event in the queue, under this relay's name. Of the heart-beats of one boot only the last is kept.
func (s *Spool) Record(e boot.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	e.Relay = s.cfg.Relay
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Stage == boot.StageAlive {
		if at, ok := s.beats[e.Boot]; ok && at >= s.first {
			s.events[at-s.first].Time = e.Time
			return
		}
		s.beats[e.Boot] = s.first + uint64(len(s.events))
	}
	s.events = append(s.events, e)
	if len(s.events) > maxEvents {
		s.drop(maxEvents / 10) // many at once: each time, all that stay are moved
	}
	close(s.wake)
	s.wake = make(chan struct{})
}

// drop forgets the oldest events.
func (s *Spool) drop(n int) {
	for _, e := range s.events[:n] {
		if e.Stage == boot.StageAlive {
			delete(s.beats, e.Boot)
		}
	}
	s.events = slices.Delete(s.events, 0, n)
	s.first += uint64(n)
}

// Waiting is how many events some controller has not taken yet.
func (s *Spool) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// A reader is one controller's place in the spool.
type reader struct {
	stop context.CancelFunc
	next uint64
}

// Run sends to every controller there is, until ctx ends.
func (s *Spool) Run(ctx context.Context) error {
	readers := map[string]*reader{}
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex // guards the readers' places
	for {
		now := s.cfg.Controllers()
		for name, r := range readers {
			if !slices.Contains(now, name) {
				r.stop()
				delete(readers, name)
			}
		}
		for _, name := range now {
			if readers[name] != nil {
				continue
			}
			sub, stop := context.WithCancel(ctx)
			r := &reader{stop: stop}
			readers[name] = r
			wg.Go(func() { s.feed(sub, name, &mu, &r.next) })
		}
		mu.Lock()
		s.forget(maps.Values(readers))
		mu.Unlock()
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			for _, r := range readers {
				r.stop()
			}
			return nil
		}
	}
}

// forget drops what every controller has taken.
func (s *Spool) forget(readers func(func(*reader) bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.first + uint64(len(s.events))
	any := false
	for r := range readers {
		taken, any = min(taken, max(r.next, s.first)), true
	}
	if any && taken > s.first {
		s.drop(int(taken - s.first))
	}
}

// feed sends to one controller, batch after batch, trying again until it is taken.
func (s *Spool) feed(ctx context.Context, controller string, mu *sync.Mutex, place *uint64) {
	pause := firstPause
	for {
		mu.Lock()
		next := *place
		mu.Unlock()
		batch, after, wake := s.take(next)
		if len(batch.Events) == 0 {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(linger):
			case <-ctx.Done():
				return
			}
			continue
		}
		sub, cancel := context.WithTimeout(ctx, sendTime)
		err := s.cfg.Send(sub, controller, batch)
		cancel()
		if err == nil {
			mu.Lock()
			*place = after
			mu.Unlock()
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Debug("controller does not take events", "controller", controller, "err", err)
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// take returns the events from a place on, at most a batch, and the place after them; with none, what to wait for.
func (s *Spool) take(next uint64) (batch api.EventBatch, after uint64, wake <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := uint64(0)
	if next < s.first {
		if next > 0 { // a controller that is new misses nothing
			lost = s.first - next
		}
		next = s.first
	}
	from := int(next - s.first)
	to := min(len(s.events), from+api.MaxEventBatch-1)
	if from >= to {
		return api.EventBatch{}, next, s.wake
	}
	if lost > 0 {
		batch.Events = append(batch.Events, boot.Event{Time: s.events[from].Time, Relay: s.cfg.Relay, Message: fmt.Sprintf("relay %s has dropped %d older events", s.cfg.Relay, lost)})
	}
	for i := from; i < to; i++ {
		// A heart-beat on its way must not be changed any more.
		if e := s.events[i]; e.Stage == boot.StageAlive && s.beats[e.Boot] == s.first+uint64(i) {
			delete(s.beats, e.Boot)
		}
	}
	batch.Events = append(batch.Events, s.events[from:to]...)
	return batch, next + uint64(to-from), s.wake
}
