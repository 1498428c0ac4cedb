package replication

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// fewEntries makes a member keep next to nothing behind a snapshot, so that who lags needs the snapshot.
func fewEntries(cfg *Config) { cfg.KeepEntries = 2 }

func TestLaggingMemberIsSentASnapshotWhileWritesGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3, fewEntries)
		leader := c.leader()
		lag := map[string]string{"c1": "c2", "c2": "c3", "c3": "c1"}[leader]
		c.stop(lag)
		for i := range 30 {
			c.propose(fmt.Sprint("early", i))
		}
		for _, m := range c.at {
			if err := m.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.at[leader].Snapshot(t.Context()); !errors.Is(err, fault.Unavailable) {
			t.Logf("a second snapshot of the same state: %v", err)
		}
		w := c.write(3)
		c.start(lag, fewEntries)
		time.Sleep(5 * time.Second)
		w.finish()
		got := c.agree()
		w.check(t, got)
		if w.unknown+w.refused > 3*len(w.acked) {
			t.Errorf("writes suffered: %d acknowledged, %d not", len(w.acked), w.unknown+w.refused)
		}
		if c.at[lag].machine.restores != 1 {
			t.Errorf("%s was restored %d times", lag, c.at[lag].machine.restores)
		}
		// And everybody starts again from what is on disk.
		for _, id := range []string{"c1", "c2", "c3"} {
			c.stop(id)
		}
		for _, id := range []string{"c1", "c2", "c3"} {
			c.start(id, fewEntries)
		}
		if again := c.agree(); !slices.Equal(again, got) {
			t.Errorf("%d commands after a restart, %d before", len(again), len(got))
		}
	})
}

// A state that takes its time to be written must not keep commands waiting.
func TestWritesGoOnWhileASnapshotIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		cfg := c.config("c1")
		cfg.Listener = c.net.listen(cfg.Addr)
		slow := &slowSnapshots{begun: make(chan struct{}), release: make(chan struct{})}
		n, err := New(cfg, slow)
		if err != nil {
			t.Fatal(err)
		}
		m := &member{Node: n, machine: &slow.ledger, ended: make(chan error, 1), cancel: func() {}}
		c.at["c1"] = m
		ctx := within(time.Minute)
		go func() { m.ended <- n.Run(ctx) }()
		c.propose("a")
		stored := make(chan error, 1)
		go func() { stored <- n.Snapshot(ctx) }()
		<-slow.begun
		for i := range 10 {
			c.propose(fmt.Sprint("b", i))
		}
		close(slow.release)
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	})
}

// A few entries that took long to apply would take as long at every start.
func TestWorkOfMoreThanASecondIsNotDoneAgainAtAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		for i := range 25 {
			c.propose(fmt.Sprint("slow", i))
		}
		time.Sleep(time.Second)
		want := c.agree()
		for _, id := range []string{"c1", "c2", "c3"} {
			c.stop(id)
		}
		began := time.Now()
		for _, id := range []string{"c1", "c2", "c3"} {
			c.start(id)
		}
		if got := c.agree(); !slices.Equal(got, want) {
			t.Errorf("%d commands after a restart, %d before", len(got), len(want))
		}
		t.Logf("the same state after %s", time.Since(began))
		for id, m := range c.at {
			if m.machine.restores != 1 {
				t.Errorf("%s was restored %d times", id, m.machine.restores)
			}
			if work := time.Duration(m.driver.work.Load()); work > 1500*time.Millisecond {
				t.Errorf("%s worked for %s on what it had applied before", id, work)
			}
		}
	})
}

type slowSnapshots struct {
	ledger
	begun, release chan struct{}
}

func (s *slowSnapshots) Snapshot() io.WriterTo { return slowState{s, s.ledger.Snapshot()} }

type slowState struct {
	s     *slowSnapshots
	inner io.WriterTo
}

func (s slowState) WriteTo(w io.Writer) (int64, error) {
	close(s.s.begun)
	<-s.s.release
	return s.inner.WriteTo(w)
}

// Issue 697 of hashicorp/raft: a follower whose uncommitted tail reaches beyond the leader's snapshot installs that
// snapshot again and again. Without the guard this test sees hundreds of restores and no end.
func TestConflictingTailHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3, fewEntries)
		c.propose("common")
		old := c.leader()
		cut := c.at[old]
		c.net.part(1, addr(old))
		for i := range 60 { // a long tail that nobody else has
			go cut.Propose(within(10*time.Second), fmt.Append(nil, "lost", i))
		}
		c.leader()
		for i := range 10 { // the others' log goes less far than the tail
			c.propose(fmt.Sprint("kept", i))
		}
		for id, m := range c.at {
			if id != old {
				if err := m.Snapshot(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if tail, theirs := cut.Status().Last, c.at[c.leader()].Status().Last; tail <= theirs {
			t.Fatalf("the tail ends at %d, the others' log at %d: no conflict", tail, theirs)
		}
		time.Sleep(10 * time.Second)
		c.net.heal()
		at := time.Now()
		c.agree()
		t.Logf("healed after %v", time.Since(at))
		c.propose("after")
		if got := c.agree(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "lost") }) {
			t.Errorf("commands that were never acknowledged came through beside others: %q", got)
		}
		if s := cut.Status(); s.ConflictRestarts != 1 || cut.machine.restores > 2 { // the answer to the first may be lost in the restart
			t.Errorf("%d restarts and %d restores, want one, and one or two", s.ConflictRestarts, cut.machine.restores)
		}
		// The member that healed also leads and restarts as any other.
		c.stop(old)
		c.start(old, fewEntries)
		c.propose("end")
		c.agree()
	})
}

// A machine that stays in memory while raft is restarted is not led back to the newest snapshot.
func TestRestartInPlaceKeepsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(1)
		for i := range 10 {
			c.propose(fmt.Sprint("a", i))
		}
		n := c.at["c1"]
		if err := n.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.propose("b")
		before := n.machine.all()
		old := n.current.Load()
		old.restart("this test")
		c.await("another instance runs", func() bool { in := n.current.Load(); return in != nil && in != old })
		c.propose("c")
		if got := c.agree(); !slices.Equal(got, append(before, "c")) || n.machine.restores != 0 {
			t.Errorf("after a restart in place: %q, %d restores", got, n.machine.restores)
		}
		if err := n.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.stop("c1")
		c.start("c1")
		if got := c.agree(); !slices.Equal(got, append(before, "c")) {
			t.Errorf("after a restart: %q", got)
		}
	})
}

// testSnapshot stores a snapshot and returns its bytes.
func testSnapshot(t testing.TB, dir string, state string) (*raft.FileSnapshotStore, *snapshots, []byte) {
	t.Helper()
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, newRaftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshots{SnapshotStore: files, log: raft.NewInmemStore()}
	_, trans := raft.NewInmemTransport("")
	sink, err := s.Create(1, 9, 2, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&snapshot{revision: 8, state: lines{state}}).Persist(sink); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, rc, err := files.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return files, s, b
}

func TestSnapshotIsVerifiedBeforeItIsTaken(t *testing.T) { synctest.Test(t, testSnapshotIsVerified) }

func testSnapshotIsVerified(t *testing.T) {
	state := strings.Repeat("0123456789", 20_000)
	files, s, good := testSnapshot(t, t.TempDir(), state)
	_, trans := raft.NewInmemTransport("")
	install := func(b []byte, index uint64) error {
		sink, err := s.Create(1, index, 2, raft.Configuration{}, 1, trans)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 { // in odd pieces
			k := min(len(b), 1+len(b)/3)
			if _, err := sink.Write(b[:k]); err != nil {
				return err
			}
			b = b[k:]
		}
		return sink.Close()
	}
	time.Sleep(2 * time.Millisecond) // snapshots are named by the millisecond
	if err := install(good, 9); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	flip := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 4; return b }
	for name, b := range map[string][]byte{
		"magic": flip(0), "version": flip(7), "revision": flip(15), "index": flip(23), "configuration": flip(snapshotHeadLen - 1),
		"state": flip(snapshotHeadLen + 1000), "length": flip(len(good) - 5), "sum": flip(len(good) - 1),
		"torn": good[:len(good)-1], "head only": good[:snapshotHeadLen], "torn head": good[:10], "nothing": nil, "more": append(bytes.Clone(good), 0),
	} {
		if err := install(b, 9); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := install(good, 10); !errors.Is(err, fault.Corrupt) {
		t.Errorf("a snapshot of index 9 was taken for index 10: %v", err)
	}
	if all, err := files.List(); err != nil || len(all) != 2 {
		t.Errorf("%d snapshots are kept, %v", len(all), err)
	}
}

func TestDamagedSnapshotEndsInAnErrorNotInEOF(t *testing.T) {
	_, _, good := testSnapshot(t, t.TempDir(), strings.Repeat("0123456789", 20_000))
	for _, at := range []int{snapshotHeadLen, snapshotHeadLen + 150_000, len(good) - 1, len(good) - 10} {
		b := bytes.Clone(good)
		b[at] ^= 1
		r, err := newSnapshotReader(bytes.NewReader(b))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, fault.Corrupt) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	r, err := newSnapshotReader(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != 200_000 {
		t.Errorf("the good one: %d bytes, %v", len(got), err)
	}
}

func FuzzSnapshotReader(f *testing.F) {
	_, _, good := testSnapshot(f, f.TempDir(), "state")
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newSnapshotReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if err == nil && len(got)+snapshotHeadLen+snapshotTailLen != len(b) {
			t.Fatalf("%d bytes of state out of %d", len(got), len(b))
		}
	})
}

// A follower that was sent a snapshot, stored what came after it, and lost its answer to that, must take the same
// entries again.
func TestRequestThatFollowsASnapshotFits(t *testing.T) {
	stored := func(indexes ...uint64) raft.LogStore {
		s := raft.NewInmemStore()
		for _, i := range indexes {
			if err := s.StoreLog(&raft.Log{Index: i, Term: 3}); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	snap := &raft.SnapshotMeta{Index: 20, Term: 3}
	for name, c := range map[string]struct {
		log        raft.LogStore
		newest     *raft.SnapshotMeta
		prev, term uint64
		settled    bool
	}{
		"the log begins after it":    {stored(21, 22), snap, 20, 3, true},
		"the entry is there":         {stored(20, 21), snap, 20, 3, false}, // raft sees for itself
		"the log is empty":           {stored(), snap, 20, 3, false},       // the same
		"of another term":            {stored(21), snap, 20, 2, false},
		"another entry":              {stored(21), snap, 21, 3, false},
		"the log begins further on":  {stored(30), snap, 20, 3, false},
		"the log begins before it":   {stored(7), snap, 20, 3, false},
		"there is no snapshot":       {stored(21), nil, 20, 3, false},
		"a heartbeat has no entries": {stored(21), snap, 0, 0, false},
	} {
		req := &raft.AppendEntriesRequest{PrevLogEntry: c.prev, PrevLogTerm: c.term}
		settleBoundary(req, c.newest, c.log)
		if got := req.PrevLogEntry == 0 && c.prev != 0; got != c.settled {
			t.Errorf("%s: settled %v, want %v", name, got, c.settled)
		}
	}
}
