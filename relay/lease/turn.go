package lease

import (
	"cmp"
	"container/heap"
	"time"
)

// slot is an address of our share, and from when on it may be given to anybody; zero: nobody had it.
type slot struct {
	at    uint32
	from  time.Time
	in    *turns
	index int
}

// turns is a heap of addresses: the one that may be given first is on top. So to find one costs the same whether
// nobody or everybody had an address.
type turns []*slot

func (t turns) Len() int { return len(t) }
func (t turns) Less(i, j int) bool {
	return cmp.Or(t[i].from.Compare(t[j].from), cmp.Compare(t[i].at, t[j].at)) < 0
}

func (t turns) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push is heap.Interface's.
func (t *turns) Push(x any) {
	s := x.(*slot)
	s.index = len(*t)
	*t = append(*t, s)
}

// Pop is heap.Interface's. Nothing is ever taken away: the share is divided anew.
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// lineUp puts the addresses of the share in line.
func (p *pool) lineUp() {
	p.slots, p.homeTurns, p.otherTurns = make(map[uint32]*slot, len(p.share)), nil, nil
	for i, at := range p.share {
		in := &p.homeTurns
		if i >= p.homes {
			in = &p.otherTurns
		}
		s := &slot{at: at, from: p.from(at), in: in}
		in.Push(s)
		p.slots[at] = s
	}
	heap.Init(&p.homeTurns)
	heap.Init(&p.otherTurns)
}

// from is from when on an address may be given to anybody.
func (p *pool) from(at uint32) time.Time {
	var from time.Time
	if b := p.byAddr[at]; b != nil {
		from = b.until
	}
	return later(from, p.quarantined[at])
}

// moved puts an address in its place after something of it changed. It is not given before a time, if that is not zero:
// so it comes behind all that nobody had.
func (p *pool) moved(at uint32, before time.Time) {
	if s := p.slots[at]; s != nil {
		s.from = later(p.from(at), before)
		heap.Fix(s.in, s.index)
	}
}

// find searches our share for an address: first those that are ours whoever lives, first those that nobody had. A machine
// has a favourite, so that it gets the same one where nobody remembers it.
func (p *pool) find(now time.Time, favourite uint64) (uint32, bool) {
	soonest := now.Add(offerHold)
	for _, part := range []struct {
		line  *turns
		addrs []uint32
	}{{&p.homeTurns, p.share[:p.homes]}, {&p.otherTurns, p.share[p.homes:]}} {
		if len(part.addrs) == 0 {
			continue
		}
		if at := part.addrs[favourite%uint64(len(part.addrs))]; p.slots[at].from.IsZero() && p.usable(now, at) {
			return at, true
		}
		for first := (*part.line)[0]; !now.Before(first.from); first = (*part.line)[0] {
			if p.usable(now, first.at) {
				return first.at, true
			}
			first.from = now.Add(offerHold) // it is somebody's by declaration, until that changes
			heap.Fix(part.line, 0)
		}
		soonest = earlier(soonest, (*part.line)[0].from)
	}
	p.fullUntil = soonest
	return 0, false
}
