package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/replication"
)

// solo orders commands by applying them; what it answers to Sync is the test's business.
type solo struct {
	s    *state.State
	mu   sync.Mutex
	at   uint64
	sync func(context.Context) error
}

func (l *solo) Propose(_ context.Context, command []byte) (uint64, any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at += 2 // revisions have gaps
	out, err := l.s.Apply([]replication.Entry{{Revision: l.at, Command: command}})
	if err != nil {
		return 0, nil, err
	}
	return l.at, out[0], nil
}

func (l *solo) Sync(ctx context.Context) error { return l.sync(ctx) }

func newState() (*state.State, *solo) {
	s := state.New()
	l := &solo{s: s, sync: func(context.Context) error { return nil }}
	s.Attach(l)
	return s, l
}

func add(name string) state.Proposal {
	return state.Proposal{Change: catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(name)}}}, At: time.Unix(1, 0)}
}

func TestAnEntryThatIsNotUnderstoodStopsTheController(t *testing.T) {
	s, _ := newState()
	for what, entry := range map[string]string{
		"rubbish":              "rubbish",
		"an unknown change":    `{"format":1,"at":"2026-01-01T00:00:00Z","kind":"node.explode","change":{}}`,
		"of a later version":   `{"format":99,"at":"2026-01-01T00:00:00Z","kind":"node.add","change":{"nodes":[]}}`,
		"with an unknown part": `{"format":1,"at":"2026-01-01T00:00:00Z","kind":"node.delete","change":{"nodes":[],"force":true}}`,
	} {
		before := s.Current()
		_, err := s.Apply([]replication.Entry{{Revision: 7, Command: []byte(entry)}})
		if !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "does not understand") {
			t.Errorf("%s: %v", what, err)
		}
		if s.Current() != before {
			t.Errorf("%s changed the catalog", what)
		}
	}
}

func TestProposalsSayWhatCameOfThem(t *testing.T) {
	s, l := newState()
	rev, err := s.Propose(t.Context(), add("n1"))
	if err != nil || rev != 2 {
		t.Errorf("revision %d, %v", rev, err)
	}
	if _, err := s.Propose(t.Context(), add("n1")); !errors.Is(err, fault.Conflict) {
		t.Errorf("the same node again: %v", err)
	}
	if _, err := s.Preview(add("n1")); !errors.Is(err, fault.Conflict) {
		t.Errorf("a preview of it: %v", err)
	}
	at := l.at
	if p, err := s.Preview(add("n2")); err != nil || l.at != at || p.Nodes != 1 || !p.Changed {
		t.Errorf("a preview: %v, and the log is at %d, not %d", err, l.at, at)
	}
	p := add("n3")
	p.Request = strings.Repeat("x", state.MaxRequest+1)
	if _, err := s.Propose(t.Context(), p); !errors.Is(err, fault.Invalid) {
		t.Errorf("too long a request ID: %v", err)
	}
}

func TestEntriesAreKeptForFollowersUpToABound(t *testing.T) {
	s, l := newState()
	const n = 9000
	entries := make([]replication.Entry, n)
	for i := range entries {
		b, err := catalog.Entry{At: time.Unix(1, 0), Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"nobody"}}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		entries[i] = replication.Entry{Revision: uint64(2 * (i + 1)), Command: b}
	}
	if _, err := s.Apply(entries); err != nil {
		t.Fatal(err)
	}
	l.at = 2 * n
	if _, _, ok := s.Since(0); ok {
		t.Error("all of 9000 entries are kept")
	}
	if _, _, ok := s.Since(2*n + 1); ok {
		t.Error("the future is known")
	}
	for _, since := range []catalog.Revision{2 * n, 2*n - 1, 2*n - 2, 2*n - 100, 2 * (n - 8192)} {
		got, c, ok := s.Since(since)
		want := (2*n - int(since) + 1) / 2
		if !ok || len(got) != want || c.Revision != 2*n {
			t.Errorf("since %d: %d entries, %v; want %d", since, len(got), ok, want)
		}
		if len(got) > 0 && got[0].Revision <= since {
			t.Errorf("since %d: the first is %d", since, got[0].Revision)
		}
	}
	if _, _, ok := s.Since(2*(n-8192) - 1); ok {
		t.Error("more entries are kept than should be")
	}
}

func TestASnapshotBringsBackTheSameCatalog(t *testing.T) {
	s, _ := newState()
	for i := range 10 {
		if _, err := s.Propose(t.Context(), add(fmt.Sprint("n", i))); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := s.Snapshot().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	other, _ := newState()
	_, over := other.Watch()
	if err := other.Restore(bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
	default:
		t.Error("watchers were not told of the restored catalog")
	}
	if got, want := other.Current().Hash, s.Current().Hash; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	if _, _, ok := other.Since(2); ok {
		t.Error("entries from before the snapshot are known")
	}
	if _, _, ok := other.Since(other.Current().Revision); !ok {
		t.Error("who is at the snapshot's revision needs nothing more")
	}
	before := other.Current()
	if err := other.Restore(bytes.NewReader(b.Bytes()[:b.Len()/2])); !errors.Is(err, fault.Corrupt) || other.Current() != before {
		t.Errorf("half a snapshot: %v", err)
	}
}

func TestWaitersSeeTheRevisionOrTheirTimeRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newState()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Wait(ctx, 2); !errors.Is(err, fault.Timeout) {
			t.Errorf("nothing happened: %v", err)
		}
		got := make(chan catalog.Revision, 3)
		for range cap(got) {
			go func() {
				c, err := s.Wait(t.Context(), 2)
				if err != nil {
					t.Error(err)
				}
				got <- c.Revision
			}()
		}
		synctest.Wait()
		if _, err := s.Propose(t.Context(), add("n1")); err != nil {
			t.Fatal(err)
		}
		for range cap(got) {
			if rev := <-got; rev < 2 {
				t.Errorf("woken at %d", rev)
			}
		}
	})
}

func TestReadersShareQuestionsButNeverAnOlderOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newState()
		var mu sync.Mutex
		asked := 0
		l.sync = func(ctx context.Context) error {
			mu.Lock()
			asked++
			mu.Unlock()
			time.Sleep(time.Second)
			return ctx.Err()
		}
		var wg sync.WaitGroup
		wg.Go(func() { s.Fresh(t.Context()) })
		synctest.Wait() // its question is under way
		start := time.Now()
		for range 1000 {
			wg.Go(func() {
				if _, err := s.Fresh(t.Context()); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != 2*time.Second { // the one under way began before: it does not count
					t.Errorf("answered after %s", took)
				}
			})
		}
		wg.Wait()
		if asked != 2 {
			t.Errorf("the leader was asked %d times for 1001 reads", asked)
		}

		// Nobody is left to wait: the question ends.
		ended := make(chan error, 1)
		l.sync = func(ctx context.Context) error { <-ctx.Done(); ended <- ctx.Err(); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Fresh(ctx); !errors.Is(err, fault.Timeout) {
			t.Errorf("no answer: %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the question went on: %v", err)
		}
	})
}
