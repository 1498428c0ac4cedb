package capacity

import (
	"cmp"
	"container/heap"
	"slices"
	"strconv"
	"time"
)

// class is the transfers of one kind that go on at a relay. All of them get the same of its link at any time, so it is
// enough to know what each got since the beginning.
type class struct {
	most, all float64 // bytes a second: of one transfer, and of all together
	served    float64 // bytes that each transfer that was there all along has had
	open      transfers
}

// transfer ends when its class has served so much.
type transfer struct {
	end  float64
	node int
}

type transfers []transfer

func (t transfers) Len() int           { return len(t) }
func (t transfers) Less(i, j int) bool { return t[i].end < t[j].end }
func (t transfers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *transfers) Push(x any)        { *t = append(*t, x.(transfer)) }
func (t *transfers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

func (g *group) transfer(step, node int, bytes int64) {
	c := g.classes[step]
	heap.Push(&c.open, transfer{c.served + float64(bytes), node})
}

// share divides the relay's link among the transfers, as TCP does: equally, but what one cannot take the others get. It
// returns what each transfer of a class gets, by step.
func (g *group) share() []float64 {
	rates := make([]float64, len(g.classes))
	var order []int
	for i, c := range g.classes {
		if c != nil && len(c.open) > 0 {
			rates[i] = min(c.most, c.all/float64(len(c.open)))
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(rates[a], rates[b]) })
	left, count := g.site.RelayLink, 0
	for _, i := range order {
		count += len(g.classes[i].open)
	}
	for _, i := range order {
		n := len(g.classes[i].open)
		rates[i] = min(rates[i], left/float64(count))
		left -= rates[i] * float64(n)
		count -= n
	}
	return rates
}

// elapse lets time go on, during which every transfer gets its rate. The gate is told as a relay tells it, while bytes
// go out: it finds out from that how many slots there should be.
func (g *group) elapse(to time.Duration, rates []float64) {
	const step = 250 * time.Millisecond
	for g.now < to {
		next := min(to, g.now+step)
		if !g.sending() {
			next = to
		}
		d := (next - g.now).Seconds()
		g.now = next
		for i, c := range g.classes {
			if c == nil || len(c.open) == 0 {
				continue
			}
			c.served += rates[i] * d
			if i == stepLoader {
				continue
			}
			for _, t := range c.open {
				g.gate.Sent(g.time(), strconv.Itoa(t.node), int64(rates[i]*d))
			}
		}
	}
}

// sending tells whether somebody whom the gate let in is sent something.
func (g *group) sending() bool {
	return len(g.classes[stepKernel].open)+len(g.classes[stepImage].open) > 0
}
