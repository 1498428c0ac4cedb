package journal

import (
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// The rule of boot sessions. Time is cut into minutes, and a boot counts for the minute in which it began. A session
// begins with the first minute in which a machine began to boot after quiet of them without any, and holds all boots of
// the minutes after it, until there is as much quiet again or it spans longest. So the sessions depend on when boots
// began and on nothing else: not on the order in which events come, nor on who hears them.
const (
	quiet   = 5   // minutes
	longest = 120 // minutes
)

// Bounds of what is kept. What is beyond goes, the oldest sessions first.
const (
	maxSessions = 200
	maxResults  = 250_000 // boots in all sessions: five storms of 40 000 machines, and more; about 60 MB
	maxOlder    = 4       // boots of one machine in one session before its newest
)

// Sessions are numbered by how many quiets have passed since an epoch: two sessions never begin within the same, and
// every controller gives the same number without asking another. The numbers come again after nine years.
const numbers = 1_000_000

var sessionEpoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func minuteOf(r *result) int64 {
	ms := r.base + int64(r.started)
	return (ms - (ms%60_000+60_000)%60_000) / 60_000
}

// numberOf is the number of the session that begins in a minute.
func numberOf(minute int64) uint64 {
	n := minute - sessionEpoch.Unix()/60
	n -= (n%quiet + quiet) % quiet
	return uint64((n/quiet%numbers + numbers) % numbers)
}

// ends tells whether a session that begins with a minute and has another as its last ends before the next.
func ends(first, last, next int64) bool { return next-last > quiet || next-first >= longest }

// groupMinutes cuts minutes, in order, into those of one session each.
func groupMinutes(minutes []int64) [][]int64 {
	var all [][]int64
	from := 0
	for i, m := range minutes {
		if i > from && ends(minutes[from], minutes[i-1], m) {
			all = append(all, minutes[from:i:i])
			from = i
		}
	}
	if from < len(minutes) {
		all = append(all, minutes[from:])
	}
	return all
}

// sessions are the boot sessions of a journal, made of the events that it takes. The journal's lock guards them.
type sessions struct {
	list    []*session // in the order of time
	cells   map[int64]*cell
	of      map[*api.Boot]*result
	results int
	version uint64 // grows with every change
}

// cell is a minute in which machines began to boot.
type cell struct {
	minute  int64
	results []*result
	in      *session
}

// session is the boots of some minutes that follow each other. Of each machine only its newest boot counts.
type session struct {
	minutes  []int64
	machines map[string]*result
	older    int // boots after which there is another one of the same machine
	tally    *tally
	version  uint64
	brief    *brief // the last summary
}

func newSessions() *sessions {
	return &sessions{cells: map[int64]*cell{}, of: map[*api.Boot]*result{}}
}

func newSession() *session {
	s := &session{machines: map[string]*result{}}
	s.tally = newTally(func(yield func(*result) bool) { maps.Values(s.machines)(yield) })
	return s
}

// toldByHeartBeat is the message of an event that a heart-beat stands for.
const toldByHeartBeat = "told by a heart-beat"

// take hears of an event that was put into a boot. Of a boot of which there was a heart-beat only, nobody knows when it
// began: it is in no session until more is heard.
func (ss *sessions) take(key string, b *api.Boot, e *boot.Event) {
	if e.Stage == boot.StageAlive || !counts(e) {
		return
	}
	r := ss.of[b]
	if r == nil {
		if !slices.ContainsFunc(b.Events, begins) {
			return
		}
		if r = ss.found(key, b, e); r == nil {
			ss.begin(key, b)
			return
		}
		ss.of[b] = r
	}
	ss.change(r, e)
}

// begin makes the result of a boot from all of its events.
func (ss *sessions) begin(key string, b *api.Boot) {
	first := slices.IndexFunc(b.Events, begins)
	if first < 0 { // it has no more than a heart-beat
		return
	}
	r := newResult(key, &b.Events[first])
	for i := range b.Events {
		if o := &b.Events[i]; counts(o) {
			r.take(o)
		}
	}
	ss.of[b] = r
	ss.insert(r)
	ss.prune()
}

// anew makes the result of a boot again, of which some events have turned out to be another's.
func (ss *sessions) anew(key string, b *api.Boot) {
	r := ss.of[b]
	if r == nil || r.cell == nil { // its session is forgotten
		return
	}
	ss.withdraw(r)
	r.cell = nil
	delete(ss.of, b)
	ss.begin(key, b)
}

// counts tells whether an event of a boot is about how it went: what a system does is not.
func counts(e *boot.Event) bool { return e.Stage != boot.StageRefresh && !ofSystem(e) }

func begins(e boot.Event) bool { return counts(&e) && e.Message != toldByHeartBeat }

// found is the result of a boot that the journal itself has forgotten.
func (ss *sessions) found(key string, b *api.Boot, e *boot.Event) *result {
	if b.Boot == "" {
		return nil
	}
	id := bootHash(b.Boot)
	for i := len(ss.list) - 1; i >= 0; i-- {
		s := ss.list[i]
		if (s.minutes[0]-longest)*60 > e.Time.Unix() || (s.minutes[len(s.minutes)-1]+longest)*60 < e.Time.Unix() {
			continue
		}
		for _, name := range []string{string(b.Node), key} {
			for r := s.machines[name]; r != nil; r = r.older {
				if r.boot == id {
					return r
				}
			}
		}
	}
	return nil
}

// change adds an event to a result.
func (ss *sessions) change(r *result, e *boot.Event) {
	if r.cell == nil { // its session is forgotten
		return
	}
	ss.version++
	s := r.cell.in
	s.version = ss.version
	newest := s.machines[r.machine()] == r
	if r.at(e.Time) < r.started || e.Node != "" && e.Node != r.node {
		ss.withdraw(r)
		r.take(e)
		ss.insert(r)
		return
	}
	if newest {
		s.tally.remove(r)
	}
	r.take(e)
	if newest {
		s.tally.add(r)
	}
}

// machine names the machine of a boot within a session: its node, if one claims it.
func (r *result) machine() string {
	if r.node != "" {
		return string(r.node)
	}
	return r.key
}

// insert puts a result into the session of the minute in which it began.
func (ss *sessions) insert(r *result) {
	ss.version++
	ss.results++
	minute := minuteOf(r)
	c := ss.cells[minute]
	if c == nil {
		c = &cell{minute: minute}
		ss.cells[minute] = c
	}
	r.cell, r.place = c, len(c.results)
	c.results = append(c.results, r)
	if c.in == nil {
		ss.regroup(minute)
		return
	}
	c.in.version = ss.version
	c.in.put(r)
	for n, o := 0, c.in.machines[r.machine()]; o != nil; n, o = n+1, o.older {
		if n > maxOlder {
			ss.withdraw(o)
			o.cell = nil
			break
		}
	}
}

// withdraw takes a result out of its session.
func (ss *sessions) withdraw(r *result) {
	ss.version++
	ss.results--
	c := r.cell
	c.in.drop(r)
	c.in.version = ss.version
	last := c.results[len(c.results)-1]
	c.results[r.place], last.place = last, r.place
	c.results[len(c.results)-1] = nil
	if c.results = c.results[:len(c.results)-1]; len(c.results) == 0 {
		delete(ss.cells, c.minute)
		ss.regroup(c.minute)
	}
}

// regroup makes the sessions anew after a minute has got its first boot or lost its last one. Those before it stay what they
// are, and so do those after it from the first on that begins where it did.
func (ss *sessions) regroup(minute int64) {
	from := max(0, sort.Search(len(ss.list), func(i int) bool { return ss.list[i].minutes[0] > minute })-1)
	to, rest := from, []int64(nil)
	if len(ss.list) > 0 {
		to, rest = from+1, slices.Clone(ss.list[from].minutes)
	}
	at, there := slices.BinarySearch(rest, minute)
	if _, is := ss.cells[minute]; !is {
		rest = slices.Delete(rest, at, at+1)
	} else if !there {
		rest = slices.Insert(rest, at, minute)
	}
	var groups [][]int64
	for len(rest) > 0 {
		all := groupMinutes(rest)
		last := len(all) - 1
		groups, rest = append(groups, all[:last]...), all[last]
		if to == len(ss.list) || ends(rest[0], rest[len(rest)-1], ss.list[to].minutes[0]) {
			groups = append(groups, rest)
			break
		}
		rest = slices.Concat(rest, ss.list[to].minutes)
		to++
	}
	ss.list = slices.Replace(ss.list, from, to, ss.remade(groups)...)
}

// remade are the sessions of some groups of minutes. One that only grows stays what it is; it is made again where it is
// cut or joined to another. Whose it is must be known of all groups before a minute goes from one to another.
func (ss *sessions) remade(groups [][]int64) []*session {
	list := make([]*session, len(groups))
	for i, minutes := range groups {
		list[i] = ss.grown(minutes)
	}
	for i, minutes := range groups {
		s := list[i]
		for _, m := range minutes {
			c := ss.cells[m]
			if c.in == s {
				continue
			}
			for _, r := range c.results { // what they were in a session that is no more
				r.open, r.older = 0, nil
			}
			for _, r := range c.results {
				s.put(r)
			}
			c.in = s
		}
		s.minutes, s.version = minutes, ss.version
	}
	return list
}

// grown is the session that becomes the one of these minutes: the largest all of whose minutes are among them, or a new one.
func (ss *sessions) grown(minutes []int64) *session {
	var best *session
	for _, m := range minutes {
		s := ss.cells[m].in
		if s == nil || s == best || best != nil && len(best.machines) >= len(s.machines) {
			continue
		}
		gone := func(m int64) bool {
			c := ss.cells[m]
			return c != nil && c.in == s && (m < minutes[0] || m > minutes[len(minutes)-1])
		}
		if !slices.ContainsFunc(s.minutes, gone) {
			best = s
		}
	}
	if best == nil {
		return newSession()
	}
	return best
}

// put counts a result.
func (s *session) put(r *result) {
	name := r.machine()
	first := s.machines[name]
	switch {
	case first == nil:
		s.machines[name] = r
		s.tally.add(r)
	case r.newer(first):
		s.tally.leave(first)
		r.older = first
		s.machines[name] = r
		s.tally.add(r)
		s.older++
	default:
		at := first
		for at.older != nil && at.older.newer(r) {
			at = at.older
		}
		r.older, at.older = at.older, r
		s.older++
	}
}

// drop does not count a result any more.
func (s *session) drop(r *result) {
	name := r.machine()
	first := s.machines[name]
	switch {
	case first == r && r.older == nil:
		s.tally.leave(r)
		delete(s.machines, name)
		return
	case first == r:
		s.tally.leave(r)
		s.machines[name] = r.older
		s.tally.add(r.older)
	default:
		at := first
		for at.older != r {
			at = at.older
		}
		at.older = r.older
	}
	r.older = nil
	s.older--
}

// forget lets go of a boot that the journal forgets. What its session keeps of it stays.
func (ss *sessions) forget(b *api.Boot) { delete(ss.of, b) }

// prune drops the oldest sessions beyond the bounds, but never the newest.
func (ss *sessions) prune() {
	for len(ss.list) > 1 && (len(ss.list) > maxSessions || ss.results > maxResults) {
		for _, m := range ss.list[0].minutes {
			for _, r := range ss.cells[m].results {
				r.cell = nil
				ss.results--
			}
			delete(ss.cells, m)
		}
		ss.list = slices.Delete(ss.list, 0, 1)
	}
}
