package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/relay/gossip"
)

// clock compares this relay's clock with those of the members that answer it. Where it is far off, the time of the others
// counts for everything that is sealed, judged and told here: a ticket of a relay that is an hour behind would be over
// before the agent shows it elsewhere.
type clock struct {
	system func() time.Time

	mu    sync.Mutex
	heard map[string]heard // by endpoint
}

// heard is what a member said the time was, and when it did. The one instant is a reading that does not jump when
// somebody sets the clock, so that a clock that was mended is found to be right at once.
type heard struct {
	said, at   time.Time
	controller bool
}

const (
	clockOff = 5 * time.Minute // from which on a clock is wrong; what is less certificates and tickets forgive
	maxHeard = 64
	minPeers = 2 // other relays whose word counts where no controller has answered
)

func newClock(system func() time.Time) *clock {
	if system == nil {
		system = time.Now
	}
	return &clock{system: system, heard: map[string]heard{}}
}

// hear takes the time at which a member said that it answers.
func (c *clock) hear(controller bool) func(endpoint string, said time.Time) {
	return func(endpoint string, said time.Time) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, known := c.heard[endpoint]; !known && len(c.heard) >= maxHeard {
			clear(c.heard)
		}
		c.heard[endpoint] = heard{said, time.Now(), controller}
	}
}

// off is how far this relay's clock is ahead of the others', by the median of the controllers, or of other relays where
// no controller has answered; 0 if nobody has, or if that is next to nothing.
func (c *clock) off() time.Duration {
	now := c.system()
	c.mu.Lock()
	defer c.mu.Unlock()
	var controllers, relays []time.Duration
	for _, h := range c.heard {
		d := now.Sub(h.said.Add(time.Since(h.at)))
		if h.controller {
			controllers = append(controllers, d)
		} else {
			relays = append(relays, d)
		}
	}
	all := controllers
	if len(all) == 0 && len(relays) >= minPeers {
		all = relays
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	if d := all[len(all)/2]; d.Abs() > clockOff {
		return d
	}
	return 0
}

// now is the time as the cluster has it.
func (c *clock) now() time.Time { return c.system().Add(-c.off()) }

// problem says that the clock is wrong; "" if it is not.
func (c *clock) problem() string {
	d := c.off()
	if d == 0 {
		return ""
	}
	way := "ahead of"
	if d < 0 {
		way = "behind"
	}
	return fmt.Sprintf("its clock is %s %s the other members'; set it (chronyc makestep, or timedatectl set-ntp true)", d.Abs().Round(time.Second), way)
}

// lookEvery is how often a relay looks whether it is well: others should know soon.
const lookEvery = 2 * time.Second

// watch decides again and again whether this relay steps back.
func (r *Relay) watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := r.feed.Changed() // before it is asked
		if !r.look() {
			changed = nil // only who is unwell may be well by that
		}
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// look decides whether this relay steps back, and returns that.
func (r *Relay) look() bool {
	why := r.unwell()
	back := len(why) > 0
	if r.back.Swap(back) == back {
		return back
	}
	if back {
		r.log.Warn("this relay is unwell: it steps back behind other relays", "relay", r.settings.Name, "why", strings.Join(why, "; "))
	} else {
		r.log.Info("this relay is well again", "relay", r.settings.Name)
	}
	r.feed.Tell()
	return back
}

// steps tells whether this relay steps back: in plans it comes after every relay that is alive and well.
func (r *Relay) steps() bool { return r.back.Load() }

// unwell says why other relays are the better choice, a line for each reason; none if all is well. A relay that is unwell
// steps back: it comes last in every order, and serves all the same where there is no other.
func (r *Relay) unwell() []string {
	var all []string
	for _, p := range []string{r.clock.problem(), r.stale(), r.feed.Unkept(), r.cache.Unkept()} {
		if p != "" {
			all = append(all, p)
		}
	}
	return all
}

// stale says that the catalog is too old to be the first choice: no controller has confirmed it for long, or others serve
// a newer one, and this relay cannot get it.
func (r *Relay) stale() string {
	state := r.feed.State()
	last := state.Contact
	if last.Before(r.started) {
		last = r.started
	}
	alone := time.Since(last)
	switch {
	case state.Revision == 0:
		return "it has no catalog: it was lost, or never came; it serves nothing before a controller answers"
	case alone > r.cfg.StaleAfter:
		return fmt.Sprintf("no controller has confirmed its catalog, of revision %d, for %s", state.Revision, alone.Round(time.Minute))
	case alone > behindAfter:
		if name, revision := r.mesh.newest(); revision > uint64(state.Revision) {
			return fmt.Sprintf("its catalog is of revision %d, relay %s serves %d, and no controller answers", state.Revision, name, revision)
		}
	}
	return ""
}

// behindAfter is how long a relay may serve an older catalog than others before it steps back.
const behindAfter = time.Minute

// record passes an event on to the controllers, at the time as the cluster has it. What agents tell bears their own.
func (r *Relay) record(e boot.Event) {
	if (e.Time.IsZero() || e.Stage.Index() <= boot.StageKernel.Index()) && r.clock.off() != 0 {
		e.Time = r.clock.now()
	}
	r.spool.Record(e)
}

// recorder is record for those who want an interface.
type recorder struct{ r *Relay }

// Record passes an event on.
func (t recorder) Record(e boot.Event) { t.r.record(e) }

// newest is the relay that is alive and holds the newest catalog.
func (m *mesh) newest() (name string, revision uint64) {
	g := m.gossip.Load()
	if g == nil {
		return "", 0
	}
	for member := range g.Members() {
		if member.State == gossip.Alive && member.Meta.Revision > revision {
			name, revision = member.Name, member.Meta.Revision
		}
	}
	return name, revision
}
