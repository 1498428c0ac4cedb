package admission

import "time"

// sizer finds out how many slots there should be: the fewest at which as much is sent as at any number. It tries a
// quarter more, or a fifth fewer, while machines wait, and keeps what was no mistake.
type sizer struct {
	slots int
	fixed bool // declared

	began  time.Time // of this window
	bytes  int64     // in it
	idle   bool      // there was a moment in it at which more slots would not have been used
	rate   float64   // before the trial that goes on
	before int       // slots then
	settle bool      // this window is not measured: what has changed takes a while to be felt
	rest   int       // windows until the next trial
	rests  int       // how many there were before the last
	down   bool      // the next trial is with fewer
}

// Bounds of what is taken for a difference. More slots are worth it if they bring a quarter of what they would at best;
// fewer if they cost nothing to speak of.
const (
	worth    = 0.25
	cost     = 0.98
	minRests = 4
	maxRests = 16
)

// set declares the number of slots; 0: it is found out.
func (s *sizer) set(slots int) {
	*s = sizer{slots: slots, fixed: slots > 0}
	if slots == 0 {
		s.slots = start
	}
}

func (s *sizer) sent(n int64) { s.bytes += n }

// pass lets the time pass, in which so many slots were lent, and more were wanted or not. At the end of a window it decides, and tells how long
// the window was.
func (s *sizer) pass(now time.Time, busy int, wanted bool) (took time.Duration, over bool) {
	if s.began.IsZero() {
		s.began = now
	}
	if !wanted {
		s.idle = true
	}
	if took = now.Sub(s.began); took < window {
		return took, false
	}
	rate, idle := float64(s.bytes)/took.Seconds(), s.idle
	s.began, s.bytes, s.idle = now, 0, false
	if !s.fixed {
		s.decide(rate, busy, idle)
	}
	return took, true
}

func (s *sizer) decide(rate float64, busy int, idle bool) {
	switch {
	case idle && s.before == 0:
		return // there are enough of them
	case s.settle:
		s.settle = busy > s.slots // nobody is thrown out
	case s.before > 0:
		s.judge(rate, idle)
	case s.rest > 0:
		s.rest--
	default:
		s.try(rate)
	}
}

// try begins a trial.
func (s *sizer) try(rate float64) {
	to := min(s.slots+max(1, s.slots/4), MaxSlots)
	if s.down {
		to = max(s.slots-max(1, s.slots/5), MinSlots)
	}
	if to == s.slots {
		s.down = !s.down
		return
	}
	s.before, s.rate, s.slots, s.settle = s.slots, rate, to, true
}

// judge ends a trial.
func (s *sizer) judge(rate float64, idle bool) {
	more := float64(s.slots-s.before) / float64(s.before)
	good := rate >= s.rate*cost
	if more > 0 {
		good = rate > 0 && rate >= s.rate*(1+worth*more)
	}
	before := s.before
	s.before = 0
	if good && (!idle || more > 0) {
		s.rests = 0
		return // and on, the same way
	}
	s.slots, s.settle = before, true
	s.down = !s.down
	s.rests = min(max(minRests, 2*s.rests), maxRests)
	s.rest = s.rests
}
