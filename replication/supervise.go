package replication

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	transferPatience = 10 * time.Second // how long raft may refuse entries because of a transfer (issue 696)
	handOverAgain    = 30 * time.Second // between attempts to hand leadership over because space is short
	joinLag          = 1024             // entries a new member may lag and still count as keeping up
)

// supervise watches an instance until ctx ends (nil error, no reason), something ends Run (the error), or another
// instance should take over (the reason).
func (n *Node) supervise(ctx context.Context, in *instance) (reason string, err error) {
	keeping, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { n.keep(keeping, in) })
	n.refresh(in)
	tick := time.NewTicker(n.cfg.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			n.handOver(in)
			return "", nil
		case err := <-n.fatal:
			return "", err
		case reason := <-in.again:
			return reason, nil
		case o := <-in.observed:
			if _, vote := o.Data.(raft.RequestVoteRequest); !vote {
				n.refresh(in)
			}
		case <-tick.C: // an observation may be dropped
			n.refresh(in)
		}
	}
}

// handOver gives leadership to another member before this one goes, so that nobody waits for an election.
func (n *Node) handOver(in *instance) {
	if len(n.fatal) > 0 {
		return // raft may not be there to answer
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Heartbeat)
	defer cancel()
	n.refresh(in)
	for in.leading() != nil && in.otherVoters() {
		answered := in.acks.moved.next()
		if heir, ok := in.heir(); ok {
			if err := in.transfer(ctx, heir); err != nil {
				n.log.Warn("could not hand leadership over before stopping", "to", heir.ID, "err", err)
			}
			return
		}
		select { // a new leader has heard from nobody yet
		case <-answered:
		case <-ctx.Done():
			return
		}
	}
}

// afterRestore is called by the driver when a snapshot was restored.
func (n *Node) afterRestore() {
	if in := n.current.Load(); in != nil && in.snaps.conflict.Load() {
		n.conflicts.Add(1)
		in.restart("a snapshot from the leader contradicts the log here")
	}
}

// keep does what must be done from time to time while an instance runs.
func (n *Node) keep(ctx context.Context, in *instance) {
	tick := time.NewTicker(max(n.cfg.Heartbeat/4, 20*time.Millisecond))
	defer tick.Stop()
	k := keeper{Node: n, in: in, keepsUp: make(map[raft.ServerID]time.Time)}
	for {
		k.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keeper is the memory of keep.
type keeper struct {
	*Node
	in *instance

	spaceAt  time.Time                   // when space was last looked at
	askedAt  time.Time                   // when the leader was last told of this member
	stuckAt  time.Time                   // since when raft refuses entries because of a transfer; zero if it does not
	handedAt time.Time                   // when leadership was last handed over for want of space
	keepsUp  map[raft.ServerID]time.Time // new members, and since when they keep up
	storing  <-chan error                // of a snapshot under way; nil: none that was begun here
}

func (k *keeper) look(ctx context.Context) {
	now := time.Now()
	if now.Sub(k.spaceAt) >= time.Second {
		k.spaceAt = now
		if k.guard.sample() {
			k.changed.fire()
		}
		k.in.disk.full.Store(k.guard.critical.Load())
	}
	k.store()
	members := k.in.members()
	self, member := find(members, k.in.self.serverID())
	if member {
		k.lastJoinError.Store(nil)
		k.writeHint(members)
	}
	if k.in.leading() != nil {
		k.in.acks.keep(members)
		k.lead(ctx, members, self)
		return
	}
	clear(k.keepsUp)
	k.stuckAt = time.Time{}
	unknown := !member && k.in.raft.LastIndex() == 0 // a member that was removed keeps its log, and stays removed
	moved := member && self.Addr != k.in.self.Addr
	if (unknown || moved) && now.Sub(k.askedAt) >= k.cfg.Heartbeat {
		k.askedAt = now
		k.announce(ctx, k.in)
	}
}

// store stores a snapshot when starting again without one would take long. Raft counts entries only, and one that
// changes every node is worth thousands of others.
func (k *keeper) store() {
	select {
	case err := <-k.storing:
		k.storing = nil
		if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			k.log.Warn("cannot store a snapshot; a restart will take long", "err", err)
		}
	default:
	}
	if k.storing == nil && time.Duration(k.driver.work.Load()) >= k.cfg.SnapshotWork {
		k.storing = k.in.call(func() error { return k.in.raft.Snapshot().Error() })
	}
}

// writeHint keeps members.json up to date.
func (k *keeper) writeHint(members []Member) {
	h := hintOf(k.in.self, members)
	if k.hint != nil && reflect.DeepEqual(*k.hint, h) {
		return
	}
	if err := saveHint(k.cfg.Dir, h); err != nil {
		k.log.Warn("cannot write down who the members are", "err", err)
		return
	}
	k.hint = &h
	k.changed.fire()
}

// lead does what the leader owes to the others.
func (k *keeper) lead(ctx context.Context, members []Member, self Member) {
	if self.ID != "" && self.Addr != k.in.self.Addr {
		self.Addr = k.in.self.Addr
		k.report("telling the others of the new address", k.changeMembers(ctx, func(in *instance) error { return in.addNonvoter(ctx, self) }))
	}
	k.promote(ctx, members)
	k.watchTransfer(ctx)
	if heir, ok := k.in.heir(); ok && k.guard.low.Load() && time.Since(k.handedAt) >= handOverAgain {
		k.handedAt = time.Now()
		k.log.Warn("too little disk space to lead; handing leadership over", "to", heir.ID)
		k.report("handing leadership over", k.in.transfer(ctx, heir))
	}
}

func (k *keeper) report(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		k.log.Warn(what+" failed; trying again", "err", err)
	}
}

// promote gives a vote to the first new member that has kept up long enough.
func (k *keeper) promote(ctx context.Context, members []Member) {
	last := k.in.raft.LastIndex()
	for _, m := range members {
		id := m.serverID()
		if m.Voter || m.Observer || !k.in.healthy(m) || k.in.acks.of(id).last+joinLag < last {
			delete(k.keepsUp, id)
			continue
		}
		since, ok := k.keepsUp[id]
		if !ok {
			k.keepsUp[id] = time.Now()
			continue
		}
		if time.Since(since) < k.cfg.StableAfter {
			continue
		}
		delete(k.keepsUp, id)
		err := k.changeMembers(ctx, func(in *instance) error { return in.addVoter(ctx, m) })
		if err == nil {
			k.log.Info("a controller has a vote now", "controller", m.ID)
		}
		k.report("giving "+m.ID+" a vote", err)
		return
	}
}

// watchTransfer restarts raft when it refuses entries because of a transfer that ended long ago: an interrupted one
// can leave its mark for ever (issue 696 of hashicorp/raft, open in 1.8). Only after a transfer does it look.
func (k *keeper) watchTransfer(ctx context.Context) {
	if !k.in.transferred.Load() {
		return
	}
	err := errors.New("no answer")
	if done := k.in.call(func() error { return k.in.raft.Barrier(k.cfg.Heartbeat).Error() }); done != nil {
		select {
		case err = <-done:
		case <-ctx.Done():
			return
		}
	}
	switch {
	case err == nil:
		k.in.transferred.Store(false)
		k.stuckAt = time.Time{}
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
		k.stuckAt = time.Time{}
	case k.stuckAt.IsZero():
		k.stuckAt = time.Now()
	case time.Since(k.stuckAt) >= transferPatience:
		k.stuck.Add(1)
		k.in.restart("a transfer of leadership does not end")
	}
}

func find(members []Member, id raft.ServerID) (Member, bool) {
	for _, m := range members {
		if m.serverID() == id {
			return m, true
		}
	}
	return Member{}, false
}
