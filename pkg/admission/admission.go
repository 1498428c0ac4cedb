// Package admission decides who may fetch large things from a relay now, and when the others should come back.
//
// A few transfers at full speed, one after the other, beat many that share the wire and all time out. So a relay has
// slots. A slot is lent to a machine, not to a request: once its turn has come, it fetches whatever it needs, as many
// pieces at once as it likes, until it says that it is done or asks for nothing for a while. Those whose turn has not
// come stand in line, in the order in which they first asked. Some wait with their connection open; the others are told
// when to come back, and keep their place for as long as that takes, so that nobody starves who does as he is told.
//
// The package is given the time and never asks for it: a relay uses it under a lock, a simulation in virtual time.
package admission

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Config says how a Gate is to be. What is zero is usual.
type Config struct {
	Slots   int           // so many, whatever is measured; 0: as many as the throughput says
	Reserve int           // slots besides these, for urgent machines only
	Idle    time.Duration // a visit during which nothing is fetched for so long is over
	Line    int           // how many may stand in line
	Rand    *rand.Rand    // spreads those who are told to come back; required
}

// What is usual.
const (
	UsualIdle = 3 * time.Second
	UsualLine = 16384
)

// Bounds and times.
const (
	MinSlots = 4 // found out, not declared
	MaxSlots = 512
	start    = 16

	window    = 2 * time.Second // in which throughput is measured
	least     = 128 << 10       // bytes a second, below which a visit gives its slot up while others wait
	firstMean = 5 * time.Second

	soonest = time.Second // to come back
	latest  = time.Minute
	grace   = 45 * time.Second // for which a place is kept beyond the time to come back
	recent  = 5 * time.Minute  // for which the place of a visit that went idle is kept
)

// Gate is the gate of one relay. It is not for several goroutines at once.
type Gate struct {
	cfg    Config
	size   sizer
	visits map[string]*visit
	in     []*visit // the same, in the order in which they came
	line   line
	past   map[string]past // who had a turn a while ago, and is likely in the middle of a boot
	number uint64          // of the last ticket
	mean   time.Duration   // of a visit, lately
	ended  int64           // visits
	tidied time.Time
	rate   float64 // bytes a second, in the last window
	sent   int64   // in this window
}

// visit is a machine whose turn has come.
type visit struct {
	who       string
	urgent    bool
	number    uint64 // of its ticket
	since     time.Time
	used      time.Time // when it last began or ended to fetch
	transfers int
	asked     bool  // it has come in
	sent      int64 // in this window
	whole     bool  // something was fetched during all of this window
	slow      bool  // it takes next to nothing, and has given its slot up
	over      over  // when its transfers have ended
	away      bool  // it has no connection any more
}

// over is what a machine said of the end of its visit.
type over int

const (
	unsaid over = iota
	paused      // it will come again, in a while
	done        // it will not
)

type past struct {
	number uint64
	until  time.Time
}

// New makes a Gate.
func New(cfg Config) *Gate {
	if cfg.Idle == 0 {
		cfg.Idle = UsualIdle
	}
	if cfg.Line == 0 {
		cfg.Line = UsualLine
	}
	g := &Gate{cfg: cfg, visits: map[string]*visit{}, line: newLine(), past: map[string]past{}, mean: firstMean}
	g.size.set(cfg.Slots)
	return g
}

// Set changes how many slots there are; see Config.
func (g *Gate) Set(slots, reserve int) {
	if slots != g.cfg.Slots {
		g.size.set(slots)
	}
	g.cfg.Slots, g.cfg.Reserve = slots, reserve
}

// Answer is what a machine is told that asks for a transfer.
type Answer struct {
	Admitted bool // it may begin; End must follow
	Place    int  // else: how many are before it
	Wait     time.Duration
	Back     time.Duration // when to come back, if it does not wait here
}

// Ask asks for a transfer. Who is admitted calls End after it. Who is not may wait: see Stay. Otherwise its place is
// kept until a while after the time at which it should come back.
func (g *Gate) Ask(now time.Time, who string, urgent bool) Answer {
	g.pass(now)
	v, in := g.visits[who]
	if !in {
		t := g.line.of[who]
		if t == nil {
			if len(g.line.all) >= g.cfg.Line && !urgent {
				n := len(g.line.all)
				return Answer{Place: n, Wait: g.wait(n, false), Back: g.back(g.wait(n, false))} // without a ticket
			}
			t = &ticket{who: who, urgent: urgent, number: g.next(who), since: now}
			g.line.add(t)
		}
		if !g.room(t.urgent) || g.line.waitsBefore(t) {
			place := g.line.place(t)
			a := Answer{Place: place, Wait: g.wait(place, t.urgent)}
			a.Back = g.back(a.Wait)
			t.until = now.Add(a.Back + grace)
			return a
		}
		v = g.admit(now, t)
	}
	v.transfers++
	v.used, v.asked, v.over, v.away = now, true, unsaid, false
	return Answer{Admitted: true}
}

// next is the number of a new ticket: a new one, or that of a visit a while ago.
func (g *Gate) next(who string) uint64 {
	if p, ok := g.past[who]; ok {
		delete(g.past, who)
		return p.number
	}
	g.number++
	return g.number
}

// admit lends a slot to the one who stands in line with t.
func (g *Gate) admit(now time.Time, t *ticket) *visit {
	g.line.remove(t)
	v := &visit{who: t.who, urgent: t.urgent, number: t.number, since: now, used: now}
	g.visits[t.who] = v
	g.in = append(g.in, v)
	return v
}

// room tells whether there is a slot for one more.
func (g *Gate) room(urgent bool) bool {
	normal, urgents := g.busy()
	if urgent {
		return normal+urgents < g.size.slots+g.cfg.Reserve
	}
	return normal+max(0, urgents-g.cfg.Reserve) < g.size.slots
}

// busy counts the slots that are lent.
func (g *Gate) busy() (normal, urgent int) {
	for _, v := range g.in {
		switch {
		case v.slow:
		case v.urgent:
			urgent++
		default:
			normal++
		}
	}
	return normal, urgent
}

// Stay says that one who was not admitted waits here. Next tells when its turn comes; Leave must follow, whatever comes
// of it. One machine may wait with several requests.
func (g *Gate) Stay(who string) {
	if t := g.line.of[who]; t != nil {
		t.here++
	}
}

// Leave says that one request of a machine waits no longer. Its place is kept for a while, as if it had been told to
// come back, when it should, in this answer.
func (g *Gate) Leave(now time.Time, who string) Answer {
	g.pass(now)
	if t := g.line.of[who]; t != nil {
		t.here = max(0, t.here-1)
		place := g.line.place(t)
		a := Answer{Place: place, Wait: g.wait(place, t.urgent)}
		a.Back = g.back(a.Wait)
		t.until = now.Add(a.Back + grace)
		return a
	}
	if v := g.visits[who]; v != nil && !v.asked { // its turn came, and it is gone
		g.end(v)
	}
	return Answer{Back: g.back(g.mean)}
}

// Next lends the free slots to those who wait here, and returns who they are: each of them asks again, and is admitted.
func (g *Gate) Next(now time.Time) []string {
	g.pass(now)
	var turn []string
	for _, urgent := range []bool{true, false} {
		for g.room(urgent) {
			t := g.line.first(urgent)
			if t == nil {
				break
			}
			g.admit(now, t)
			turn = append(turn, t.who)
		}
	}
	return turn
}

// Sent notes bytes that a machine was sent. Those of others than visitors count for the throughput alone.
func (g *Gate) Sent(now time.Time, who string, n int64) {
	if v := g.visits[who]; v != nil {
		v.sent += n
	}
	g.sent += n
	g.size.sent(n)
	g.pass(now)
}

// End ends a transfer. The visit goes on, for those who fetch one piece after the other.
func (g *Gate) End(now time.Time, who string) {
	if v := g.visits[who]; v != nil {
		v.transfers = max(0, v.transfers-1)
		v.used = now
		g.leave(now, v)
	}
	g.pass(now)
}

// Pause says that a machine has what it came for, and will come again in a while: its kernel starts. Its slot is another's
// as soon as its transfers have ended.
func (g *Gate) Pause(now time.Time, who string) { g.say(now, who, paused) }

// Done says that a machine has all that it came for.
func (g *Gate) Done(now time.Time, who string) {
	delete(g.past, who)
	g.say(now, who, done)
}

// Away says that a machine has closed its last connection: if it does not come again at once, its visit is over.
func (g *Gate) Away(now time.Time, who string) {
	if v := g.visits[who]; v != nil {
		v.away, v.used = true, now
	}
	g.pass(now)
}

func (g *Gate) say(now time.Time, who string, what over) {
	if v := g.visits[who]; v != nil {
		v.over = what
		g.leave(now, v)
	}
	g.pass(now)
}

// leave ends a visit that was said to be over.
func (g *Gate) leave(now time.Time, v *visit) {
	if v.over == unsaid || v.transfers > 0 {
		return
	}
	g.lasted(now.Sub(v.since))
	if v.over == done {
		g.out(v)
		return
	}
	g.end(v)
}

// end ends a visit whose machine did not say that it is done: it may be in the middle of a boot, and one that has begun
// goes before those that have not.
func (g *Gate) end(v *visit) {
	g.out(v)
	if len(g.past) < g.cfg.Line {
		g.past[v.who] = past{v.number, v.used.Add(recent)}
	}
}

func (g *Gate) out(v *visit) {
	delete(g.visits, v.who)
	g.in = slices.DeleteFunc(g.in, func(o *visit) bool { return o == v })
}

// lasted notes how long a visit was.
func (g *Gate) lasted(d time.Duration) {
	if g.ended++; g.ended == 1 {
		g.mean = d
	}
	g.mean = max((7*g.mean+d)/8, time.Millisecond)
}

// pass lets the time pass: visits end, places are lost, slots are counted anew.
func (g *Gate) pass(now time.Time) {
	if now.Sub(g.tidied) < window/8 {
		return
	}
	g.tidied = now
	for _, v := range slices.Clone(g.in) {
		idle := g.cfg.Idle
		if v.away {
			idle /= 8
		}
		if v.transfers == 0 && now.Sub(v.used) >= idle {
			if v.asked {
				g.lasted(now.Sub(v.since))
			}
			g.end(v)
		}
	}
	g.line.forget(now)
	normal, urgent := g.busy()
	// Whoever waits here is given a free slot in a moment.
	wanted := len(g.line.all) > 0 && (normal+urgent >= g.size.slots || g.line.first(true) != nil || g.line.first(false) != nil)
	took, over := g.size.pass(now, normal+urgent, wanted)
	if !over {
		return
	}
	g.rate, g.sent = float64(g.sent)/took.Seconds(), 0
	g.shed(took)
	for who, p := range g.past {
		if now.After(p.until) {
			delete(g.past, who)
		}
	}
	if g.ended == 0 { // nobody has had enough yet, which says something, too
		for _, v := range g.in {
			g.mean = max(g.mean, now.Sub(v.since))
		}
	}
}

// shed takes the slots of those who took next to nothing for all of a window. They are sent on to as long as they take
// something at all; there are at most as many of them as there may be slots.
func (g *Gate) shed(took time.Duration) {
	slow := 0
	for _, v := range g.in {
		if v.slow {
			slow++
		}
	}
	for _, v := range g.in {
		idles := v.whole && v.transfers > 0 && float64(v.sent) < least*took.Seconds()
		switch {
		case idles && !v.slow && len(g.line.all) > 0 && slow < MaxSlots:
			v.slow = true
			slow++
		case !idles && v.slow:
			v.slow = false
			slow--
		}
		v.whole, v.sent = v.transfers > 0, 0
	}
}

// wait is how long it takes until so many have had their turn.
func (g *Gate) wait(place int, urgent bool) time.Duration {
	slots := g.size.slots
	if urgent {
		slots += g.cfg.Reserve
	}
	return time.Duration(float64(place+1) * float64(g.mean) / float64(slots))
}

// back is when one who has to wait so long should come back: well before its turn, which it then waits for here. Coming too
// early costs an answer; coming too late costs everybody, for its slot has nobody to use it. Those whose turn is far
// come from time to time, for much may change; not all at once.
func (g *Gate) back(wait time.Duration) time.Duration {
	if wait > latest {
		return time.Duration((0.5 + 0.5*g.cfg.Rand.Float64()) * float64(latest))
	}
	return max(soonest, time.Duration((0.5+0.25*g.cfg.Rand.Float64())*float64(wait)))
}

// Load is how much there is to do.
type Load struct {
	Slots   int           // that there are now, without the reserve
	Reserve int           // more of them, for urgent machines
	Busy    int           // that are lent
	Slow    int           // machines that take so little that they have none
	Waiting int           // machines in line
	Longest time.Duration // that one of them has waited so far
	Turn    time.Duration // how long a visit takes, lately
	Rate    float64       // bytes a second, lately
	Visits  int64         // that are over
}

// Load tells how much there is to do.
func (g *Gate) Load(now time.Time) Load {
	g.pass(now)
	normal, urgent := g.busy()
	l := Load{
		Slots: g.size.slots, Reserve: g.cfg.Reserve, Busy: normal + urgent, Slow: len(g.in) - normal - urgent,
		Waiting: len(g.line.all), Turn: g.mean, Rate: g.rate, Visits: g.ended,
	}
	for _, t := range g.line.all {
		l.Longest = max(l.Longest, now.Sub(t.since))
	}
	return l
}

// Waits tells whether a machine stands in line.
func (g *Gate) Waits(who string) bool { return g.line.of[who] != nil }

// In tells whether a machine has its turn now.
func (g *Gate) In(who string) bool { return g.visits[who] != nil }
