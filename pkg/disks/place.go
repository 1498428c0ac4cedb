package disks

import (
	"cmp"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// gap is free space: sectors from first up to end, which is the next one's, both at whole MiB.
type gap struct{ first, end uint64 }

// gaps lists the free space of the disk.
func (p *planner) gaps() []gap {
	mib := uint64(align / p.t.Sector)
	first, last := p.t.usable()
	sorted := slices.SortedFunc(slices.Values(p.t.Entries), func(a, b Entry) int { return cmp.Compare(a.First, b.First) })
	var all []gap
	add := func(from, to uint64) {
		g := gap{(from + mib - 1) / mib * mib, to / mib * mib}
		if g.first < g.end {
			all = append(all, g)
		}
	}
	from := first
	for _, e := range sorted {
		add(from, e.First)
		from = e.Last + 1
	}
	add(from, last+1)
	return all
}

// gapBehind is how far a partition could reach: from its end to the next one, at a whole MiB.
func (p *planner) gapBehind(e Entry) (from, end uint64) {
	mib := uint64(align / p.t.Sector)
	_, last := p.t.usable()
	end = last + 1
	for _, x := range p.t.Entries {
		if x.First > e.Last {
			end = min(end, x.First)
		}
	}
	return e.Last + 1, max(e.Last+1, end/mib*mib)
}

// create makes the partitions that are not there: first those that are to be at a place, then those of a size, then those
// that take what is left.
func (p *planner) create() error {
	for _, now := range []func(w *wanted) bool{
		func(w *wanted) bool { return w.start > 0 },
		func(w *wanted) bool { return w.start == 0 && w.size > 0 },
		func(w *wanted) bool { return w.start == 0 && w.size == 0 },
	} {
		for _, w := range p.wanted {
			if w.gone || w.found != 0 || !now(w) {
				continue
			}
			if err := p.make(w); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *planner) make(w *wanted) error {
	first, end, err := p.place(w)
	if err != nil {
		return err
	}
	e := Entry{First: first, Last: end - 1}
	if e.Number, err = p.number(w); err != nil {
		return err
	}
	if e.Type, err = ParseGUID(linux); err != nil {
		return err
	}
	if e.GUID, err = newGUID(p.random); err != nil {
		return err
	}
	p.describe(&e, w)
	for _, x := range p.t.Entries {
		if x.GUID == e.GUID {
			return fault.New(fault.Conflict, "partitions %s and %s would have the same GUID %s", name(x.Label), w.label, e.GUID)
		}
	}
	w.found = e.Number
	p.t.Entries = append(p.t.Entries, e)
	p.plan.Clear = append(p.plan.Clear, Ends(int64(first)*int64(p.t.Sector), p.t.size(e))...)
	p.say("partition %d %s of %s is made", e.Number, w.label, p.mib(end-first))
	return nil
}

// place finds where a partition goes.
func (p *planner) place(w *wanted) (first, end uint64, err error) {
	var best gap
	for _, g := range p.gaps() {
		switch {
		case w.start > 0: // exactly there
			if w.start >= g.first && w.start < g.end {
				best = gap{w.start, g.end}
			}
		case w.size > 0: // the first that holds it
			if best == (gap{}) && g.end-g.first >= w.size {
				best = g
			}
		case g.end-g.first > best.end-best.first: // the largest
			best = g
		}
	}
	room := best.end - best.first
	switch {
	case w.start > 0 && room == 0:
		return 0, 0, fault.New(fault.Full, "partition %s cannot start at %s: that is not free", w.label, p.mib(w.start))
	case room == 0 || room < w.size:
		return 0, 0, fault.New(fault.Full, "there is no room for partition %s: %s", w.label, p.room()).
			WithFix("declare a smaller one, or permit to remove what is not declared: wipe_table of this disk")
	case w.size > 0:
		return best.first, best.first + w.size, nil
	}
	return best.first, best.end, nil
}

// room says how much is free in one piece.
func (p *planner) room() string {
	var most uint64
	for _, g := range p.gaps() {
		most = max(most, g.end-g.first)
	}
	return p.mib(most) + " are free in one piece"
}

// number is the declared number, or the first that nobody has or is to have.
func (p *planner) number(w *wanted) (int, error) {
	used := map[int]bool{}
	for _, e := range p.t.Entries {
		used[e.Number] = true
	}
	if w.number > 0 {
		if used[w.number] {
			return 0, fault.New(fault.Conflict, "partition %s cannot have the number %d: another one has it", w.label, w.number)
		}
		return w.number, nil
	}
	for _, x := range p.wanted {
		used[x.number] = true
	}
	for n := 1; n <= p.t.slots; n++ {
		if !used[n] {
			return n, nil
		}
	}
	return 0, fault.New(fault.Full, "there is no number left for partition %s", w.label)
}

// fill lets those grow that are declared to take what is left.
func (p *planner) fill() error {
	for _, w := range p.wanted {
		if w.gone || w.size > 0 || !w.resize {
			continue
		}
		e := p.t.Entry(w.found)
		if _, end := p.gapBehind(*e); end > e.Last+1 {
			p.say("partition %d %s grows from %s to %s", e.Number, w.label, p.mib(e.Last-e.First+1), p.mib(end-e.First))
			e.Last = end - 1
		}
	}
	return nil
}
