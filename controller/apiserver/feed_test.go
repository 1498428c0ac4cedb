package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// follow is what a relay makes of an answer of PathCatalog.
func follow(t *testing.T, have *catalog.Catalog, w *httptest.ResponseRecorder) (next *catalog.Catalog, whole bool) {
	t.Helper()
	if err := problemOf(t, w); err != nil {
		t.Fatal(err)
	}
	switch media := w.Header().Get("Content-Type"); media {
	case api.TypeSnapshot:
		c, err := catalog.ReadSnapshot(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		return c, true
	case api.TypeDelta:
		var d api.Delta
		if err := unmarshal(w.Body.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		c, err := api.Follow(have, &d)
		if err != nil {
			t.Fatal(err)
		}
		return c, false
	default:
		t.Fatalf("the catalog came as %q", media)
		return nil, false
	}
}

func TestFollowersGetTheWholeOnceAndThenWhatHappened(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	c, whole := follow(t, nil, b.ask(r1, "GET", api.PathCatalog, nil))
	if !whole || c.Hash != b.cfg.State.Current().Hash {
		t.Fatalf("whole %v, revision %d", whole, c.Revision)
	}
	for i := range 5 {
		b.must(addNode(catalog.NodeName(fmt.Sprintf("n%d", i))))
		if _, err := b.propose(t.Context(), addNode("n0"), "test", ""); i > 0 && err == nil {
			t.Fatal("n0 was made twice") // rejected entries are part of the feed too
		}
	}
	c, whole = follow(t, c, b.ask(r1, "GET", fmt.Sprintf("%s?since=%d", api.PathCatalog, c.Revision), nil))
	if whole || c.Hash != b.cfg.State.Current().Hash || c.NodeCount() != 5 {
		t.Errorf("whole %v, %d nodes at revision %d", whole, c.NodeCount(), c.Revision)
	}
}

func TestFollowersTooFarBehindOrAheadGetTheWhole(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	old := b.cfg.State.Current()
	b.must(addNode("n1"))
	var snapshot bytes.Buffer
	if _, err := b.cfg.State.Snapshot().WriteTo(&snapshot); err != nil {
		t.Fatal(err)
	}
	if err := b.cfg.State.Restore(&snapshot); err != nil { // as a controller that was away: it never saw the entries
		t.Fatal(err)
	}
	b.must(addNode("n2"))
	for what, since := range map[string]catalog.Revision{
		"too far behind": old.Revision,
		"from a cluster that was put back to an older state": old.Revision + 1000,
	} {
		c, whole := follow(t, old, b.ask(r1, "GET", fmt.Sprintf("%s?since=%d", api.PathCatalog, since), nil))
		if !whole || c.Hash != b.cfg.State.Current().Hash {
			t.Errorf("%s: whole %v at %d", what, whole, c.Revision)
		}
	}
}

func TestTheFeedWaitsForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		r1 := b.admitRelay("r1", "10.1.0.1", "rack")
		c := b.cfg.State.Current()
		path := fmt.Sprintf("%s?since=%d&wait=20s", api.PathCatalog, c.Revision)

		start := time.Now()
		same, whole := follow(t, c, b.ask(r1, "GET", path, nil))
		if took := time.Since(start); whole || same.Revision != c.Revision || took != 20*time.Second {
			t.Errorf("without news: after %s, whole %v", took, whole)
		}

		// A thousand relays wait; one change answers them all, encoded once.
		answers := make(chan *httptest.ResponseRecorder, 1000)
		for range cap(answers) {
			go func() { answers <- b.ask(r1, "GET", path, nil) }()
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		start = time.Now()
		b.must(addNode("n1"))
		var first []byte
		for range cap(answers) {
			w := <-answers
			if first == nil {
				first = w.Body.Bytes()
			} else if !bytes.Equal(first, w.Body.Bytes()) {
				t.Fatal("two relays were told different things")
			}
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("the news took %s", took)
		}
		if n := len(b.feed.deltas); n != 1 {
			t.Errorf("%d deltas were encoded", n)
		}
	})
}

func TestBadFeedQueriesAreRefused(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	for _, q := range []string{"since=x", "since=-1", "wait=x&since=1", "wait=-1s&since=1"} {
		if err := problemOf(t, b.ask(r1, "GET", api.PathCatalog+"?"+q, nil)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", q, err)
		}
	}
}
