package replication

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// acks remembers what each peer last answered to the leader here.
//
// It exists because VerifyLeader counts any answer that comes in after it was asked, also one to a request sent
// before: a leader that was paused may find such an answer in its socket, when the others have long elected another.
// An answer proves that its sender followed no newer leader at the moment it answered, so for a read it must be the
// answer to a request that was sent after the read began.
type acks struct {
	moved signal // fires at each answer

	mu    sync.Mutex
	seq   uint64
	peers map[raft.ServerID]ack
}

// ack is an answer from a peer that follows the leader here.
type ack struct {
	seq  uint64    // place of the request among all that were sent
	term uint64    // of the leader
	at   time.Time // when the answer came
	last uint64    // last index of the peer's log
}

func newAcks() *acks { return &acks{peers: make(map[raft.ServerID]ack)} }

// sent numbers a request that is about to be sent.
func (a *acks) sent() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	return a.seq
}

// mark returns a number that all requests sent from now on exceed.
func (a *acks) mark() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seq
}

func (a *acks) received(id raft.ServerID, n ack) {
	a.mu.Lock()
	old := a.peers[id]
	if n.term == old.term {
		n.seq = max(n.seq, old.seq) // of two requests in flight the later may be answered first
	}
	if n.term >= old.term {
		a.peers[id] = n
	}
	a.mu.Unlock()
	a.moved.fire()
}

// of returns the last answer of a peer, or the zero ack.
func (a *acks) of(id raft.ServerID) ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peers[id]
}

// keep forgets the peers that are no members.
func (a *acks) keep(members []Member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := make(map[raft.ServerID]ack, len(members))
	for _, m := range members {
		if n, ok := a.peers[m.serverID()]; ok {
			kept[m.serverID()] = n
		}
	}
	a.peers = kept
}

// signal lets any number of goroutines wait for the next of something.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

// next returns a channel that is closed when the signal fires the next time. Who waits for a condition takes the
// channel first and looks at the condition then.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
