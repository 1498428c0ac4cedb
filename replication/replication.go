// Package replication is one ordered, durable log of opaque commands, held by one, three or five controllers.
//
// A Node is one member. Propose orders a command, and its Machine sees every command on every member in the same
// order; ReadIndex and Wait make a read see what was acknowledged before it began. Underneath is hashicorp/raft on
// raft-boltdb, which nothing else may import; DESIGN.md tells which of their weak spots are guarded here and how.
//
// A Node is made by New, which starts nothing, and lives in Run. Its other methods may be called from any
// goroutine, also before and after Run, when they answer fault.Unavailable.
package replication

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Config says who a Node is and what it uses. The zero value of everything below Logger has a sensible meaning.
type Config struct {
	ID       string       // this member's name, for example "c1": letters, digits, dot, dash and underscore
	Dir      string       // where store, members.json and ballast lie; only this Node uses it
	Addr     string       // host:port where the other members reach Listener
	Listener net.Listener // connections of the log only, already authenticated; Run closes it
	// Dial connects to another member's Addr; the connection is authenticated when it returns.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger *slog.Logger

	// PeerName returns the ID that the certificate at the other end of a connection gives. If set, a connection
	// is closed whose other end says it is, or should be, somebody else.
	PeerName func(net.Conn) (string, error)
	// Admit decides on the leader whether a controller that is no member yet may join by itself (see Peers). It
	// returns nil or the reason why not, and does not block. Without it nobody may; Join and coming back with an empty
	// store work anyhow.
	Admit func(Member) error

	Bootstrap bool     // with an empty store, begin a new log with this member alone
	Peers     []string // with an empty store and no Bootstrap, ask one of these addresses to be let in
	Observer  bool     // follow, and never vote

	// Heartbeat is how long a follower waits for its leader before it looks for another, and a leader for its
	// followers before it gives up; a fail-over takes one to two of it and an election. Heartbeats wait behind
	// disk writes, so it must exceed the slowest fsync to be expected. Default 3 s.
	Heartbeat   time.Duration
	StableAfter time.Duration // how long a new member must keep up before it gets its vote; default 10 s
	// CommitEvery is how often a follower is told, about, up to where the log is committed, while there is nothing new
	// to send: as much later it applies the last command of a burst. Default 5 ms.
	CommitEvery time.Duration

	MaxCommand    int           // longest command in bytes; default 1 MiB
	MaxInFlight   int64         // bytes of commands proposed here and not yet answered; default 64 MiB
	SnapshotEvery uint64        // entries between snapshots; default 8192
	SnapshotCheck time.Duration // how often to look whether one is due; default 2 min
	KeepEntries   uint64        // entries kept behind a snapshot for followers that lag a little; default 10240
	// SnapshotWork is how long the machine may have worked on entries since the last snapshot before one is due however
	// few they are: who starts again has that work to do again. Default 1 s.
	SnapshotWork time.Duration

	// MinFree is the free space in bytes below which nothing is proposed here and leadership is handed over.
	// Default: a tenth of the file system, at most 1 GiB.
	MinFree uint64
	// Ballast is the size in bytes of a file that is deleted when space runs out, so that what must still be
	// written has room. Default 64 MiB, at most a twentieth of the file system; negative for none.
	Ballast int64
	// FreeSpace returns free and total bytes where Dir lies; default: ask the file system.
	FreeSpace func() (free, total uint64, err error)
}

const maxCommandLimit = 16 << 20

// withDefaults returns the configuration to work with, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	switch {
	case !idForm.MatchString(c.ID):
		return c, fault.New(fault.Invalid, "%q is not an ID for a controller", c.ID)
	case c.Dir == "" || c.Addr == "" || c.Listener == nil || c.Dial == nil || c.Logger == nil:
		return c, fault.New(fault.Invalid, "the log needs Dir, Addr, Listener, Dial and Logger")
	case c.Bootstrap && len(c.Peers) > 0:
		return c, fault.New(fault.Invalid, "a log is begun or joined, not both")
	case c.Bootstrap && c.Observer:
		return c, fault.New(fault.Invalid, "an observer cannot begin a log")
	case c.MaxCommand > maxCommandLimit:
		return c, fault.New(fault.Invalid, "commands of %d bytes are too long: at most %d", c.MaxCommand, maxCommandLimit)
	case c.Heartbeat != 0 && c.Heartbeat < 50*time.Millisecond:
		return c, fault.New(fault.Invalid, "a heartbeat of %v is too short", c.Heartbeat)
	}
	c.Heartbeat = cmp.Or(c.Heartbeat, 3*time.Second)
	c.StableAfter = cmp.Or(c.StableAfter, 10*time.Second)
	c.CommitEvery = max(cmp.Or(c.CommitEvery, 5*time.Millisecond), time.Millisecond)
	c.MaxCommand = cmp.Or(c.MaxCommand, 1<<20)
	c.MaxInFlight = max(cmp.Or(c.MaxInFlight, 64<<20), int64(c.MaxCommand)+proposalOverhead)
	c.SnapshotEvery = cmp.Or(c.SnapshotEvery, 8192)
	c.SnapshotCheck = cmp.Or(c.SnapshotCheck, 2*time.Minute)
	c.SnapshotWork = cmp.Or(c.SnapshotWork, time.Second)
	c.KeepEntries = cmp.Or(c.KeepEntries, 10240)
	c.Ballast = cmp.Or(c.Ballast, 64<<20)
	if c.FreeSpace == nil {
		dir := c.Dir
		c.FreeSpace = func() (uint64, uint64, error) { return fileSystemSpace(dir) }
	}
	return c, nil
}

// joinTimeout bounds one exchange with a member that is asked to let this one in: it may have to commit two changes.
func (c *Config) joinTimeout() time.Duration { return 5 * c.Heartbeat }

// Node is one member of the log.
type Node struct {
	cfg    Config
	log    *slog.Logger
	driver *driver
	guard  *guard
	budget *semaphore.Weighted // bytes in flight

	ran      atomic.Bool
	done     chan struct{}            // closed when Run has ended
	fatal    chan error               // why Run must end; the first reason counts
	current  atomic.Pointer[instance] // nil while none runs
	changed  signal                   // leadership, membership or a guard changed
	changing chan struct{}            // holds a token while the membership is being changed

	hint          *hint // what members.json says; used by Run, then by keep
	lastJoinError atomic.Pointer[error]
	setAsidePath  atomic.Pointer[string]
	conflicts     atomic.Int64 // restarts because of issue 697
	stuck         atomic.Int64 // restarts because of issue 696
}

// New returns a Node that drives the machine, which must be empty. It starts nothing and touches no file.
func New(cfg Config, machine Machine) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:      cfg,
		log:      cfg.Logger,
		budget:   semaphore.NewWeighted(cfg.MaxInFlight),
		done:     make(chan struct{}),
		fatal:    make(chan error, 1),
		changing: make(chan struct{}, 1),
	}
	n.guard = &guard{cfg: &n.cfg, log: n.log}
	n.driver = &driver{machine: machine, log: n.log, fail: n.fail, moved: new(signal), restored: n.afterRestore}
	return n, nil
}

// fail makes Run end with err.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// Run takes part in the log until ctx ends, and returns nil then, leaving nothing behind. It may be called once.
//
// It ends by itself when going on could lose or falsify something: fault.Corrupt (damage that the others cannot
// make up for, or a command that the machine does not understand), fault.Full, fault.Conflict (another process uses
// Dir), or a disk that fails.
func (n *Node) Run(ctx context.Context) error {
	if !n.ran.CompareAndSwap(false, true) {
		return fault.New(fault.Internal, "the log of this controller runs or ran already")
	}
	defer close(n.done)
	defer n.changed.fire()
	defer n.driver.moved.fire()
	defer n.cfg.Listener.Close()
	st, bootstrap, err := n.open()
	if err != nil {
		return err
	}
	given := ctx
	ctx, cancel := context.WithCancel(ctx)
	var accepting sync.WaitGroup
	accepting.Go(func() { n.accept(ctx, given) })
	err = n.runInstances(ctx, st, bootstrap)
	cancel()
	n.cfg.Listener.Close()
	accepting.Wait()
	return errors.Join(err, st.close())
}

// open opens the store and decides what an empty one means.
func (n *Node) open() (st *store, bootstrap bool, err error) {
	dir := filepath.Join(n.cfg.Dir, storeDir)
	hint, hintErr := loadHint(n.cfg.Dir)
	n.hint = hint
	st, err = openStore(dir, n.log, n.fail)
	if errors.Is(err, fault.Corrupt) {
		if hintErr != nil || hint == nil || len(hint.others()) == 0 {
			return nil, false, fault.Wrap(fault.Corrupt, err, "the log in %s is damaged and no other controller is known to have it", dir).
				WithFix("put back a backup of %s; if there is none and nothing was ever kept in it, remove it", n.cfg.Dir)
		}
		to, rerr := setAside(n.cfg.Dir, time.Now())
		if rerr != nil {
			return nil, false, errors.Join(err, rerr)
		}
		n.setAsidePath.Store(&to)
		n.log.Error("the log on disk is damaged; it is set aside, and the other controllers are asked for theirs", "err", err, "kept", to)
		st, err = openStore(dir, n.log, n.fail)
	}
	if err != nil {
		return nil, false, err
	}
	if !st.fresh {
		return st, false, nil // whatever the hint said, the store says better
	}
	switch {
	case hintErr != nil:
		err = hintErr
	case hint == nil:
		return st, n.cfg.Bootstrap, nil
	case len(hint.others()) > 0:
		return st, false, nil
	default:
		err = fault.New(fault.Corrupt, "the log in %s is gone, and it was the only one", dir)
	}
	err = fault.Wrap(fault.Corrupt, err, "this controller has served before").
		WithFix("put back a backup of %s, or remove %s to begin with nothing", n.cfg.Dir, filepath.Join(n.cfg.Dir, hintFile))
	return nil, false, errors.Join(err, st.close())
}

// runInstances runs one raft instance after another: a new one takes over where a guard found the old one stuck.
func (n *Node) runInstances(ctx context.Context, st *store, bootstrap bool) error {
	for {
		in, err := n.start(st, bootstrap)
		if err != nil {
			return err
		}
		bootstrap = false
		reason, err := n.supervise(ctx, in)
		n.stop(in)
		if err != nil || ctx.Err() != nil {
			return err
		}
		n.log.Warn("restarting the log in place", "reason", reason)
	}
}
