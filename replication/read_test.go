package replication

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A leader that was paused finds answers in its sockets that are older than the read it is asked for.
func TestOldAnswersDoNotVouchForARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		c.propose("a")
		leader := c.leader()
		in := c.at[leader].current.Load()
		l := in.leading()
		c.net.part(1, addr(leader)) // it goes on believing for a heartbeat
		old := in.acks.mark()
		for _, m := range in.members() {
			time.AfterFunc(100*time.Millisecond, func() {
				in.acks.received(m.serverID(), ack{seq: old, term: l.term, at: time.Now()})
			})
		}
		if rev, err := c.at[leader].ReadIndex(within(300 * time.Millisecond)); !errors.Is(err, fault.Timeout) {
			t.Errorf("ReadIndex = %d, %v with nothing but old answers", rev, err)
		}
		if in.leading() == nil {
			t.Fatal("the test took too long: it does not lead any more")
		}
	})
}

func TestReadsAreAnsweredUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		w := c.write(3)
		for range 50 {
			time.Sleep(37 * time.Millisecond)
			w.mu.Lock()
			acked := w.maxRev
			w.mu.Unlock()
			rev, err := c.at[c.leader()].ReadIndex(t.Context())
			if err != nil || rev < acked {
				t.Fatalf("ReadIndex = %d, %v, and %d was acknowledged before", rev, err, acked)
			}
			for id, m := range c.at {
				if err := m.Wait(within(testHeartbeat), rev); err != nil {
					t.Fatalf("%s: %v", id, err)
				}
			}
		}
		w.finish()
	})
}

// Issue 696 of hashicorp/raft: a transfer that was interrupted at a bad moment leaves its mark, and the leader
// refuses everything from then on. The mark is set here by hand.
func TestLeaderStuckInATransferIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(1)
		c.propose("a")
		in := c.at["c1"].current.Load()
		mark := reflect.ValueOf(in.raft).Elem().FieldByName("leaderState").FieldByName("leadershipTransferInProgress")
		*(*int32)(unsafe.Pointer(mark.UnsafeAddr())) = 1
		in.transferred.Store(true)
		if _, _, err := c.at["c1"].Propose(t.Context(), []byte("b")); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "handed over") {
			t.Fatalf("Propose = %v", err)
		}
		at := time.Now()
		c.propose("c")
		t.Logf("orders again after %v", time.Since(at))
		if s := c.at["c1"].Status(); s.TransferRestarts != 1 {
			t.Errorf("%d restarts", s.TransferRestarts)
		}
	})
}

func TestChangedFiresWhenLeadershipMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		c.propose("a")
		old := c.leader()
		for id, m := range c.at {
			if id == old {
				continue
			}
			go func() {
				for {
					changed := m.Changed()
					if l, ok := m.Leader(); ok && l.ID != old {
						m.machine.mu.Lock()
						m.machine.restores = 99
						m.machine.mu.Unlock()
						return
					}
					select {
					case <-changed:
					case <-m.done:
						return
					}
				}
			}()
		}
		c.kill(old)
		c.leader()
		c.await("the others were told", func() bool {
			for _, m := range c.at {
				m.machine.mu.Lock()
				told := m.machine.restores == 99
				m.machine.mu.Unlock()
				if !told {
					return false
				}
			}
			return true
		})
	})
}

func TestRaftSpeaksThroughSlog(t *testing.T) {
	var out bytes.Buffer
	var l hclog.Logger = newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	l.With("peer", "c2").Error("failed to heartbeat", "error", errors.New("refused"), "servers", hclog.Fmt("%+v", []int{1}))
	l.Error("failed to heartbeat", "error", "again")
	l.Info("detail")
	got := out.String()
	for _, want := range []string{"level=WARN", `msg="raft: failed to heartbeat"`, "peer=c2", "err=refused", "servers=[1]"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 1 {
		t.Errorf("%d lines, want the repetition and the detail at debug:\n%s", n, got)
	}
	var _ raft.LogStore = (*disk)(nil)
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	c := newCluster(t)
	good := c.config("c1")
	good.Listener = c.net.listen("c1:4400")
	if _, err := New(good, new(ledger)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no ID": func(c *Config) { c.ID = "" }, "strange ID": func(c *Config) { c.ID = "a~b" },
		"no directory": func(c *Config) { c.Dir = "" }, "no listener": func(c *Config) { c.Listener = nil },
		"begin and join": func(c *Config) { c.Peers = []string{"x:1"} }, "observer begins": func(c *Config) { c.Observer = true },
		"huge commands": func(c *Config) { c.MaxCommand = 1 << 30 }, "hectic": func(c *Config) { c.Heartbeat = time.Millisecond },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad, new(ledger)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n, _ := New(good, new(ledger))
	if _, _, err := n.Propose(t.Context(), make([]byte, 1<<20+1)); !errors.Is(err, fault.Invalid) {
		t.Errorf("a command that is too long: %v", err)
	}
}
