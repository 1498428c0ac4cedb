package replication

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// edit changes a stored entry behind everybody's back: the newest whose bytes contain what.
func (c *cluster) edit(id, what string, change func([]byte) []byte) {
	c.t.Helper()
	db, err := bbolt.Open(c.path(id, storeDir, databaseFile), 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true})
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("logs"))
		cur := b.Cursor()
		for k, v := cur.Last(); k != nil; k, v = cur.Prev() {
			if bytes.Contains(v, []byte(what)) {
				return b.Put(bytes.Clone(k), change(bytes.Clone(v)))
			}
		}
		return fmt.Errorf("no entry has %q", what)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestDamagedEntryStopsALoneMember(t *testing.T) {
	flip := func(b []byte) []byte { b[bytes.Index(b, []byte("precious"))] ^= 1; return b }
	tear := func(b []byte) []byte { return b[:len(b)/2] }
	for name, change := range map[string]func([]byte) []byte{"flipped": flip, "torn": tear} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.grow(1)
				c.propose("a")
				c.propose("precious")
				c.propose("b")
				c.stop("c1")
				c.edit("c1", "precious", change)
				for range 2 { // it stays that way
					m := c.start("c1")
					err := <-m.ended
					if !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "damaged and no other controller is known to have it") || fault.Fix(err) == "" {
						t.Fatalf("Run = %v, fix %q", err, fault.Fix(err))
					}
					if got := m.machine.all(); len(got) != 0 {
						t.Errorf("the machine was given %q", got)
					}
					t.Log(err)
					delete(c.at, "c1")
				}
				if _, err := os.Stat(c.path("c1", storeDir, databaseFile)); err != nil {
					t.Errorf("the damaged log was not left in its place: %v", err)
				}
			})
		})
	}
}

func TestDamagedEntryIsFetchedFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		c.propose("precious")
		c.propose("b")
		want := c.agree()
		c.stop("c2")
		c.edit("c2", "precious", func(b []byte) []byte { b[bytes.Index(b, []byte("precious"))] ^= 1; return b })
		at := time.Now()
		c.start("c2")
		c.await("c2 votes again", func() bool { return c.at["c2"].Status().Self.Voter })
		t.Logf("c2 votes again after %v, of which %v are Config.StableAfter", time.Since(at), c.at["c2"].cfg.StableAfter)
		if got := c.agree(); !slices.Equal(got, want) {
			t.Errorf("the log has %q, want %q", got, want)
		}
		aside := c.at["c2"].Status().SetAside
		if _, err := os.Stat(filepath.Join(aside, databaseFile)); err != nil || !strings.Contains(aside, quarantine) {
			t.Errorf("set aside in %q: %v", aside, err)
		}
		c.stop("c2")
		c.start("c2")
		c.propose("c")
		c.agree()
	})
}

// Damage that shows while the log runs (here: in an entry that a lagging member needs) stops the one who reads it.
func TestDamageFoundWhileRunningStopsTheMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("c1")
		c.leader()
		rev := c.propose("precious")
		for range cachedEntries + 1 {
			go c.at["c1"].Propose(t.Context(), []byte("x"))
		}
		synctest.Wait()
		d := c.at["c1"].current.Load().disk
		var l raft.Log
		if err := d.db.GetLog(rev, &l); err != nil {
			t.Fatal(err)
		}
		l.Data = bytes.Replace(l.Data, []byte("precious"), []byte("Precious"), 1)
		if err := d.db.StoreLog(&l); err != nil {
			t.Fatal(err)
		}
		c.start("c2") // needs everything from the beginning
		if err := <-c.at["c1"].ended; !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "seal") {
			t.Fatalf("Run = %v", err)
		}
		if got := c.at["c2"].machine.all(); slices.Contains(got, "Precious") {
			t.Errorf("the damage has spread: %q", got)
		}
		delete(c.at, "c1")
	})
}

func TestCommandThatIsNotUnderstoodStopsEverybodyWhoIsGivenIt(t *testing.T) {
	for _, command := range []string{"poison", "panic"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			c.grow(3)
			c.propose("a")
			leader := c.leader()
			if _, _, err := c.at[leader].Propose(t.Context(), []byte(command)); !errors.Is(err, fault.Unknown) {
				t.Errorf("Propose = %v, want unknown", err)
			}
			if err := <-c.at[leader].ended; !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "revisions") {
				t.Errorf("Run = %v", err)
			}
			delete(c.at, leader)
		})
	}
}

func TestEntryDamagedOnItsWayIsRefused(t *testing.T) {
	dir := t.TempDir()
	st, err := openStore(dir, slog.New(slog.DiscardHandler), func(err error) { t.Errorf("fatal: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	good := raft.Log{Index: 1, Term: 3, Type: raft.LogCommand, Data: encodeFrame([]byte("x"))}
	good.Extensions = sealOf(&good)
	for name, change := range map[string]func(*raft.Log){
		"data": func(l *raft.Log) { l.Data = encodeFrame([]byte("y")) }, "term": func(l *raft.Log) { l.Term++ },
		"type": func(l *raft.Log) { l.Type = raft.LogNoop }, "index": func(l *raft.Log) { l.Index++ },
	} {
		l := good
		change(&l)
		if err := st.disk.StoreLogs([]*raft.Log{&l}); !errors.Is(err, fault.Corrupt) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := st.disk.StoreLogs([]*raft.Log{&good}); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// flips is how many single bits TestFlippedBitsAreNotSilent flips.
const flips = 60

// The same trial on raft-boltdb alone changed entries without a word for a quarter of the flips.
func TestFlippedBitsAreNotSilent(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	st, err := openStore(dir, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.disk.SetUint64([]byte(keyTerm), 7); err != nil {
		t.Fatal(err)
	}
	var want []raft.Log
	for i := range 400 {
		l := raft.Log{Index: uint64(i + 1), Term: uint64(1 + i/100), Data: encodeFrame(bytes.Repeat([]byte{byte(i)}, 40+i%200))}
		if err := st.disk.StoreLog(&l); err != nil {
			t.Fatal(err)
		}
		want = append(want, l)
		if i%40 == 0 && i < 300 { // leave free pages and old versions behind
			if err := st.disk.DeleteRange(1, 1); err != nil {
				t.Fatal(err)
			}
			if err := st.disk.StoreLog(&want[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := st.close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	var told, harmless, silent int
	for i := range flips {
		b := bytes.Clone(good)
		at := rand.IntN(len(b) * 8)
		b[at/8] ^= 1 << (at % 8)
		// A place of its own for each, because bbolt keeps its lock on a file that it panicked over.
		dir := filepath.Join(dir, fmt.Sprint("flip", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, databaseFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := openStore(dir, log, nil)
		if err != nil {
			if !errors.Is(err, fault.Corrupt) {
				t.Errorf("flip %d of bit %d: %v is not called corrupt", i, at, err)
			}
			told++
			continue
		}
		same := true
		for _, w := range want {
			var l raft.Log
			if err := st.disk.entry(w.Index, &l); err != nil || l.Term != w.Term || l.Type != w.Type || !bytes.Equal(l.Data, w.Data) {
				same = false
			}
		}
		if term, err := st.disk.GetUint64([]byte(keyTerm)); err != nil || term != 7 {
			same = false
		}
		if same {
			harmless++
		} else {
			silent++
			t.Errorf("flip of bit %d (byte %d of page %d) changed the log and nobody said so", at, at/8%4096, at/8/4096)
		}
		st.close()
	}
	t.Logf("of %d flips %d were told, %d hit nothing, %d were silent", flips, told, harmless, silent)
}

func TestStoreIsUsedByOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := slog.New(slog.DiscardHandler)
		st, err := openStore(dir, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer st.close()
		if _, err := openStore(dir, log, nil); !errors.Is(err, fault.Conflict) {
			t.Errorf("opening it again: %v", err)
		}
	})
}

func TestTruncatedDatabaseIsDamaged(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, part := range []int64{1, 2, 3} { // quarters left
		dir := t.TempDir()
		st, err := openStore(dir, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.disk.SetUint64([]byte(keyTerm), 1); err != nil {
			t.Fatal(err)
		}
		for i := range uint64(50) {
			if err := st.disk.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: encodeFrame(make([]byte, 3000))}); err != nil {
				t.Fatal(err)
			}
		}
		st.close()
		path := filepath.Join(dir, databaseFile)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()*part/4); err != nil {
			t.Fatal(err)
		}
		st, err = openStore(dir, log, nil)
		if err != nil {
			if !errors.Is(err, fault.Corrupt) {
				t.Errorf("%d/4 of the file: %v", part, err)
			}
			continue
		}
		for i := range uint64(50) { // nothing but free pages may have gone
			var l raft.Log
			if err := st.disk.entry(i+1, &l); err != nil {
				t.Errorf("%d/4 of the file were taken for good, and then: %v", part, err)
			}
		}
		st.close()
	}
}

// A damaged snapshot that the log makes up for goes; one that held the only copy is damage.
func TestDamagedSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(1)
		c.propose("a")
		if err := c.at["c1"].Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.propose("b")
		if err := c.at["c1"].Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.stop("c1")
		states := c.states("c1")
		if len(states) != 2 {
			t.Fatalf("%d snapshots", len(states))
		}
		ruin := func(path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ruin(states[1]) // the log still has everything
		c.start("c1")
		c.leader()
		if got := c.agree(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("with a damaged snapshot: %q", got)
		}
		if left := c.states("c1"); len(left) != 1 {
			t.Errorf("%d snapshots are left", len(left))
		}
		c.stop("c1")
		c.start("c1", fewEntries)
		for range 10 {
			c.propose("c")
		}
		if err := c.at["c1"].Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.stop("c1")
		for _, s := range c.states("c1") {
			ruin(s)
		}
		m := c.start("c1")
		if err := <-m.ended; !errors.Is(err, fault.Corrupt) {
			t.Errorf("without any good snapshot Run = %v", err)
		}
		delete(c.at, "c1")
	})
}

// states returns the state files of a member's snapshots, oldest first.
func (c *cluster) states(id string) []string {
	out, err := fs.Glob(os.DirFS(c.path(id)), storeDir+"/"+snapshotDir+"/*/state.bin")
	if err != nil {
		c.t.Fatal(err)
	}
	slices.SortFunc(out, func(a, b string) int {
		i, _ := snapshotIndex(filepath.Base(filepath.Dir(a)))
		j, _ := snapshotIndex(filepath.Base(filepath.Dir(b)))
		return int(i) - int(j)
	})
	for i := range out {
		out[i] = c.path(id, out[i])
	}
	return out
}
