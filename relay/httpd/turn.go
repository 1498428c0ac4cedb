package httpd

import (
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/admission"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// What is large is sent to some machines at a time: see package admission. Firmware cannot be told to come back, so it
// waits here for its turn; an agent can, and waits here only if its turn is near. Relays need no turn: a node that waits
// here for a chunk that waits there must not keep each other out.
const (
	firmwareTime = 20 * time.Second // iPXE gives a silent server up after half a minute
	agentTime    = 8 * time.Second  // an agent takes a silent relay for dead after 20 s
	maxHeld      = 2048             // requests that wait here
	lookTime     = time.Second      // after which one that waits looks again, in case nobody calls
)

// turns is the gate of a server, and those who wait at it.
type turns struct {
	mu      sync.Mutex
	gate    *admission.Gate
	calls   map[string]*call
	agents  map[string]bool // of those with a connection
	held    int
	refused int64
}

// call is for the requests of one machine that wait here.
type call struct {
	turn    chan struct{} // closes when it has come
	waiting int
}

func newTurns() *turns {
	return &turns{
		gate:  admission.New(admission.Config{Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}),
		calls: map[string]*call{}, agents: map[string]bool{},
	}
}

// next calls those whose turn has come. The caller holds the lock.
func (t *turns) next(now time.Time) {
	for _, who := range t.gate.Next(now) {
		t.call(who)
	}
}

// call wakes what waits here for a machine whose turn has come. The caller holds the lock.
func (t *turns) call(who string) {
	if c := t.calls[who]; c != nil {
		close(c.turn)
		delete(t.calls, who)
	}
}

// turn lets a machine fetch something large, at once or within the time given, and returns what must be called in the
// end. Otherwise it is told when to come back.
func (s *Server) turn(w http.ResponseWriter, r *http.Request, patience time.Duration) (release func(), err error) {
	addr := remote(r)
	who, t := addr.String(), s.turns
	slots, reserve := s.slots()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gate.Set(slots, reserve)
	urgent := false
	if !t.gate.In(who) && !t.gate.Waits(who) { // what it is was decided when it came
		t.mu.Unlock()
		urgent = s.urgent(addr)
		t.mu.Lock()
	}
	if patience == agentTime {
		t.agents[who] = true
	}
	a := t.gate.Ask(time.Now(), who, urgent)
	if a.Admitted {
		t.call(who) // a slot became free in between: what waits here already is to have it, too
	}
	if !a.Admitted && t.held < maxHeld && t.gate.Waits(who) && (a.Wait <= patience || patience == firmwareTime) {
		a = t.hold(r, who, patience)
	}
	if !a.Admitted {
		t.refused++
		return nil, s.comeBack(w, a)
	}
	replyOf(w).sentOn = func(n int64) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.gate.Sent(time.Now(), who, n)
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		now := time.Now()
		t.gate.End(now, who)
		t.next(now)
	}, nil
}

// hold waits for the turn of a machine. The caller holds the lock, and has it again afterwards.
func (t *turns) hold(r *http.Request, who string, patience time.Duration) admission.Answer {
	c := t.calls[who]
	if c == nil {
		c = &call{turn: make(chan struct{})}
		t.calls[who] = c
	}
	c.waiting++
	t.held++
	t.gate.Stay(who)
	until := time.NewTimer(patience)
	look := time.NewTicker(lookTime)
	defer until.Stop()
	defer look.Stop()
	called, over := false, false
	for !called && !over {
		t.mu.Unlock()
		select {
		case <-c.turn:
			called = true
		case <-look.C:
		case <-until.C:
			over = true
		case <-r.Context().Done():
			over = true
		}
		t.mu.Lock()
		t.next(time.Now())
	}
	t.held--
	if c.waiting--; c.waiting == 0 && t.calls[who] == c {
		delete(t.calls, who)
	}
	if called {
		if a := t.gate.Ask(time.Now(), who, false); a.Admitted {
			return a
		}
	}
	a := t.gate.Leave(time.Now(), who)
	t.next(time.Now()) // if its turn came when it was gone
	return a
}

// comeBack tells a machine when.
func (s *Server) comeBack(w http.ResponseWriter, a admission.Answer) error {
	seconds := int((a.Back + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	w.Header().Set(api.HeaderPlace, strconv.Itoa(a.Place))
	return fault.New(fault.Unavailable, "relay %s is busy: %d are before this machine, for about %s", s.cfg.Name, a.Place, max(a.Wait, time.Second).Round(time.Second))
}

// slots is what the catalog says of this relay's.
func (s *Server) slots() (slots, reserve int) {
	r, ok := s.cfg.Feed.Catalog().Relay(s.cfg.Name)
	if !ok {
		return 0, catalog.UsualReserve
	}
	return int(r.Slots), r.Reserved()
}

// urgent tells whether the machine at an address is one that the reserve is for.
func (s *Server) urgent(a netip.Addr) bool {
	c := s.cfg.Feed.Catalog()
	n, ok := c.NodeByAddress(a)
	if !ok {
		return false
	}
	r, err := c.Resolve(n.Name)
	return err == nil && r.Settings.Urgent()
}

// over notes that the machine at an address needs nothing more for now; done: that its boot has all it needs.
func (t *turns) over(a netip.Addr, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if done {
		t.gate.Done(now, a.String())
	} else {
		t.gate.Pause(now, a.String())
	}
	t.next(now)
}

// away notes that the machine at an address has no connection any more. Agents keep theirs until they have all; firmware
// has one for each file.
func (t *turns) away(a netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, who := time.Now(), a.String()
	if !t.agents[who] {
		t.gate.Away(now, who)
		return
	}
	delete(t.agents, who)
	t.gate.Pause(now, who)
	t.next(now)
}

// sent counts bytes that were sent without a turn.
func (t *turns) sent(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gate.Sent(time.Now(), "", n)
}

// Load tells how much there is to send, for the relay's status.
func (s *Server) Load() api.RelayLoad {
	slots, reserve := s.slots()
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	s.turns.gate.Set(slots, reserve)
	l := s.turns.gate.Load(time.Now())
	return api.RelayLoad{
		Slots: l.Slots, Auto: slots == 0, Reserve: l.Reserve, Busy: l.Busy, Slow: l.Slow, Queued: l.Waiting,
		Refused: s.turns.refused, Rate: int64(l.Rate), Longest: l.Longest, Turn: l.Turn,
	}
}
