package admission

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// storm is a relay and machines that all want the same at once, in steps of virtual time: those whose turn it is share
// the link, and the more there are, the less of it is of use.
type storm struct {
	gate     *Gate
	machines int
	bytes    float64 // that each wants
	link     float64 // bytes a second
	each     float64 // that one machine can take
	loss     float64 // part of the link that each machine beyond the knee costs
	hold     time.Duration

	now     time.Time
	order   []time.Time // of arrival, as they were admitted
	speeds  []float64   // bytes a second of each, during its turn
	answers int         // that said to come back
	took    time.Duration
}

type comer struct {
	who string
	at  time.Time
}

type comers []comer

func (c comers) Len() int           { return len(c) }
func (c comers) Less(i, j int) bool { return c[i].at.Before(c[j].at) }
func (c comers) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *comers) Push(x any)        { *c = append(*c, x.(comer)) }
func (c *comers) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

func (s *storm) run(t *testing.T) {
	t.Helper()
	const step = 10 * time.Millisecond
	type taker struct {
		who   string
		left  float64
		since time.Time
	}
	rng := rand.New(rand.NewPCG(7, 7))
	var outside comers
	arrived := map[string]time.Time{}
	for i := range s.machines {
		c := comer{fmt.Sprintf("n%05d", i), began.Add(time.Duration(rng.Int64N(int64(5 * time.Second))))}
		arrived[c.who] = c.at
		heap.Push(&outside, c)
	}
	holding := map[string]time.Time{}
	var takers []*taker
	s.now = began
	ask := func(who string) {
		a := s.gate.Ask(s.now, who, false)
		switch {
		case a.Admitted:
			s.order = append(s.order, arrived[who])
			takers = append(takers, &taker{who, s.bytes, s.now})
		case a.Wait <= s.hold && s.gate.Waits(who):
			s.gate.Stay(who)
			holding[who] = s.now.Add(s.hold)
		default:
			s.answers++
			heap.Push(&outside, comer{who, s.now.Add(a.Back.Round(time.Second) + time.Duration(rng.Int64N(int64(time.Second))))})
		}
	}
	for served := 0; served < s.machines; s.now = s.now.Add(step) {
		if s.now.Sub(began) > 24*time.Hour {
			t.Fatalf("after a day %d of %d are served", served, s.machines)
		}
		for len(outside) > 0 && !outside[0].at.After(s.now) {
			ask(heap.Pop(&outside).(comer).who)
		}
		for _, who := range s.gate.Next(s.now) {
			delete(holding, who)
			ask(who)
			s.gate.Leave(s.now, who)
		}
		for who, until := range holding {
			if !s.now.Before(until) {
				delete(holding, who)
				a := s.gate.Leave(s.now, who)
				s.answers++
				heap.Push(&outside, comer{who, s.now.Add(a.Back)})
			}
		}
		if len(takers) == 0 {
			continue
		}
		n, knee := float64(len(takers)), s.link/s.each
		useful := s.link * math.Max(0.3, 1-s.loss*math.Max(0, n-knee))
		share := math.Min(s.each, useful/n) * step.Seconds()
		kept := takers[:0]
		for _, k := range takers {
			k.left -= share
			s.gate.Sent(s.now, k.who, int64(share))
			if k.left > 0 {
				kept = append(kept, k)
				continue
			}
			served++
			s.speeds = append(s.speeds, s.bytes/math.Max(s.now.Sub(k.since).Seconds(), 1e-3))
			s.gate.End(s.now, k.who)
			s.gate.Done(s.now, k.who)
		}
		takers = kept
	}
	s.took = s.now.Sub(began)
}

// overtaken is how many of those who came later were admitted before one, at most.
func (s *storm) overtaken() int {
	most := 0
	for i, at := range s.order {
		n := 0
		for _, other := range s.order[:i] {
			if other.After(at) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// jain is the fairness index of Jain, Chiu and Hawe (1984): 1 if all have the same.
func jain(all []float64) float64 {
	var sum, squares float64
	for _, x := range all {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(all)) * squares)
}

func TestTenTimesTooManyAreServedAtTheUncontendedRate(t *testing.T) {
	for _, loss := range []float64{0, 0.01} {
		s := storm{gate: gate(0, 2), machines: 400, bytes: 300 << 20, link: 1.25e9, each: 110e6, loss: loss, hold: 10 * time.Second}
		s.run(t)
		goodput := float64(s.machines) * s.bytes / s.took.Seconds()
		l := s.gate.Load(s.now)
		t.Logf("loss %g: %v, %.0f MB/s of %.0f, %d slots, fairness %.3f, %d answers to come back, %.1f each, at most %d overtook one", loss, s.took.Round(time.Second),
			goodput/1e6, s.link/1e6, l.Slots, jain(s.speeds), s.answers, float64(s.answers)/float64(s.machines), s.overtaken())
		if goodput < 0.9*s.link {
			t.Errorf("%.0f MB/s of %.0f", goodput/1e6, s.link/1e6)
		}
		if f := jain(s.speeds); f < 0.9 {
			t.Errorf("the fairness is %.3f", f)
		}
		if n := s.overtaken(); n > s.machines/4 {
			t.Errorf("a machine saw %d of %d overtake it", n, s.machines)
		}
		if s.answers > 5*s.machines {
			t.Errorf("%d answers", s.answers)
		}
	}
}

// The slots follow what the link and the machines can do.
func TestSlotsFindTheirNumber(t *testing.T) {
	for _, c := range []struct {
		what        string
		link, each  float64
		loss        float64
		least, most int
	}{
		{"machines at 1 GbE, a relay at 10 GbE", 1.25e9, 117e6, 0, 10, 24},
		{"machines as fast as the relay", 1.25e9, 1.25e9, 0, 4, 12},
		{"machines that unpack at 20 MB/s", 1.25e9, 20e6, 0, 50, 130},
		{"the same, and each one too many costs", 1.25e9, 20e6, 0.01, 45, 100},
	} {
		s := storm{gate: gate(0, 0), machines: 1500, bytes: 300 << 20, link: c.link, each: c.each, loss: c.loss, hold: 10 * time.Second}
		s.run(t)
		l := s.gate.Load(s.now)
		goodput := float64(s.machines) * s.bytes / s.took.Seconds()
		t.Logf("%s: %d slots, %.0f MB/s", c.what, l.Slots, goodput/1e6)
		if l.Slots < c.least || l.Slots > c.most || goodput < 0.85*c.link {
			t.Errorf("%s: %d slots, not %d to %d; %.0f MB/s", c.what, l.Slots, c.least, c.most, goodput/1e6)
		}
	}
}
