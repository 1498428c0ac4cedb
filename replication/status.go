package replication

import (
	"time"

	"github.com/hashicorp/raft"
)

// Role is what a member does now.
type Role string

// The roles.
const (
	Leader    Role = "leader"
	Follower  Role = "follower"
	Candidate Role = "candidate" // looks for votes
	Waiting   Role = "waiting"   // no configuration names it: not let in yet, or removed
	Stopped   Role = "stopped"   // the log does not run here
)

// Status is what a Node knows of the log and of itself at one moment.
type Status struct {
	Self    Member
	Role    Role
	Term    uint64
	Leader  Member         // who leads as far as is known here; ID is empty for nobody
	Members []MemberStatus // sorted by ID

	Applied uint64    // revision that the machine has
	Commit  uint64    // last entry known to be durable on a majority
	Last    uint64    // last entry stored here
	Contact time.Time // when the leader was last heard; zero for never, or on the leader

	FreeSpace, TotalSpace uint64 // bytes where the log is kept; 0 before they were looked at
	LowSpace              bool   // nothing can be ordered here for want of space

	ConflictRestarts int    // times raft was restarted because a snapshot contradicted the log
	TransferRestarts int    // times it was restarted because a transfer of leadership did not end
	SetAside         string // where a damaged store was put when this run began; empty for none
	JoinError        string // why this member is not let in yet; empty for no reason
}

// MemberStatus is a Member as the leader sees it; on a follower the times and indexes are zero.
type MemberStatus struct {
	Member
	Contact time.Time // when it last answered
	Last    uint64    // last entry of its log then
	Healthy bool      // it answered within Config.Heartbeat
}

// Status returns the present state; it does not block.
func (n *Node) Status() Status {
	s := Status{
		Self:             Member{ID: n.cfg.ID, Addr: n.cfg.Addr, Observer: n.cfg.Observer},
		Role:             Stopped,
		Applied:          n.driver.applied.Load(),
		FreeSpace:        n.guard.free.Load(),
		TotalSpace:       n.guard.total.Load(),
		LowSpace:         n.guard.low.Load(),
		ConflictRestarts: int(n.conflicts.Load()),
		TransferRestarts: int(n.stuck.Load()),
	}
	if p := n.setAsidePath.Load(); p != nil {
		s.SetAside = *p
	}
	if p := n.lastJoinError.Load(); p != nil {
		s.JoinError = (*p).Error()
	}
	in := n.current.Load()
	if in == nil {
		return s
	}
	s.Self = in.self
	s.Term, s.Commit, s.Last = in.raft.CurrentTerm(), in.raft.CommitIndex(), in.raft.LastIndex()
	s.Leader, _ = in.leader()
	members := in.members()
	self, member := find(members, in.self.serverID())
	if member {
		s.Self.Voter = self.Voter
	}
	switch in.raft.State() {
	case raft.Leader:
		s.Role = Leader
	case raft.Candidate:
		s.Role = Candidate
	default:
		s.Role = Follower
	}
	if !member {
		s.Role = Waiting
	}
	if s.Role != Leader {
		s.Contact = in.raft.LastContact()
	}
	leads := in.leading() != nil
	for _, m := range members {
		ms := MemberStatus{Member: m}
		if leads {
			a := in.acks.of(m.serverID())
			ms.Contact, ms.Last, ms.Healthy = a.at, a.last, in.healthy(m)
			if m.serverID() == in.self.serverID() {
				ms.Contact, ms.Last = time.Now(), s.Last
			}
		}
		s.Members = append(s.Members, ms)
	}
	return s
}

// Leader returns who leads as far as is known here, and whether anybody is known to.
func (n *Node) Leader() (Member, bool) {
	if in := n.current.Load(); in != nil {
		return in.leader()
	}
	return Member{}, false
}

// Applied returns the revision that the machine has; it does not block.
func (n *Node) Applied() uint64 { return n.driver.applied.Load() }

// Changed returns a channel that is closed when leadership, the membership or a guard changes the next time, or Run
// ends. Take the channel first and look at Status then, so that no change is missed.
func (n *Node) Changed() <-chan struct{} { return n.changed.next() }
