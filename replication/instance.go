package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// instance is one run of raft over the store.
type instance struct {
	self  Member
	cfg   *Config
	raft  *raft.Raft
	trans *transport
	layer *layer
	acks  *acks
	snaps *snapshots
	disk  *disk

	ops        gate // calls into raft that wait for its answer
	forwarding sync.WaitGroup
	observed   chan raft.Observation      // something about leadership or peers changed
	again      chan string                // why another instance should take over
	leads      atomic.Pointer[leadership] // nil while it does not lead
	moved      signal                     // leads changed

	view        string      // what refresh saw last
	transferred atomic.Bool // a transfer was tried since which raft was not seen to take entries (see watchTransfer)
}

// leadership is one term in which the instance leads.
type leadership struct {
	term   uint64
	since  time.Time
	ready  atomic.Bool // an entry of this term is applied, so the commit index is the log's, not merely known here
	asking atomic.Bool // it is being found out whether it is ready
}

// start makes an instance of raft and sets it going.
func (n *Node) start(st *store, bootstrap bool) (*instance, error) {
	self := Member{ID: n.cfg.ID, Store: st.id, Addr: n.cfg.Addr, Observer: n.cfg.Observer}
	in := &instance{
		self: self, cfg: &n.cfg, disk: st.disk, acks: newAcks(),
		observed: make(chan raft.Observation, 16),
		again:    make(chan string, 1),
	}
	logger := newRaftLogger(n.log)
	cached, err := raft.NewLogCache(cachedEntries, st.disk)
	if err != nil {
		return nil, err
	}
	in.snaps = &snapshots{SnapshotStore: st.files, log: cached}
	newest, err := st.newest()
	if err != nil {
		return nil, err
	}
	in.snaps.newest.Store(newest)
	in.layer = newLayer(self, n.dial)
	in.trans = &transport{acks: in.acks, requests: make(chan raft.RPC), NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: in.layer, Logger: logger, MaxPool: 3, Timeout: 2 * n.cfg.Heartbeat,
	})}
	conf := n.raftConfig(self, logger)
	in.forwarding.Go(func() { in.trans.forward(in.layer.closed, in.snaps, st.disk) })
	if conf.NoSnapshotRestoreOnStart, err = n.isAheadOf(st, newest); err == nil {
		n.driver.begin()
		err = in.makeRaft(conf, n.driver, cached, bootstrap)
	}
	if err != nil {
		in.trans.Close()
		in.forwarding.Wait()
		select {
		case cause := <-n.fatal:
			err = cause
		default:
		}
		return nil, fmt.Errorf("starting the log: %w", err)
	}
	in.raft.RegisterObserver(raft.NewObserver(in.observed, false, nil))
	if err := in.hurry(); err != nil {
		n.log.Warn("waiting for a leader where there can be no other", "err", err)
	}
	n.current.Store(in)
	return in, nil
}

// hurry makes the only voter look for a leader at once. Raft does so when the heartbeat time becomes shorter.
func (in *instance) hurry() error {
	if self, ok := find(in.members(), in.self.serverID()); !ok || !self.Voter || in.otherVoters() {
		return nil
	}
	c := in.raft.ReloadableConfig()
	c.HeartbeatTimeout -= time.Millisecond
	return in.raft.ReloadConfig(c)
}

// makeRaft makes the raft object and sets it going. It works on a goroutine of its own, because raft panics where it
// cannot read or write, and because disk ends the goroutine that calls it then.
func (in *instance) makeRaft(conf *raft.Config, fsm raft.FSM, logs raft.LogStore, bootstrap bool) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fault.New(fault.Corrupt, "raft cannot start: %v", p)
			}
		}()
		if bootstrap {
			err = raft.BootstrapCluster(conf, logs, in.disk, in.snaps, in.trans, raft.Configuration{
				Servers: []raft.Server{{ID: in.self.serverID(), Address: raft.ServerAddress(in.self.Addr)}},
			})
		}
		if err == nil {
			in.raft, err = raft.NewRaft(conf, fsm, logs, in.disk, in.snaps, in.trans)
		}
	}()
	<-done
	if in.raft == nil && err == nil {
		err = fault.New(fault.Internal, "the disk failed")
	}
	return err
}

func (n *Node) raftConfig(self Member, logger *raftLogger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = self.serverID()
	c.Logger = logger
	c.HeartbeatTimeout = n.cfg.Heartbeat + time.Millisecond // see hurry
	c.ElectionTimeout = n.cfg.Heartbeat + time.Millisecond
	c.LeaderLeaseTimeout = n.cfg.Heartbeat
	// A follower is sent one batch per trigger or CommitTimeout: with raft's 64 entries and 50 ms a burst of
	// 20 000 entries ran at 2 000 a second, with these and 5 ms at 7 600.
	c.MaxAppendEntries = 1024
	c.CommitTimeout = n.cfg.CommitEvery
	// Proposals wait for raft's main loop in their own goroutines, and it collects all that wait into one disk
	// write. A buffer between them would add nothing but proposals that get no answer when raft stops.
	c.BatchApplyCh = false
	c.SnapshotThreshold = n.cfg.SnapshotEvery
	c.SnapshotInterval = n.cfg.SnapshotCheck
	c.TrailingLogs = n.cfg.KeepEntries
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	return c
}

// isAheadOf tells whether the machine holds more than the newest snapshot, as it does when an instance follows
// another: the state must not go back then, not even for a moment.
func (n *Node) isAheadOf(st *store, newest *raft.SnapshotMeta) (bool, error) {
	if newest == nil || n.driver.applied.Load() == 0 {
		return false, nil
	}
	_, rc, err := st.files.Open(newest.ID)
	if err != nil {
		return false, err
	}
	defer rc.Close()
	h, err := parseSnapshotHead(rc)
	return err == nil && n.driver.applied.Load() >= h.Revision, err
}

// stop ends an instance and all its goroutines.
func (n *Node) stop(in *instance) {
	n.current.Store(nil)
	in.snaps.closing.Store(true)
	// Raft forgets the calls that it has not answered when it stops. While it runs it answers all of them within
	// the time a leader gives up in.
	select {
	case <-in.ops.close():
	case <-time.After(3 * n.cfg.Heartbeat):
		n.log.Warn("the log stops with calls unanswered")
	}
	stopped := in.raft.Shutdown()
	in.layer.halt() // or raft waits for the peers it talks to
	stopped.Error()
	in.trans.CloseStreams()
	<-in.layer.empty
	in.forwarding.Wait()
	in.leads.Store(nil)
	in.moved.fire()
	n.changed.fire()
}

// restart asks for another instance in the place of this one.
func (in *instance) restart(reason string) {
	select {
	case in.again <- reason:
	default:
	}
}

// members returns the latest membership known here, committed or not.
func (in *instance) members() []Member {
	f := in.raft.GetConfiguration() // answers from memory
	if f.Error() != nil {
		return nil
	}
	return membersOf(f.Configuration())
}

// otherVoters tells whether anybody else has a vote.
func (in *instance) otherVoters() bool {
	return slices.ContainsFunc(in.members(), func(m Member) bool { return m.Voter && m.serverID() != in.self.serverID() })
}

// leading returns the leadership if the instance leads now, as far as it knows.
func (in *instance) leading() *leadership {
	l := in.leads.Load()
	if l == nil || in.raft.State() != raft.Leader || in.raft.CurrentTerm() != l.term {
		return nil
	}
	return l
}

func (in *instance) leadsSince() time.Time {
	if l := in.leading(); l != nil {
		return l.since
	}
	return time.Time{}
}

// healthy tells whether a member answered the leader here lately.
func (in *instance) healthy(m Member) bool {
	if m.serverID() == in.self.serverID() {
		return true
	}
	l := in.leading()
	a := in.acks.of(m.serverID())
	return l != nil && a.term == l.term && time.Since(a.at) <= in.cfg.Heartbeat
}

// refresh looks at raft after something changed, or might have: it begins and ends leaderships.
func (n *Node) refresh(in *instance) {
	old := in.leads.Load()
	term, leads := in.raft.CurrentTerm(), in.raft.State() == raft.Leader
	switch {
	case leads && (old == nil || old.term != term):
		in.leads.Store(&leadership{term: term, since: time.Now()})
		n.log.Info("this controller leads the log", "controller", in.self.ID, "term", term)
	case !leads && old != nil:
		in.leads.Store(nil)
		n.log.Info("this controller does not lead the log any more", "controller", in.self.ID, "term", term)
	}
	in.getReady()
	in.moved.fire()
	leader, _ := in.leader()
	if v := fmt.Sprint(in.raft.State(), term, leader, in.members()); v != in.view {
		in.view = v
		n.changed.fire()
	}
}

// getReady commits an entry of the leadership's term, where that has not happened.
func (in *instance) getReady() {
	l := in.leading()
	if l == nil || l.ready.Load() || !l.asking.CompareAndSwap(false, true) {
		return
	}
	in.call(func() error {
		defer l.asking.Store(false)
		err := in.raft.Barrier(in.cfg.Heartbeat).Error()
		if err == nil {
			l.ready.Store(true)
			in.moved.fire()
		}
		return err
	})
}

// call runs a call that waits for raft on a goroutine of its own and returns where its error will be. It returns
// nil if the instance is stopping.
func (in *instance) call(call func() error) <-chan error {
	if !in.ops.enter() {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		defer in.ops.leave()
		done <- call()
	}()
	return done
}

// do runs a call that waits for raft until ctx ends; then the call goes on and its outcome is lost. An error of raft's
// is given its kind.
func (in *instance) do(ctx context.Context, what string, call func() error) error {
	done := in.call(call)
	if done == nil {
		return fault.New(fault.Unavailable, "%s: this controller is stopping", what)
	}
	select {
	case err := <-done:
		return in.explain(what, err)
	case <-ctx.Done():
		return fault.Wrap(fault.Unknown, context.Cause(ctx), "%s: no answer in time", what)
	}
}

// explain gives raft's errors their kind.
func (in *instance) explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return in.notLeader(what)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fault.New(fault.Unavailable, "%s: the leader is busy", what)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fault.New(fault.Unavailable, "%s: leadership is being handed over", what)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return fault.Wrap(fault.Unknown, err, "%s: it may have happened or not", what)
	}
	return fault.Wrap(fault.Unknown, err, "%s", what)
}

// notLeader is the error of what only the leader can do.
func (in *instance) notLeader(what string) error {
	if l, ok := in.leader(); ok && l.serverID() != in.self.serverID() {
		return &NotLeader{Leader: l}
	}
	return fault.New(fault.Unavailable, "%s: no leader is known", what).WithFix("wait until a majority of the controllers runs and reaches one another")
}

// leader returns who leads as far as is known here.
func (in *instance) leader() (Member, bool) {
	addr, id := in.raft.LeaderWithID()
	m, err := parseServerID(id)
	if err != nil {
		return Member{}, false
	}
	m.Addr, m.Voter = string(addr), true
	return m, true
}

// gate counts calls that are under way and lets one wait for their end.
type gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{}
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.closed && g.n == 0 {
		close(g.idle)
	}
}

// close lets nobody in any more; the channel it returns is closed when the last has left. It is called once.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.idle = make(chan struct{})
	if g.n == 0 {
		close(g.idle)
	}
	return g.idle
}
