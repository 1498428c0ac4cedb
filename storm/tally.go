package storm

import (
	"context"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Bounds of what a storm remembers. What is beyond is counted, but not told apart.
const (
	maxGroups  = 200    // errors that differ
	maxNames   = 2000   // machines of one error
	maxChunks  = 20_000 // chunks that differ
	maxSamples = 7200   // two hours
)

// tally is what all machines of a storm count together. Its methods may be called at once.
type tally struct {
	began   time.Time
	cpu     time.Duration // of this process until then
	total   int
	reached [phases]atomic.Int64
	bytes   atomic.Int64 // that came, of all kinds
	checked atomic.Int64 // that came and were held against their digests
	wrong   atomic.Int64 // files that were not what their names said; none of them was used

	mu      sync.Mutex
	retries map[string]int
	groups  map[string]*group
	chunks  map[chunk.ID]int64
	samples []Sample
}

// group is an error that machines had.
type group struct {
	count int
	ended int // starts that it ended
	names map[catalog.NodeName]bool
	first time.Duration
	last  time.Duration
}

// Sample is how far a storm was at a time.
type Sample struct {
	At      time.Duration `json:"at"`      // since it began, nanoseconds
	Reached []int         `json:"reached"` // how often each phase was reached; a machine that starts over counts again
	Bytes   int64         `json:"bytes"`   // that machines have received
	Total   int           `json:"total"`   // machines
}

// Up is how many machines were up.
func (s Sample) Up() int { return s.Reached[atUp] }

func newTally() *tally {
	return &tally{retries: map[string]int{}, groups: map[string]*group{}, chunks: map[chunk.ID]int64{}}
}

func (t *tally) begin(machines int) {
	t.began, t.cpu, t.total = time.Now(), cpu(), machines
}

func (t *tally) since() time.Duration { return time.Since(t.began) }

// retry counts something that had to be asked again.
func (t *tally) retry(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retries[what]++
}

// verified counts bytes that were held against a digest.
func (t *tally) verified(id chunk.ID, n int64) {
	t.checked.Add(n)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.chunks) < maxChunks {
		t.chunks[id] = n
	}
}

// What differs from machine to machine in the text of one and the same error.
var (
	aDigest = regexp.MustCompile(`\b[0-9a-f]{12,64}\b`)
	aPeer   = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+:\d+->`)
	aSource = regexp.MustCompile(`(dial tcp4?) \d+\.\d+\.\d+\.\d+:\d+->`)
	aCard   = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
)

// fail notes an error of a machine, with those of others that had the same; ended tells whether it had to start over.
func (t *tally) fail(who catalog.NodeName, err error, ended bool) {
	text := err.Error()
	text = aSource.ReplaceAllString(text, "$1 ")
	text = aPeer.ReplaceAllString(text, "")
	text = aCard.ReplaceAllString(aDigest.ReplaceAllString(text, "…"), "…")
	now := t.since()
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[text]
	if g == nil {
		if len(t.groups) >= maxGroups {
			text = "other errors"
		}
		if g = t.groups[text]; g == nil {
			g = &group{names: map[catalog.NodeName]bool{}, first: now}
			t.groups[text] = g
		}
	}
	g.count++
	g.last = now
	if ended {
		g.ended++
	}
	if len(g.names) < maxNames {
		g.names[who] = true
	}
}

// sample notes every second how far the storm is, and tells it, until ctx ends; then once more.
func (t *tally) sample(ctx context.Context, tell func(Sample)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			over = true
		}
		s := Sample{At: t.since(), Reached: make([]int, phases), Bytes: t.bytes.Load(), Total: t.total}
		for i := range s.Reached {
			s.Reached[i] = int(t.reached[i].Load())
		}
		t.mu.Lock()
		if len(t.samples) < maxSamples {
			t.samples = append(t.samples, s)
		}
		t.mu.Unlock()
		if tell != nil {
			tell(s)
		}
	}
}
