package dhcpd

import (
	"sync"
	"time"
)

const (
	// held bounds the machines that patience knows. Past it the relay answers at once: two answers do no harm.
	held = 4096
	// forgetTries is after how long a machine that asks again begins anew.
	forgetTries = time.Minute
)

// patience holds back what another relay should answer first. The relay that comes r-th in a machine's order answers
// r×Patience later, unless it hears by then that the machine was served: from the answer of another server, or from the
// machine's own request that names one. It does not wait when the machine shows that nobody serves it.
type patience struct {
	expired func(*datagram) // takes a packet whose time has come

	mu       sync.Mutex
	machines map[[6]byte]*unserved
	swept    time.Time
	stopped  bool
}

// unserved is a machine that asked, and that nobody was heard to answer.
type unserved struct {
	tries  int // the one that is held counts
	last   time.Time
	timer  *time.Timer // nil when nothing is held
	packet *datagram   // that is held
}

// holds takes the packet's content over if it is not to be answered now.
func (h *patience) holds(p *datagram, sit *situation) bool {
	if sit.rank == 0 || p.waited || p.tries > 0 || !anybody(sit) {
		return false
	}
	// The client counts the seconds since it began (RFC 2131 §2). Who has asked for so long was not served.
	if sit.q.secs() >= 4*sit.rank {
		return false
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return true
	}
	u := h.machines[sit.q.mac]
	switch {
	case u == nil:
		if len(h.machines) >= held && !h.sweep(now) {
			return false
		}
		if h.machines == nil {
			h.machines = map[[6]byte]*unserved{}
		}
		u = new(unserved)
		h.machines[sit.q.mac] = u
	case now.Sub(u.last) > forgetTries:
		u.tries = 0
	}
	u.release()
	u.tries, u.last = u.tries+1, now
	if u.tries > 1+sit.rank {
		return false
	}
	mac, held := sit.q.mac, p.clone()
	held.waited, u.packet = true, held
	u.timer = time.AfterFunc(time.Duration(sit.rank)*Patience, func() { h.expire(mac, held) })
	return true
}

// anybody tells whether other servers can hear the packet too: those that are sent to one server alone have no rank.
func anybody(sit *situation) bool {
	switch sit.q.kind {
	case msgDiscover:
		return true
	case msgRequest:
		return !sit.q.server.IsValid() && !sit.unicast
	case msgInform:
		return !sit.unicast
	}
	return false
}

// expire lets a held packet go on its way.
func (h *patience) expire(mac [6]byte, p *datagram) {
	h.mu.Lock()
	u := h.machines[mac]
	if u == nil || u.packet != p {
		h.mu.Unlock()
		return
	}
	u.packet, u.timer = nil, nil
	h.mu.Unlock()
	h.expired(p)
}

// serves tells that another server was heard to serve the machine.
func (h *patience) serves(mac [6]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.machines[mac]; u != nil {
		u.release()
		delete(h.machines, mac)
	}
}

// sweep forgets machines that have not asked for long, at most once a second, and tells whether there were any. h.mu is
// held.
func (h *patience) sweep(now time.Time) bool {
	if now.Sub(h.swept) < time.Second {
		return false
	}
	h.swept = now
	n := len(h.machines)
	for mac, u := range h.machines {
		if now.Sub(u.last) > forgetTries {
			u.release()
			delete(h.machines, mac)
		}
	}
	return len(h.machines) < n
}

// stop drops everything that is held, and all that comes.
func (h *patience) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for _, u := range h.machines {
		u.release()
	}
	clear(h.machines)
}

// release drops the packet that is held, if any. The mutex of patience is held.
func (u *unserved) release() {
	if u.timer != nil {
		u.timer.Stop()
		u.packet.free()
		u.timer, u.packet = nil, nil
	}
}
