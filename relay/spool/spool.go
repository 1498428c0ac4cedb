// Package spool keeps what a relay saw of boots until every controller has it.
//
// Each controller has its own place in the spool: one that is away for an hour gets what it missed when it is back,
// and holds nobody else up. The spool is bounded; when it is full the oldest events go, which Problems tells. What
// some controller has not taken yet outlives a restart of the relay, but for the last seconds.
package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds and times.
const (
	maxEvents      = 50_000
	maxBytes       = 64 << 20
	maxControllers = 64
	look           = 5 * time.Second // at the list of controllers, and at what can be forgotten or must be kept
	firstPause     = time.Second
	maxPause       = 30 * time.Second
	sendTime       = 20 * time.Second
)

// Config says to whom a spool sends.
type Config struct {
	Relay       catalog.RelayName
	Controllers func() []string // host:port of every controller; asked now and then
	Relays      func() int      // how many relays there are, which share what controllers can take; nil: this one alone
	// Send hands a batch to one controller. It may be called for several controllers at once.
	Send func(ctx context.Context, controller string, batch api.EventBatch) error
	Path string     // file for what is not taken yet; "" keeps it in memory only
	Disk durable.FS // where the file is; the zero value is the machine's own
	Log  *slog.Logger
}

// Spool is the queue of a relay. Record may be called by any number of goroutines; it never blocks.
type Spool struct {
	cfg Config

	mu      sync.Mutex
	events  []item // in the order of their numbers
	next    uint64 // number of the next one
	bytes   int    // of events, about
	dead    int    // among events
	beats   map[heart]uint64
	wake    chan struct{}     // closed and replaced when something is recorded
	places  map[string]uint64 // by controller: the number of the first event that it has not taken
	dropped int64             // events that went before everybody had them
	unkept  error             // why the file could not be written
}

// item is an event in the queue.
type item struct {
	number uint64
	event  boot.Event
	dead   bool // a heart-beat after which there was another
}

// heart is whose heart-beat one is. Nodes with a client of Warewulf know no boots, nor does a relay that has started since.
type heart struct {
	node     catalog.NodeName
	hardware catalog.HardwareAddr
	boot     string
}

func heartOf(e *boot.Event) heart { return heart{e.Node, e.Hardware, e.Boot} }

func (i item) size() int {
	return 300 + len(i.event.Message) + len(i.event.Error) + len(i.event.Console)
}

// New makes a spool and reads what the last run left; Run sends. A damaged file is put aside and costs its events.
func New(cfg Config) *Spool {
	s := &Spool{cfg: cfg, next: 1, wake: make(chan struct{}), beats: map[heart]uint64{}, places: map[string]uint64{}}
	if cfg.Path != "" {
		if err := s.load(); err != nil {
			cfg.Log.Error("boot events of the last run are lost", "relay", cfg.Relay, "err", err)
		}
	}
	return s
}

// Record puts an event in the queue, under this relay's name. Of the heart-beats of one boot only the last is kept.
func (s *Spool) Record(e boot.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time, e.Relay = e.Time.UTC(), s.cfg.Relay
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Stage == boot.StageAlive {
		if i, ok := s.find(s.beats[heartOf(&e)]); ok {
			s.events[i].dead = true
			s.dead++
		}
		s.beats[heartOf(&e)] = s.next
	}
	s.add(item{number: s.next, event: e})
	s.next++
	switch {
	case s.dead > 1000 && s.dead > len(s.events)/2:
		s.remove(func(i item) bool { return i.dead })
	case len(s.events) > maxEvents || s.bytes > maxBytes:
		oldest := s.events[len(s.events)/10].number // many at once: each time, all that stay are moved
		s.remove(func(i item) bool {
			if i.number <= oldest && !i.dead {
				s.dropped++
			}
			return i.number <= oldest
		})
	}
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *Spool) add(i item) {
	s.events = append(s.events, i)
	s.bytes += i.size()
}

// find returns where the event of a number is, if it is still there.
func (s *Spool) find(number uint64) (int, bool) {
	return slices.BinarySearchFunc(s.events, number, func(i item, n uint64) int { return cmp.Compare(i.number, n) })
}

// remove takes events out of the queue.
func (s *Spool) remove(gone func(item) bool) {
	s.events = slices.DeleteFunc(s.events, func(i item) bool {
		if !gone(i) {
			return false
		}
		s.bytes -= i.size()
		if i.dead {
			s.dead--
		}
		if h := heartOf(&i.event); s.beats[h] == i.number {
			delete(s.beats, h)
		}
		return true
	})
}

// Waiting is how many events some controller has not taken yet.
func (s *Spool) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events) - s.dead
}

// Problems are what a person should know, one line each.
func (s *Spool) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	if s.dropped > 0 {
		lines = append(lines, fmt.Sprintf("%d boot events were dropped before every controller had them", s.dropped))
	}
	if s.unkept != nil {
		lines = append(lines, "boot events cannot be kept over a restart: "+s.unkept.Error())
	}
	return lines
}

// Run sends to every controller there is, until ctx ends.
func (s *Spool) Run(ctx context.Context) error {
	sending := map[string]context.CancelFunc{}
	var wg sync.WaitGroup
	defer s.save()
	defer wg.Wait()
	var saved time.Time
	pause := look
	for {
		now := s.cfg.Controllers()
		now = now[:min(len(now), maxControllers)]
		for name, stop := range sending {
			if !slices.Contains(now, name) {
				stop()
				delete(sending, name)
			}
		}
		s.settle(now)
		for _, name := range now {
			if sending[name] == nil {
				sub, stop := context.WithCancel(ctx)
				sending[name] = stop
				wg.Go(func() { s.feed(sub, name) })
			}
		}
		if time.Since(saved) >= pause {
			saved = time.Now()
			s.save()
			pause = max(look, 20*time.Since(saved)) // a large file is not written all the time
		}
		t := time.NewTimer(look)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			for _, stop := range sending {
				stop()
			}
			return nil
		}
	}
}

// settle gives every controller its place, and forgets what all have taken. A controller that is new gets all there is.
func (s *Spool) settle(controllers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.places {
		if !slices.Contains(controllers, name) {
			delete(s.places, name)
		}
	}
	if len(controllers) == 0 {
		return
	}
	taken := s.next
	for _, name := range controllers {
		if _, ok := s.places[name]; !ok {
			s.places[name] = 0
		}
		taken = min(taken, s.places[name])
	}
	if len(s.events) > 0 && s.events[0].number < taken {
		s.remove(func(i item) bool { return i.number < taken })
	}
}

// linger is how long to wait before a batch. It differs, for otherwise all relays of a cluster that is switched on would
// send at once, again and again.
func (s *Spool) linger() time.Duration {
	relays := 1
	if s.cfg.Relays != nil {
		relays = s.cfg.Relays()
	}
	d := api.LingerOf(relays)
	return d/2 + rand.N(d)
}

// feed sends to one controller, batch after batch, trying again until it is taken. However much there is to send, there
// is a pause before each batch: what waits longer travels in larger ones.
func (s *Spool) feed(ctx context.Context, controller string) {
	pause := firstPause
	for ctx.Err() == nil {
		if batch, _, wake := s.take(controller); len(batch.Events) == 0 {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
		wait(ctx, s.linger())
		batch, after, _ := s.take(controller)
		if len(batch.Events) == 0 {
			if after > 0 {
				s.took(controller, after)
			}
			continue
		}
		sub, cancel := context.WithTimeout(ctx, sendTime)
		err := s.cfg.Send(sub, controller, batch)
		cancel()
		switch {
		case ctx.Err() != nil && err != nil:
			return
		case errors.Is(err, fault.Invalid):
			// It will never take these, and those behind them must not wait for that.
			s.cfg.Log.Error("a controller refuses boot events; they are not sent to it again", "relay", s.cfg.Relay, "controller", controller, "events", len(batch.Events), "err", err)
			fallthrough
		case err == nil:
			s.took(controller, after)
			pause = firstPause
		default:
			s.cfg.Log.Debug("a controller does not take boot events", "relay", s.cfg.Relay, "controller", controller, "err", err)
			wait(ctx, pause/2+rand.N(pause/2+1))
			pause = min(2*pause, maxPause)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// take returns what a controller should be sent, at most a batch, and its place after that; with nothing, what to
// wait for.
func (s *Spool) take(controller string) (batch api.EventBatch, after uint64, wake <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, _ := s.find(s.places[controller])
	first := map[likeness]time.Time{}
	for n := at; n < len(s.events); n++ {
		i := &s.events[n]
		if len(batch.Events) >= api.MaxEventBatch {
			break
		}
		after = i.number + 1
		if i.dead {
			continue
		}
		like := likenessOf(&i.event)
		if began, ok := first[like]; ok && i.event.Time.Sub(began) < again {
			continue
		}
		first[like] = i.event.Time
		batch.Events = append(batch.Events, i.event)
	}
	return batch, after, s.wake
}

// again is how long the same may happen to a machine again without being told again, in one batch: firmware repeats what
// it asks, and why a boot went as it did shows from the first time.
const again = 5 * time.Second

// likeness is what events have in common that say the same of the same machine.
type likeness struct {
	stage               boot.Stage
	node, hardware      string
	boot, address       string
	firmware            boot.Firmware
	message, err, image string
	bytes               int64
	took                time.Duration
	facts               catalog.Facts
}

func likenessOf(e *boot.Event) likeness {
	l := likeness{stage: e.Stage, node: string(e.Node), hardware: string(e.Hardware), boot: e.Boot, address: e.Address, firmware: e.Firmware,
		message: e.Message, err: e.Error, image: e.Image, bytes: e.Bytes, took: e.Took}
	if e.Machine != nil { // an unknown machine says what it is with its second question, a moment after the first
		l.facts = *e.Machine
	}
	return l
}

func (s *Spool) took(controller string, after uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.places[controller]; ok {
		s.places[controller] = max(s.places[controller], after)
	}
}
