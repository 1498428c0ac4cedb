package journal

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Rewrite writes the file anew, as happens when it has grown large.
func (j *Journal) Rewrite() error { return j.rewrite() }

// CheckSessions compares the sessions with what they would be, were they made of all their results at once, and returns how
// many machines are in each, the oldest first.
func (j *Journal) CheckSessions(now time.Time) ([]int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	anew, count := newSessions(), 0
	for _, minute := range slices.Sorted(maps.Keys(j.sessions.cells)) {
		c := j.sessions.cells[minute]
		for i, r := range c.results {
			if r.cell != c || r.place != i || minuteOf(r) != minute {
				return nil, fmt.Errorf("%s is not where it should be in minute %d", r.machine(), minute)
			}
			o := *r
			o.cell, o.older, o.open = nil, nil, 0
			anew.insert(&o)
			count++
		}
	}
	if j.sessions.results != count || len(j.sessions.list) != len(anew.list) {
		return nil, fmt.Errorf("%d results in %d sessions, want %d in %d", j.sessions.results, len(j.sessions.list), count, len(anew.list))
	}
	var machines []int
	for i, s := range j.sessions.list {
		machines = append(machines, len(s.machines))
		want := anew.list[i]
		if !slices.Equal(s.minutes, want.minutes) {
			return nil, fmt.Errorf("session %d has the minutes %v, want %v", i, s.minutes, want.minutes)
		}
		count := 0
		for _, m := range s.minutes {
			if j.sessions.cells[m].in != s {
				return nil, fmt.Errorf("minute %d is in another session than session %d", m, i)
			}
			count += len(j.sessions.cells[m].results)
		}
		chained := 0
		for name, r := range s.machines {
			for ; r != nil; r = r.older {
				if chained++; chained > count || r.machine() != name || r.cell == nil || r.cell.in != s || r.older != nil && !r.newer(r.older) {
					return nil, fmt.Errorf("session %d has boots of %s that are not its own, or in no order", i, name)
				}
			}
		}
		if chained != count || s.older != count-len(s.machines) {
			return nil, fmt.Errorf("session %d counts %d boots of %d", i, chained, count)
		}
		if got, want := fmt.Sprintf("%+v", s.view(now, true)), fmt.Sprintf("%+v", want.view(now, true)); got != want {
			return nil, fmt.Errorf("session %d is\n%s\nwant\n%s", i, got, want)
		}
	}
	return machines, nil
}
