package replication

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// space is a file system that fills and empties as the test says.
type space struct{ free atomic.Uint64 }

const mib = 1 << 20

func (s *space) use(cfg *Config) {
	s.free.Store(500 * mib)
	cfg.FreeSpace = func() (uint64, uint64, error) { return s.free.Load(), 1000 * mib, nil }
}

func TestLeaderWithoutSpaceRefusesAndHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		leader := c.leader()
		c.stop(leader)
		var s space
		c.start(leader, s.use)
		c.leader()
		time.Sleep(3 * time.Second)
		if err := c.at[c.leader()].TransferLeadership(t.Context(), leader); err != nil {
			t.Fatal(err)
		}
		c.await(leader+" leads", func() bool { return c.at[leader].Status().Role == Leader })
		c.propose("a")
		s.free.Store(90 * mib)
		c.await("another leads", func() bool {
			l := c.leader()
			return l != leader
		})
		if st := c.at[leader].Status(); !st.LowSpace || st.FreeSpace != 90*mib {
			t.Errorf("%+v", st)
		}
		rev := c.propose("b") // at the new leader; the one without much space still follows
		if err := c.at[leader].Wait(within(5*time.Second), rev); err != nil {
			t.Error(err)
		}

		// Below an eighth of the floor it stores nothing any more, and comes back when there is space.
		s.free.Store(5 * mib)
		time.Sleep(2 * time.Second)
		rev = c.propose("c")
		if err := c.at[leader].Wait(within(10*time.Second), rev); !errors.Is(err, fault.Timeout) {
			t.Errorf("an entry was stored on a full disk: %v", err)
		}
		at := time.Now()
		s.free.Store(500 * mib)
		if err := c.at[leader].Wait(within(time.Minute), rev); err != nil {
			t.Error(err)
		}
		t.Logf("caught up %v after there was space", time.Since(at))
	})
}

func TestLoneMemberWithoutSpaceRefusesAndServesReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var s space
		c.start("c1", s.use)
		c.leader()
		rev := c.propose("a")
		s.free.Store(99 * mib)
		time.Sleep(2 * time.Second)
		_, _, err := c.at["c1"].Propose(t.Context(), []byte("b"))
		if !errors.Is(err, fault.Full) || !strings.Contains(err.Error(), "99 MiB are free") || fault.Fix(err) == "" {
			t.Errorf("Propose = %v, fix %q", err, fault.Fix(err))
		}
		if got, err := c.at["c1"].ReadIndex(t.Context()); err != nil || got != rev {
			t.Errorf("ReadIndex = %d, %v", got, err)
		}
		s.free.Store(110 * mib) // not yet: it would flap
		time.Sleep(2 * time.Second)
		if _, _, err := c.at["c1"].Propose(t.Context(), []byte("b")); !errors.Is(err, fault.Full) {
			t.Errorf("a little above the floor: %v", err)
		}
		s.free.Store(130 * mib)
		time.Sleep(2 * time.Second)
		c.propose("b")
	})
}

func TestBallastGoesWhenSpaceRunsOut(t *testing.T) {
	var s space
	cfg := Config{Dir: t.TempDir(), Ballast: 4 * mib, MinFree: 100 * mib}
	s.use(&cfg)
	g := &guard{cfg: &cfg, log: slog.New(slog.DiscardHandler)}
	held := func() bool {
		info, err := os.Stat(filepath.Join(cfg.Dir, ballastFile))
		return err == nil && info.Size() == 4*mib && info.Sys().(*syscall.Stat_t).Blocks*512 >= 4*mib
	}
	for _, step := range []struct {
		free                uint64
		held, low, critical bool
	}{
		{500, true, false, false}, {101, true, false, false}, {99, true, true, false}, {60, true, true, false},
		{49, false, true, false}, {110, false, true, false}, // the space that the ballast gave is not for proposals
		{12, false, true, true}, {128, false, true, false}, {130, true, false, false},
	} {
		s.free.Store(step.free * mib)
		g.sample()
		if held() != step.held || g.low.Load() != step.low || g.critical.Load() != step.critical {
			t.Errorf("with %d MiB free: ballast %v, low %v, critical %v; want %+v", step.free, held(), g.low.Load(), g.critical.Load(), step)
		}
	}
}

func TestFileSystemSpaceIsPlausible(t *testing.T) {
	free, total, err := fileSystemSpace(t.TempDir())
	if err != nil || free == 0 || free > total {
		t.Errorf("%d of %d bytes, %v", free, total, err)
	}
}

// A disk that fails ends Run with the reason; the process and its other work go on.
func TestFailingDiskEndsRun(t *testing.T) {
	for _, role := range []Role{Leader, Follower} {
		t.Run(string(role), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.grow(3)
				w := c.write(2)
				time.Sleep(3 * time.Second)
				victim := c.leader()
				if role == Follower {
					victim = map[string]string{"c1": "c2", "c2": "c3", "c3": "c1"}[victim]
				}
				d := c.at[victim].current.Load().disk
				if err := d.db.Close(); err != nil { // every write fails from now on, and every read
					t.Fatal(err)
				}
				if err := <-c.at[victim].ended; err == nil || !strings.Contains(err.Error(), "failed") && !strings.Contains(err.Error(), "damaged") {
					t.Errorf("Run = %v", err)
				} else {
					t.Log(err)
				}
				c.net.mu.Lock()
				delete(c.at, victim)
				c.net.mu.Unlock()
				c.leader()
				time.Sleep(3 * time.Second)
				w.finish()
				c.start(victim)
				w.check(t, c.agree())
			})
		})
	}
}

func TestFullDiskIsNamed(t *testing.T) {
	var got error
	d := &disk{fail: func(err error) { got = err }}
	err := d.write("storing entries", func() error { return &os.PathError{Op: "write", Path: "raft.db", Err: syscall.ENOSPC} })
	if !errors.Is(err, fault.Full) || !errors.Is(got, fault.Full) {
		t.Errorf("%v, told %v", err, got)
	}
	if err := d.write("storing entries", func() error { t.Error("a write after a failed one"); return nil }); err == nil {
		t.Error("a write after a failed one succeeded")
	}
	var _ raft.StableStore = d
}
