package replication

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ReadIndex returns a revision that is at least that of every command acknowledged anywhere before ReadIndex was
// called. A member that has waited for it (see Wait) answers a linearizable read from its machine; so a follower
// asks the leader for the revision, waits for it itself, and reads at home.
//
// It writes nothing: the leader makes sure that a majority still follows it, by answers to requests sent after the
// call began. Clocks play no part, so a leader that was paused or cut off never answers from its old state.
// Errors: NotLeader, fault.Unavailable (no leader, or none with a majority), fault.Timeout when ctx ends.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	const what = "making sure of the newest revision"
	in, err := n.leadingInstance(what)
	if err != nil {
		return 0, err
	}
	l, err := in.awaitReady(ctx, what)
	if err != nil {
		return 0, err
	}
	mark := in.acks.mark()
	commit := in.raft.CommitIndex()
	if err := in.awaitMajority(ctx, what, l, mark); err != nil {
		return 0, err
	}
	return in.lastSeen(n.driver.applied.Load(), commit)
}

// awaitReady waits until the leader here has committed an entry of its own term; before, it does not know how much
// of its log is committed (Raft thesis §6.4).
func (in *instance) awaitReady(ctx context.Context, what string) (*leadership, error) {
	for {
		moved := in.moved.next()
		l := in.leading()
		if l != nil && l.ready.Load() {
			return l, nil
		}
		if in.raft.State() != raft.Leader {
			return nil, in.notLeader(what)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Timeout, context.Cause(ctx), "%s", what)
		}
	}
}

// awaitMajority waits until a majority of the voters has answered requests that were sent after mark, as followers
// of this leadership.
func (in *instance) awaitMajority(ctx context.Context, what string, l *leadership, mark uint64) error {
	asked := false
	for {
		answered, moved := in.acks.moved.next(), in.moved.next()
		if in.leading() != l {
			return in.notLeader(what)
		}
		voters, have := 0, 0
		for _, m := range in.members() {
			if !m.Voter {
				continue
			}
			voters++
			a := in.acks.of(m.serverID())
			if m.serverID() == in.self.serverID() || a.term == l.term && a.seq > mark {
				have++
			}
		}
		if have > voters/2 {
			return nil
		}
		if !asked {
			asked = true
			in.raft.VerifyLeader() // makes raft send heartbeats now; for what its own answer is worth see acks
		}
		select {
		case <-answered:
		case <-moved:
		case <-ctx.Done():
			return fault.Wrap(fault.Timeout, context.Cause(ctx), "%s", what)
		}
	}
}

// lastSeen returns the revision that a machine has after the entries up to commit. The machine is not told of every
// entry (raft keeps its no-ops for itself), so a member that waited for the bare index could wait for ever.
func (in *instance) lastSeen(applied, commit uint64) (uint64, error) {
	for i := commit; i > applied; i-- {
		var l raft.Log
		err := in.disk.entry(i, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			break // in a snapshot, so the machine has been there
		}
		if err != nil {
			return 0, err
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
			return i, nil
		}
	}
	return applied, nil
}

// Wait returns nil when the machine here has applied everything up to a revision that Propose or ReadIndex gave on
// any member. Errors: fault.Timeout when ctx ends, fault.Unavailable when Run has ended.
func (n *Node) Wait(ctx context.Context, revision uint64) error {
	for {
		moved := n.driver.moved.next()
		at := n.driver.applied.Load()
		if at >= revision {
			return nil
		}
		select {
		case <-n.done:
			return fault.New(fault.Unavailable, "waiting for revision %d: the log does not run here any more", revision)
		default:
		}
		select {
		case <-moved:
		case <-n.done:
		case <-ctx.Done():
			return fault.Wrap(fault.Timeout, context.Cause(ctx), "waiting for revision %d, this controller is at %d", revision, at)
		}
	}
}
