package tftpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// worker answers from one socket. All that belongs to its transfers is touched by its goroutine alone, but for the queue.
type worker struct {
	s      *Server
	port   port
	table  *table
	out    []burst
	next   time.Time     // no transfer is due before; zero: there is none
	armed  time.Time     // what the port's receive returns at
	errors *rate.Limiter // of errors told to known machines
	strays *rate.Limiter // and to others
	roomed time.Time     // when room was made last

	mu    sync.Mutex
	queue []packet // requests that came by another socket
	woken bool     // receive was told to return for them
	ended bool     // or for good
}

// Bounds of a worker.
const (
	maxQueue   = 8192 // requests that wait: more are lost, and come again
	maxTake    = 256  // of them at once: those that are served already come in between
	sweepEvery = 5 * time.Millisecond
	errorRate  = 200 // a second
	roomEvery  = 100 * time.Millisecond
	roomSilent = 2 * time.Second
)

// newWorker makes one of so many workers.
func newWorker(s *Server, p port, of int) *worker {
	return &worker{s: s, port: p, table: newTable(of), errors: rate.NewLimiter(errorRate, errorRate), strays: rate.NewLimiter(errorRate, errorRate)}
}

// run serves until stop, or until the port fails.
func (w *worker) run() error {
	for {
		in, err := w.port.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			in = w.port.poll() // a flood of requests is handed over all the time, and time is always up
		case err != nil:
			return err
		}
		now := time.Now()
		for i := range in {
			w.guarded(&in[i], now)
		}
		for _, p := range w.take() {
			w.guarded(&p, now)
		}
		if !w.next.IsZero() && !now.Before(w.next) {
			w.sweep(now)
		}
		w.flush()
		if ended, err := w.arm(); ended || err != nil {
			w.end()
			return err
		}
	}
}

// stop makes run return.
func (w *worker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	_ = w.port.until(time.Unix(1, 0)) // a closed port has ended its worker already
}

// put hands a request over. The packet's data is the worker's from then on.
func (w *worker) put(p packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= maxQueue {
		w.s.counters.lost.Add(1)
		return
	}
	w.queue = append(w.queue, p)
	if !w.woken {
		w.woken = true
		_ = w.port.until(time.Unix(1, 0))
	}
}

func (w *worker) take() []packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue[:min(len(w.queue), maxTake)]
	if w.queue = w.queue[len(q):]; len(w.queue) == 0 {
		w.queue = nil
	}
	return q
}

// arm makes receive return when the next transfer is due, or at once for what was put meanwhile.
func (w *worker) arm() (ended bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || len(w.queue) > 0 || !w.woken && w.armed.Equal(w.next) {
		return w.ended, nil
	}
	w.woken, w.armed = false, w.next
	return false, w.port.until(w.next)
}

// guarded handles a packet; when that fails inside, its transfer ends and the others go on.
func (w *worker) guarded(p *packet, now time.Time) {
	defer func() {
		if e := recover(); e != nil {
			w.s.counters.panics.Add(1)
			w.s.cfg.Log.Error("serving boot programs failed inside, and goes on", "peer", p.from, "err", e, "stack", string(debug.Stack()))
			if t := w.table.find(p.from); t != nil {
				w.table.remove(t)
			}
		}
	}()
	w.handle(p, now)
}

func (w *worker) handle(p *packet, now time.Time) {
	if len(p.data) < 4 || p.from.Port() == 0 {
		return
	}
	switch binary.BigEndian.Uint16(p.data) {
	case opRead:
		w.request(p, now)
	case opWrite:
		w.refuse(p, errIllegal, "read only", now)
	case opError: // never answered
		if t := w.table.find(p.from); t != nil && t.stage != over {
			w.unfinished(t, fmt.Sprintf("the client says: %.60q", p.data[4:]))
			w.table.remove(t)
		}
	case opAck:
		if t := w.table.find(p.from); t != nil {
			w.acknowledged(t, binary.BigEndian.Uint16(p.data[2:]), now)
			return
		}
		fallthrough
	case opData:
		if w.table.find(p.from) == nil {
			w.refuse(p, errStranger, "unknown transfer", now)
		}
	}
}

// refuse answers what is not served, but not a flood of it, and nobody who is not known: a known machine learns why,
// and nobody else gets more than silence.
func (w *worker) refuse(p *packet, code uint16, why string, now time.Time) {
	if _, _, known := w.s.cfg.Machine(p.from.Addr()); known && w.errors.AllowN(now, 1) {
		w.emit(burst{to: p.from, from: p.to, whole: errorPacket(code, why)})
	}
}

// request begins a transfer.
func (w *worker) request(p *packet, now time.Time) {
	old := w.table.find(p.from)
	if old != nil && old.stage != over && old.ask == string(p.data) {
		switch {
		case old.stage == asked: // it has waited for the answer
			old.note(now)
			w.emit(old.burst())
			return
		case now.Sub(old.heard) < time.Second: // it came twice on the way
			return
		}
	}
	addr := p.from.Addr()
	node, hw, ok := w.s.cfg.Machine(addr)
	if !ok {
		w.s.counters.refused.Add(1)
		if w.strays.AllowN(now, 1) {
			w.emit(burst{to: p.from, from: p.to, whole: errorPacket(errOther, "not served here")})
		}
		return
	}
	q, err := parseRequest(p.data)
	if err != nil {
		w.s.counters.refused.Add(1)
		w.refuse(p, errIllegal, err.Error(), now)
		return
	}
	body, ok := w.s.cfg.Loader(q.name)
	if !ok {
		w.s.counters.refused.Add(1)
		w.s.tell(now, boot.Event{Stage: boot.StageDHCP, Node: node, Hardware: hw, Address: addr.String(), Error: fmt.Sprintf("asked by TFTP for %.80q, which is no boot program of this relay", q.name)})
		w.refuse(p, errNotFound, "file not found", now)
		return
	}
	if !w.room(now) {
		w.s.counters.lost.Add(1) // silence: the client asks again, and there may be room then. An error would end its boot
		return
	}
	if old != nil {
		w.table.remove(old)
	}
	t := newTransfer(p, q.name, body, agree(q, len(body), fits(q.block, p.mtu)), now)
	t.node, t.hw = node, hw
	w.table.add(t)
	w.s.counters.requests.Add(1)
	w.emit(t.burst())
	w.due(t)
}

// room tells whether another transfer may begin, and makes room for it where it can: whoever can guess the port of a
// transfer may acknowledge its beginning in another's name, and never goes on.
func (w *worker) room(now time.Time) bool {
	if w.table.full() && now.Sub(w.roomed) >= roomEvery {
		w.roomed = now
		for _, t := range w.table.transfers {
			if t.stage == going && t.acked <= t.terms.window && now.Sub(t.heard) > roomSilent {
				w.table.remove(t)
			}
		}
	}
	return !w.table.full()
}

func (w *worker) acknowledged(t *transfer, block uint16, now time.Time) {
	if t.stage == asked && !w.room(now) {
		return // it says so again, and there may be room then
	}
	r := t.acknowledge(block, now)
	if r == nothing {
		return
	}
	if t.stage == asked {
		if quiet := w.table.hold(t); quiet != nil {
			w.unfinished(quiet, "the same machine asks for more at once")
			w.emit(burst{to: quiet.peer, from: quiet.local, whole: errorPacket(errOther, "too many transfers at once")})
		}
	}
	if r == send {
		w.emit(t.burst())
		w.due(t)
		return
	}
	w.s.counters.served.Add(1)
	w.s.counters.bytes.Add(uint64(len(t.body)))
	w.s.cfg.Record(boot.Event{Stage: boot.StageLoader, Node: t.node, Hardware: t.hw, Address: t.peer.Addr().String(), Bytes: int64(len(t.body)), Took: now.Sub(t.began), Message: t.name})
	w.table.finish(t)
	t.due = now.Add(linger)
	w.due(t)
}

// unfinished takes down that a transfer ends before its program does. UEFI asks for the length first, and then breaks off.
func (w *worker) unfinished(t *transfer, why string) {
	if t.stage != going {
		return
	}
	w.s.cfg.Log.Info("a boot program was not taken", "node", t.node, "peer", t.peer, "bytes", t.acked*t.terms.block, "err", why)
}

// due makes the next sweep no later than the transfer needs it.
func (w *worker) due(t *transfer) {
	if w.next.IsZero() || t.due.Before(w.next) {
		w.next = t.due
	}
}

// sweep sends what is overdue and forgets what has ended.
func (w *worker) sweep(now time.Time) {
	soonest := time.Time{}
	for _, t := range w.table.transfers {
		if !now.Before(t.due) {
			again, alive := t.overdue(now)
			if !alive {
				w.expire(t, now)
				continue
			}
			if again {
				w.s.counters.repeated.Add(1)
				w.emit(t.burst())
			}
		}
		if soonest.IsZero() || t.due.Before(soonest) {
			soonest = t.due
		}
	}
	if least := now.Add(sweepEvery); !soonest.IsZero() && soonest.Before(least) {
		soonest = least
	}
	w.next = soonest
}

// expire forgets a transfer whose time is up.
func (w *worker) expire(t *transfer, now time.Time) {
	switch t.stage {
	case going:
		w.unfinished(t, "the client fell silent")
	case asked:
		w.s.tell(now, boot.Event{Stage: boot.StageDHCP, Node: t.node, Hardware: t.hw, Address: t.peer.Addr().String(), Error: fmt.Sprintf("asked by TFTP for %.80q, and acknowledged nothing of it: what lies between it and this relay may let only port 69 through", t.name)})
	}
	w.table.remove(t)
}

// emit sends a burst with the next flush.
func (w *worker) emit(b burst) {
	w.out = append(w.out, b)
	if len(w.out) >= maxBatch {
		w.flush()
	}
}

func (w *worker) flush() {
	if len(w.out) > 0 {
		w.port.send(w.out)
		w.out = w.out[:0]
	}
}

// end tells clients in the middle of a transfer that it ends here: they can ask again at once, and another relay answers.
func (w *worker) end() {
	for _, t := range w.table.transfers {
		if t.stage == going {
			w.emit(burst{to: t.peer, from: t.local, whole: errorPacket(errOther, "the relay is going away")})
		}
	}
	w.flush()
}
