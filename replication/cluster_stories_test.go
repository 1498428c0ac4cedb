package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// writers propose unique commands at whoever leads until they are stopped, and keep the books.
type writers struct {
	c       *cluster
	stop    context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	acked   []string
	unknown int
	refused int
	maxRev  uint64
}

func (c *cluster) write(count int) *writers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{c: c, stop: cancel}
	for i := range count {
		w.wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				w.one(fmt.Sprintf("w%d-%d", i, j))
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	return w
}

func (w *writers) one(command string) {
	for _, m := range w.c.nodes() {
		rev, _, err := m.Propose(within(3*time.Second), []byte(command))
		w.mu.Lock()
		switch {
		case err == nil:
			w.acked = append(w.acked, command)
			w.maxRev = max(w.maxRev, rev)
		case errors.Is(err, fault.Unknown):
			w.unknown++
		default:
			w.refused++
		}
		w.mu.Unlock()
		if err == nil || errors.Is(err, fault.Unknown) {
			return // never propose again what may have been ordered
		}
	}
}

func (w *writers) finish() {
	w.stop()
	w.wg.Wait()
}

// check fails if an acknowledged command is missing or any is there twice.
func (w *writers) check(t *testing.T, commands []string) {
	t.Helper()
	count := make(map[string]int)
	for _, c := range commands {
		if count[c]++; count[c] == 2 {
			t.Errorf("%s was applied twice", c)
		}
	}
	for _, c := range w.acked {
		if count[c] == 0 {
			t.Errorf("%s was acknowledged and is lost", c)
		}
	}
	t.Logf("%d acknowledged, %d unknown, %d refusals, %d applied", len(w.acked), w.unknown, w.refused, len(commands))
	if len(w.acked) == 0 {
		t.Error("nothing was acknowledged")
	}
}

func TestKilledLeadersLoseNothingAcknowledged(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.grow(size)
				w := c.write(4)
				for range 2 {
					time.Sleep(2 * time.Second)
					old := c.leader()
					at := time.Now()
					c.kill(old)
					c.leader()
					t.Logf("%s was killed; another led after %v", old, time.Since(at))
					time.Sleep(3 * time.Second)
					c.start(old)
				}
				time.Sleep(2 * time.Second)
				w.finish()
				w.check(t, c.agree())
			})
		})
	}
}

func TestMinorityRefusesAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		c.propose("before")
		old := c.leader()
		oldNode := c.at[old]
		term := oldNode.Status().Term
		c.net.part(1, addr(old))

		// The leader in the minority does not know yet. What it takes now is in doubt, and it must not answer a read.
		at := time.Now()
		_, _, err := oldNode.Propose(within(10*time.Second), []byte("doubtful"))
		if !errors.Is(err, fault.Unknown) {
			t.Errorf("a command given to a cut-off leader: %v, want unknown", err)
		}
		if took := time.Since(at); took > 3*time.Second {
			t.Errorf("it took %v to say so", took)
		}
		fresh := c.leader()
		if fresh == old {
			t.Fatal("the minority leads")
		}
		c.propose("during")
		if rev, err := oldNode.ReadIndex(within(5 * time.Second)); err == nil {
			t.Errorf("the minority answered a read with revision %d", rev)
		}
		if _, _, err := oldNode.Propose(within(time.Second), []byte("no")); !errors.Is(err, fault.Unavailable) {
			t.Errorf("a command given to the minority: %v, want unavailable", err)
		}
		time.Sleep(30 * time.Second)
		c.net.heal()
		at = time.Now()
		c.propose("after")
		got := c.agree()
		t.Logf("healed after %v, terms %d to %d", time.Since(at), term, oldNode.Status().Term)
		if grown := oldNode.Status().Term - term; grown > 2 {
			t.Errorf("half a minute apart cost %d terms", grown)
		}
		if !slices.Equal(got, []string{"before", "during", "after"}) && !slices.Equal(got, []string{"before", "doubtful", "during", "after"}) {
			t.Errorf("after healing: %q", got)
		}
	})
}

func TestFollowersSayWhoLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		leader := c.leader()
		for id, m := range c.at {
			if id == leader {
				continue
			}
			_, _, perr := m.Propose(t.Context(), []byte("x"))
			_, rerr := m.ReadIndex(t.Context())
			for _, err := range []error{perr, rerr, m.Remove(t.Context(), leader), m.TransferLeadership(t.Context(), id)} {
				nl, ok := errors.AsType[*NotLeader](err)
				if !ok || !errors.Is(err, fault.NotLeader) || nl.Leader.ID != leader || nl.Leader.Addr != addr(leader) {
					t.Errorf("%s says %v, want that %s leads", id, err, leader)
				}
			}
			if l, ok := m.Leader(); !ok || l.ID != leader {
				t.Errorf("%s: Leader = %v, %v", id, l, ok)
			}
		}
		// A follower reads what was acknowledged by asking the leader for the revision.
		c.propose("x")
		rev, err := c.at[leader].ReadIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for id, m := range c.at {
			if err := m.Wait(t.Context(), rev); err != nil {
				t.Fatal(err)
			}
			if got := m.machine.all(); !slices.Equal(got, []string{"x"}) {
				t.Errorf("%s reads %q", id, got)
			}
		}
	})
}

func TestAllMembersRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("k%d", i))
			c.propose(want[i])
		}
		for id := range c.at {
			c.net.part(len(id)+int(id[1]), addr(id)) // all lose one another at once
		}
		for _, id := range []string{"c1", "c2", "c3"} {
			c.stop(id)
		}
		c.net.heal()
		at := time.Now()
		for _, id := range []string{"c1", "c2", "c3"} {
			c.start(id)
		}
		c.propose("again")
		t.Logf("three members lead and order %v after a cold start", time.Since(at))
		if got := c.agree(); !slices.Equal(got, append(want, "again")) {
			t.Fatalf("after the restart: %q", got)
		}
	})
}

func TestLeadershipMovesOnRequestAndAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		w := c.write(2)
		for _, to := range []string{"c2", "c3", "c1"} {
			time.Sleep(time.Second)
			from := c.leader()
			if from == to {
				continue
			}
			at := time.Now()
			if err := c.at[from].TransferLeadership(t.Context(), to); err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			c.await(to+" leads", func() bool { return c.at[to].Status().Role == Leader })
			t.Logf("%s leads in the place of %s after %v", to, from, time.Since(at))
		}
		if err := c.at["c1"].TransferLeadership(t.Context(), "c1"); !errors.Is(err, fault.Conflict) {
			t.Errorf("to itself: %v", err)
		}
		if err := c.at["c1"].TransferLeadership(t.Context(), "c9"); !errors.Is(err, fault.NotFound) {
			t.Errorf("to a stranger: %v", err)
		}
		at := time.Now()
		if err := c.stop("c1"); err != nil {
			t.Fatal(err)
		}
		c.leader()
		if took := time.Since(at); took > testHeartbeat/2 {
			t.Errorf("a leader that stops in order left the others alone for %v", took)
		}
		time.Sleep(time.Second)
		w.finish()
		w.check(t, c.agree())
		for _, m := range c.at {
			if n := m.Status().TransferRestarts; n != 0 {
				t.Errorf("%d restarts because of a transfer", n)
			}
		}
	})
}

// nodes returns the members there are now.
func (c *cluster) nodes() []*member {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	var out []*member
	for _, m := range c.at {
		out = append(out, m)
	}
	return out
}
