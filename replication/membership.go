package replication

import (
	"context"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// changeMembers runs a change of the membership on the leader, one at a time.
func (n *Node) changeMembers(ctx context.Context, change func(*instance) error) error {
	const what = "changing the controllers"
	select {
	case n.changing <- struct{}{}:
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, context.Cause(ctx), "%s: another change is under way", what)
	}
	defer func() { <-n.changing }()
	in, err := n.leadingInstance(what)
	if err != nil {
		return err
	}
	if err := change(in); err != nil {
		return err
	}
	n.changed.fire()
	return nil
}

// addNonvoter adds a member, or gives one that is there a new address and leaves its vote alone.
func (in *instance) addNonvoter(ctx context.Context, m Member) error {
	return in.do(ctx, "adding "+m.ID, func() error {
		return in.raft.AddNonvoter(m.serverID(), raft.ServerAddress(m.Addr), 0, in.cfg.Heartbeat).Error()
	})
}

func (in *instance) addVoter(ctx context.Context, m Member) error {
	return in.do(ctx, "giving "+m.ID+" a vote", func() error {
		return in.raft.AddVoter(m.serverID(), raft.ServerAddress(m.Addr), 0, in.cfg.Heartbeat).Error()
	})
}

func (in *instance) remove(ctx context.Context, m Member) error {
	return in.do(ctx, "removing "+m.ID, func() error {
		return in.raft.RemoveServer(m.serverID(), 0, in.cfg.Heartbeat).Error()
	})
}

// Remove takes a member out of the log. It refuses with fault.Conflict to remove the last voter and with
// fault.Unavailable to leave voters of whom no majority answers. A leader asked to remove itself hands leadership over
// and answers NotLeader with its heir, who is to be asked again. Other errors: fault.NotFound, NotLeader,
// fault.Unknown (it may still happen).
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.changeMembers(ctx, func(in *instance) error {
		for _, m := range in.members() {
			if m.ID != id {
				continue
			}
			if err := in.spare(m); err != nil {
				return err
			}
			if m.serverID() == in.self.serverID() {
				return in.abdicate(ctx)
			}
			n.log.Info("removing a controller from the log", "controller", m.ID, "addr", m.Addr)
			return in.remove(ctx, m)
		}
		return fault.New(fault.NotFound, "no controller %s takes part in the log", id)
	})
}

// abdicate hands leadership to the best follower and names it.
func (in *instance) abdicate(ctx context.Context) error {
	heir, ok := in.heir()
	if !ok {
		return fault.New(fault.Unavailable, "controller %s leads, and nobody can take over now", in.self.ID)
	}
	if err := in.transfer(ctx, heir); err != nil {
		return err
	}
	return &NotLeader{Leader: heir}
}

// spare tells whether the log goes on without a member: nil, or why not.
func (in *instance) spare(m Member) error {
	if !m.Voter {
		return nil
	}
	voters, alive := 0, 0
	var silent []string
	for _, o := range in.members() {
		if !o.Voter || o.serverID() == m.serverID() {
			continue
		}
		voters++
		if in.healthy(o) {
			alive++
		} else {
			silent = append(silent, o.ID)
		}
	}
	switch {
	case voters == 0:
		return fault.New(fault.Conflict, "controller %s is the only one with a vote", m.ID).WithFix("let another controller join first")
	case alive <= voters/2:
		return fault.New(fault.Unavailable, "without %s only %d of %d controllers with a vote would answer (not %s): no majority",
			m.ID, alive, voters, strings.Join(silent, ", ")).WithFix("bring one of those back first")
	}
	return nil
}

// heir returns the follower that should lead if the leader here goes: the one that answers and has most of the log.
func (in *instance) heir() (Member, bool) {
	var best Member
	var most uint64
	if in.leading() == nil {
		return best, false
	}
	for _, m := range in.members() {
		if !m.Voter || m.serverID() == in.self.serverID() || !in.healthy(m) {
			continue
		}
		if last := in.acks.of(m.serverID()).last; best.ID == "" || last > most {
			best, most = m, last
		}
	}
	return best, best.ID != ""
}

// transfer makes another member lead.
func (in *instance) transfer(ctx context.Context, to Member) error {
	in.transferred.Store(true)
	err := in.do(ctx, "handing leadership to "+to.ID, func() error {
		return in.raft.LeadershipTransferToServer(to.serverID(), raft.ServerAddress(to.Addr)).Error()
	})
	in.moved.fire()
	return err
}

// TransferLeadership makes a voter lead, or the best one if id is empty, and returns when this member has let go;
// the other may need another moment to be elected. Errors: NotLeader, fault.NotFound, fault.Conflict (it leads
// already, or has no vote), fault.Unavailable (it does not answer), fault.Unknown.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	in, err := n.leadingInstance("handing leadership over")
	if err != nil {
		return err
	}
	if id == "" {
		heir, ok := in.heir()
		if !ok {
			return fault.New(fault.Unavailable, "no other controller with a vote answers")
		}
		return in.transfer(ctx, heir)
	}
	for _, m := range in.members() {
		switch {
		case m.ID != id:
		case m.serverID() == in.self.serverID():
			return fault.New(fault.Conflict, "controller %s leads already", id)
		case !m.Voter:
			return fault.New(fault.Conflict, "controller %s has no vote", id)
		case !in.healthy(m):
			return fault.New(fault.Unavailable, "controller %s does not answer", id)
		default:
			return in.transfer(ctx, m)
		}
	}
	return fault.New(fault.NotFound, "no controller %s takes part in the log", id)
}

// Snapshot stores the machine's state now and removes the entries that it makes needless, as otherwise happens by
// itself. Errors: fault.Unavailable (nothing new, or the log does not run here), fault.Timeout.
func (n *Node) Snapshot(ctx context.Context) error {
	in := n.current.Load()
	if in == nil {
		return fault.New(fault.Unavailable, "storing a snapshot: the log does not run here now")
	}
	done := in.call(func() error { return in.raft.Snapshot().Error() })
	if done == nil {
		return fault.New(fault.Unavailable, "storing a snapshot: this controller is stopping")
	}
	select {
	case err := <-done:
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "storing a snapshot")
		}
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, context.Cause(ctx), "storing a snapshot")
	}
}
