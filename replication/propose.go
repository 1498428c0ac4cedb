package replication

import (
	"context"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// proposalOverhead is what a proposal counts for in Config.MaxInFlight beside its bytes.
const proposalOverhead = 4 << 10

// Propose orders a command and waits until the machine here has applied it; the revision is its place in the log and
// the result is what Machine.Apply gave for it. It blocks while too much is in flight, and until ctx ends.
//
// There are three answers: no error, the command is durable on a majority and applied here; fault.Unknown, it may
// have been ordered, now or later (propose it again only if the machine can tell that it is the same); any other
// error, it has not been and will not be: NotLeader, fault.Unavailable (no leader, or busy), fault.Full (disk
// space), fault.Invalid (too long).
func (n *Node) Propose(ctx context.Context, command []byte) (revision uint64, result any, err error) {
	const what = "ordering the command"
	if len(command) > n.cfg.MaxCommand {
		return 0, nil, fault.New(fault.Invalid, "a command of %d bytes is longer than %d", len(command), n.cfg.MaxCommand)
	}
	in, err := n.leadingInstance(what)
	if err != nil {
		return 0, nil, err
	}
	if err := n.guard.refuse(); err != nil {
		return 0, nil, err
	}
	weight := int64(len(command)) + proposalOverhead
	if err := n.budget.Acquire(ctx, weight); err != nil {
		return 0, nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "%s: too much is in flight", what)
	}
	frame := encodeFrame(command)
	var future raft.ApplyFuture
	done := in.call(func() error {
		defer n.budget.Release(weight)
		future = in.raft.Apply(frame, n.cfg.Heartbeat)
		return future.Error()
	})
	if done == nil {
		n.budget.Release(weight)
		return 0, nil, fault.New(fault.Unavailable, "%s: this controller is stopping", what)
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		return 0, nil, fault.Wrap(fault.Unknown, context.Cause(ctx), "%s: no answer in time", what)
	}
	if err != nil {
		return 0, nil, in.explain(what, err)
	}
	revision, result = future.Index(), future.Response()
	if u, not := result.(unapplied); not {
		return 0, nil, fault.Wrap(fault.Unknown, u.err, "revision %d is ordered, but this controller could not apply it", revision)
	}
	return revision, result, nil
}

// leadingInstance returns the instance if it leads as far as it knows.
func (n *Node) leadingInstance(what string) (*instance, error) {
	in := n.current.Load()
	if in == nil {
		return nil, fault.New(fault.Unavailable, "%s: the log does not run here now", what)
	}
	if in.raft.State() != raft.Leader {
		return nil, in.notLeader(what)
	}
	return in, nil
}
