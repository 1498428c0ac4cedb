package journal

import (
	"iter"
	"math"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// pace is how finely the moments are counted at which machines come up.
const pace = 5 * time.Second

// tally counts the results of machines. A result is taken out, changed and added again, each at the same cost however
// many there are; what comes out depends on the results in it and not on how they came there. Nothing in it is more than
// there are results.
type tally struct {
	all                  iter.Seq[*result] // that are counted
	machines, up, failed int
	first, last          int64 // Unix milliseconds of the first sign of any, and of the last
	stale                bool  // one of these was taken out

	open   []*result // that are neither up nor failed
	at     [stages + 1]int
	passed [stages]int
	toUp   spread
	phases [stages]spread
	upAt   map[int64]int // machines that came up, by the pace's count since 1970
	errors map[errorKey]*errorGroup
	relays map[catalog.RelayName]*relayCount
	images map[imageRef]int
	bytes  int64
	events int64
}

type relayCount struct{ machines, up, failed int }

// errorKey is what errors have in common that are shown as one.
type errorKey struct {
	state string
	stage int
	text  string
}

type errorGroup struct {
	results map[*result]bool
	example *result // whose message stands for all
	folded  string  // their nodes; "" if that is not known any more
}

func newTally(all iter.Seq[*result]) *tally {
	return &tally{all: all, upAt: map[int64]int{}, errors: map[errorKey]*errorGroup{}, relays: map[catalog.RelayName]*relayCount{}, images: map[imageRef]int{}}
}

func (t *tally) count(r *result, by int) {
	state, stage := r.state()
	t.machines += by
	t.bytes += int64(by) * r.bytes
	t.events += int64(by) * int64(r.events)
	relay := t.relays[r.relay]
	if relay == nil {
		relay = &relayCount{}
		t.relays[r.relay] = relay
	}
	relay.machines += by
	switch state {
	case api.ResultUp:
		t.up += by
		relay.up += by
		at := r.time(r.reached[stages-1]).UnixNano() / int64(pace)
		if t.upAt[at] += by; t.upAt[at] == 0 {
			delete(t.upAt, at)
		}
	case api.ResultFailed:
		t.failed += by
		relay.failed += by
	default:
		t.at[stage+1] += by
	}
	if relay.machines == 0 {
		delete(t.relays, r.relay)
	}
	if t.images[r.image] += by; t.images[r.image] == 0 {
		delete(t.images, r.image)
	}
	for i, at := range r.reached {
		if at != never {
			t.passed[i] += by
		}
	}
}

func (t *tally) add(r *result) {
	t.count(r, 1)
	t.reach(r)
	state, stage := r.state()
	r.phases(func(i int, took time.Duration) { t.phases[i].add(took) })
	switch state {
	case api.ResultUp:
		t.toUp.add(r.took())
	case api.ResultBooting:
		t.open = append(t.open, r)
		r.open = len(t.open)
	}
	if key, ok := wrong(r, state, stage); ok {
		g := t.errors[key]
		if g == nil {
			g = &errorGroup{results: map[*result]bool{}}
			t.errors[key] = g
		}
		g.results[r], g.folded = true, ""
	}
}

func (t *tally) remove(r *result) {
	t.count(r, -1)
	state, stage := r.state()
	r.phases(func(i int, took time.Duration) { t.phases[i].remove(took) })
	if state == api.ResultUp {
		t.toUp.remove(r.took())
	}
	if r.open > 0 {
		last := t.open[len(t.open)-1]
		t.open[r.open-1], last.open = last, r.open
		t.open = t.open[:len(t.open)-1]
		r.open = 0
	}
	if key, ok := wrong(r, state, stage); ok {
		g := t.errors[key]
		delete(g.results, r)
		if g.folded = ""; len(g.results) == 0 {
			delete(t.errors, key)
		}
	}
}

// reach widens the time that all results span.
func (t *tally) reach(r *result) {
	first, last := r.base+int64(r.started), r.base+int64(r.last)
	if t.machines == 1 || first < t.first {
		t.first = first
	}
	if t.machines == 1 || last > t.last {
		t.last = last
	}
}

// leave is remove for a result that does not come back: what it alone spanned is not spanned any more.
func (t *tally) leave(r *result) {
	t.remove(r)
	t.stale = t.stale || r.base+int64(r.started) <= t.first || r.base+int64(r.last) >= t.last
}

// span is the time between the first sign of any machine and the last.
func (t *tally) span() (first, last time.Time) {
	if t.stale && t.machines > 0 {
		t.first, t.last, t.stale = math.MaxInt64, math.MinInt64, false
		for r := range t.all {
			t.reach(r)
		}
	}
	return time.UnixMilli(t.first).UTC(), time.UnixMilli(t.last).UTC()
}

// wrong is the group of the error that a boot has, if it has one. A failure always has.
func wrong(r *result, state string, stage int) (errorKey, bool) {
	text := r.error(stage)
	if text == "" && state != api.ResultFailed {
		return errorKey{}, false
	}
	return errorKey{state, stage, masked(text)}, true
}
