package dhcp6d

import (
	"bytes"
	"net/netip"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

const (
	// held bounds the machines whose questions are held. Past it the relay answers at once: two answers do no harm.
	held = 4096
	// unserved is for how long, for each relay before this one, a machine must have asked to be answered at once.
	unserved = 4 * time.Second
)

// patience holds back what another relay should answer first. The relay that comes r-th in a machine's order answers
// r×Patience later, unless the machine is heard to choose another by then.
type patience struct {
	mu       sync.Mutex
	machines map[catalog.HardwareAddr]*time.Timer
	stopped  bool
}

// holds takes a packet over if it is not to be answered now.
func (h *patience) holds(q *query, t *seat, l *Link, b []byte, from netip.AddrPort, s *Server) bool {
	if t.rank == 0 || q.Options.ElapsedTime() >= time.Duration(t.rank)*unserved {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return true
	}
	if old := h.machines[t.hw]; old != nil {
		old.Stop()
		delete(h.machines, t.hw)
	}
	if len(h.machines) >= held {
		return false
	}
	if h.machines == nil {
		h.machines = map[catalog.HardwareAddr]*time.Timer{}
	}
	hw, packet := t.hw, bytes.Clone(b)
	var mine *time.Timer
	mine = time.AfterFunc(time.Duration(t.rank)*Patience, func() {
		h.mu.Lock()
		due := h.machines[hw] == mine && !h.stopped
		if due {
			delete(h.machines, hw)
		}
		h.mu.Unlock()
		if due {
			s.safely(l, packet, from, true)
		}
	})
	h.machines[hw] = mine
	return true
}

// serves tells that another server serves the machine.
func (h *patience) serves(hw catalog.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.machines[hw]; t != nil {
		t.Stop()
		delete(h.machines, hw)
	}
}

// stop drops everything that is held, and all that comes.
func (h *patience) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for _, t := range h.machines {
		t.Stop()
	}
	clear(h.machines)
}
