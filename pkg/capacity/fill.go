package capacity

import (
	"container/heap"
	"time"
)

// Fill is how an image comes to the relays.
type Fill struct {
	Took   time.Duration `json:"took"`   // until the last relay has it all; 0 if it is there already
	Ideal  time.Duration `json:"ideal"`  // the image over a relay's link
	Copies float64       `json:"copies"` // of the image that the controllers send
	Uneven float64       `json:"uneven"` // what the busiest relay sends to others, in copies

	ends []time.Duration // by relay
}

const (
	window = 32                   // chunks that a relay fetches at once: relay/cache's
	hop    = time.Millisecond / 2 // from a request to the first byte, where the chunk is there
)

// fill plays how relays fetch all chunks from one another: each asks the one above it in the chunk's tree, so many at a
// time, and hands on what it has whole. A link sends one chunk after the other, which takes as long as all at once.
func fill(s *Site) Fill {
	f := Fill{Ideal: seconds(float64(s.Image) / s.RelayLink), ends: make([]time.Duration, s.Relays)}
	if !s.Cold {
		return f
	}
	chunks := int(max(1, (s.Image+s.Chunk-1)/s.Chunk))
	if most := min(maxChunks, max(64, 4_000_000/s.Relays)); chunks > most {
		chunks = most
	}
	size := float64(s.Image) / float64(chunks)
	d := &spreading{
		site: s, mesh: newMesh(s), chunks: chunks, size: size,
		next: make([]int, s.Relays), lines: make([]int, s.Relays), last: make([]time.Duration, s.Relays),
		sent: make([]float64, s.Relays+s.Controllers), up: make([]time.Duration, s.Relays+s.Controllers), down: make([]time.Duration, s.Relays),
		into: make([]time.Duration, s.Zones), state: make([]uint8, s.Relays*chunks), parents: make([][]int32, chunks), waiting: map[int64][]int32{},
	}
	d.run()
	for i := range f.ends {
		f.ends[i] = d.last[i]
		f.Took = max(f.Took, f.ends[i])
		f.Uneven = max(f.Uneven, d.sent[i]/float64(s.Image))
	}
	for i := range s.Controllers {
		f.Copies += d.sent[s.Relays+i] / float64(s.Image)
	}
	return f
}

// States of a chunk at a relay.
const (
	absent uint8 = iota
	asked        // for others
	wanted       // for itself, too: it takes one of the relay's lines
	there
)

// spreading is a fill under way. Relays are numbered from 0, controllers after them.
type spreading struct {
	site   *Site
	mesh   mesh
	chunks int
	size   float64

	next, lines []int             // by relay: the next chunk that it goes for, and how many it waits for
	last        []time.Duration   // by relay: its latest chunk
	state       []uint8           // by relay and chunk
	parents     [][]int32         // by chunk: whom each relay asks
	waiting     map[int64][]int32 // by relay and chunk: who waits there for it
	sent        []float64         // by sender: bytes
	up, down    []time.Duration   // until when a link is busy, by sender and by relay
	into        []time.Duration   // by zone
	events      arrivals
}

// arrival is a chunk that a relay has whole.
type arrival struct {
	at    time.Duration
	relay int32
	chunk int32
}

type arrivals []arrival

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i].at < a[j].at }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

func (d *spreading) run() {
	for r := range d.site.Relays {
		d.advance(0, r)
	}
	for len(d.events) > 0 {
		a := heap.Pop(&d.events).(arrival)
		r, c := int(a.relay), int(a.chunk)
		at := r*d.chunks + c
		if d.state[at] == wanted {
			d.lines[r]--
		}
		d.state[at], d.last[r] = there, a.at
		for _, child := range d.waiting[int64(at)] {
			d.send(a.at, r, int(child), c)
		}
		delete(d.waiting, int64(at))
		d.advance(a.at, r)
	}
}

// advance has a relay go for its next chunks, while it has lines for them.
func (d *spreading) advance(now time.Duration, r int) {
	for ; d.next[r] < d.chunks && d.lines[r] < window; d.next[r]++ {
		c := d.next[r]
		state := &d.state[r*d.chunks+c]
		if *state == there {
			continue
		}
		d.ask(now, r, c)
		*state = wanted
		d.lines[r]++
	}
}

// ask has a relay fetch a chunk, if it does not do so already; those above it in the chunk's tree fetch it for that.
func (d *spreading) ask(now time.Duration, r, c int) {
	if d.state[r*d.chunks+c] != absent {
		return
	}
	d.state[r*d.chunks+c] = asked
	from := int(d.parentsOf(c)[r])
	if from >= d.site.Relays || d.state[from*d.chunks+c] == there {
		d.send(now, from, r, c)
		return
	}
	at := int64(from*d.chunks + c)
	d.waiting[at] = append(d.waiting[at], int32(r))
	d.ask(now+hop, from, c)
}

// send puts a chunk on the wire. The sender's link and the receiver's are two pipes, one behind the other: neither waits
// for what else the other has to do.
func (d *spreading) send(now time.Duration, from, to, c int) {
	s := d.site
	up := s.RelayLink
	if from >= s.Relays {
		up = s.ControllerLink
	}
	at := through(&d.up[from], now+hop+seconds(d.size/up), d.size/up)
	if zone := zoneOf(s, to); s.Zones > 1 && s.ZoneLink > 0 && (from >= s.Relays || zoneOf(s, from) != zone) {
		at = through(&d.into[zone], at, d.size/s.ZoneLink)
	}
	at = through(&d.down[to], at, d.size/s.RelayLink)
	d.sent[from] += d.size
	heap.Push(&d.events, arrival{at, int32(to), int32(c)})
}

// through is when something that comes to a pipe has left it. It leaves while it comes, unless the pipe is busy.
func through(busy *time.Duration, at time.Duration, took float64) time.Duration {
	begin := max(*busy, at-seconds(took))
	*busy = begin + seconds(took)
	return max(*busy, at)
}
