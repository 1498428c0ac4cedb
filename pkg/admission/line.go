package admission

import (
	"cmp"
	"slices"
	"time"
)

// ticket is a place in line.
type ticket struct {
	who    string
	urgent bool
	number uint64
	since  time.Time // when it began to wait
	here   int       // requests that wait with open connections
	until  time.Time // when the place is lost, if nobody is here
}

// line is those who wait: the urgent ones first, then in the order of their numbers.
type line struct {
	all []*ticket
	of  map[string]*ticket
}

func newLine() line { return line{of: map[string]*ticket{}} }

func order(a, b *ticket) int {
	if a.urgent != b.urgent {
		if a.urgent {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.who, b.who))
}

func (l *line) place(t *ticket) int {
	i, _ := slices.BinarySearchFunc(l.all, t, order)
	return i
}

func (l *line) add(t *ticket) {
	l.all = slices.Insert(l.all, l.place(t), t)
	l.of[t.who] = t
}

func (l *line) remove(t *ticket) {
	i := l.place(t)
	l.all = slices.Delete(l.all, i, i+1)
	delete(l.of, t.who)
}

// waitsBefore tells whether somebody waits here whose turn comes before that of t.
func (l *line) waitsBefore(t *ticket) bool {
	return slices.ContainsFunc(l.all[:l.place(t)], func(o *ticket) bool { return o.here > 0 })
}

// first is the first one who waits here; nil: nobody does.
func (l *line) first(urgent bool) *ticket {
	for _, t := range l.all {
		if t.here > 0 && t.urgent == urgent {
			return t
		}
	}
	return nil
}

// forget takes the places of those who did not come back.
func (l *line) forget(now time.Time) {
	l.all = slices.DeleteFunc(l.all, func(t *ticket) bool {
		lost := t.here == 0 && now.After(t.until)
		if lost {
			delete(l.of, t.who)
		}
		return lost
	})
}
