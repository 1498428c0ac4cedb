package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// written is a log of a cluster with some nodes, and the catalog that comes of it.
func written(t *testing.T, nodes int) ([]api.LogEntry, *catalog.Catalog) {
	t.Helper()
	c := &catalog.Catalog{}
	var entries []api.LogEntry
	changes := []catalog.Change{catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}}}
	for i := range nodes {
		changes = append(changes, catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(fmt.Sprintf("n%d", i))}}})
	}
	changes = append(changes, catalog.AddNodes{Nodes: []catalog.Node{{Name: "n0"}}}) // rejected: entries of that kind are followed too
	for _, change := range changes {
		b, err := catalog.Entry{At: time.Unix(1, 0), Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, _, err := c.Apply(c.Revision+2, b) // the log has entries of its own between those of the catalog
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, api.LogEntry{Revision: next.Revision, Entry: b})
		c = next
	}
	return entries, c
}

func TestAFollowerHoldsWhatTheControllerHolds(t *testing.T) {
	entries, want := written(t, 3)
	got := &catalog.Catalog{}
	for len(entries) > 0 { // in batches, as a feed brings them
		batch := entries[:min(2, len(entries))]
		entries = entries[len(batch):]
		next := got
		for _, e := range batch {
			var err error
			if next, _, err = next.Apply(e.Revision, e.Entry); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if got, err = api.Follow(got, &api.Delta{Entries: batch, Revision: next.Revision, Hash: next.Hash}); err != nil {
			t.Fatal(err)
		}
	}
	if got.Revision != want.Revision || got.Hash != want.Hash || got.NodeCount() != 3 {
		t.Errorf("the follower is at %d %s with %d nodes", got.Revision, got.Hash, got.NodeCount())
	}
	if same, err := api.Follow(got, &api.Delta{Revision: got.Revision, Hash: got.Hash}); err != nil || same != got {
		t.Errorf("no news changed the catalog: %v", err)
	}
}

// A follower that is not sure to hold the controller's catalog must not go on with it.
func TestAFollowerNoticesThatItHoldsSomethingElse(t *testing.T) {
	entries, end := written(t, 3)
	good := api.Delta{Entries: entries, Revision: end.Revision, Hash: end.Hash}
	other, _ := catalog.Entry{At: time.Unix(2, 0), Change: catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}}}.Encode()
	for name, change := range map[string]func(d *api.Delta){
		"another hash":     func(d *api.Delta) { d.Hash[0] ^= 1 },
		"another revision": func(d *api.Delta) { d.Revision++ },
		"one is missing":   func(d *api.Delta) { d.Entries = append(d.Entries[:1:1], d.Entries[2:]...) },
		"one is another": func(d *api.Delta) {
			d.Entries = append(d.Entries[:3:3], api.LogEntry{Revision: d.Entries[3].Revision, Entry: other}, d.Entries[4])
		},
		"another order": func(d *api.Delta) { d.Entries = append([]api.LogEntry{d.Entries[1], d.Entries[0]}, d.Entries[2:]...) },
		"one twice":     func(d *api.Delta) { d.Entries = append(d.Entries[:1:1], d.Entries...) },
		"one is damaged": func(d *api.Delta) {
			d.Entries = append(d.Entries[:4:4], api.LogEntry{Revision: d.Entries[4].Revision, Entry: []byte("{")})
		},
		"nothing at all": func(d *api.Delta) { d.Entries = nil },
	} {
		d := good
		change(&d)
		start := &catalog.Catalog{}
		if c, err := api.Follow(start, &d); !errors.Is(err, fault.Corrupt) || c != nil || start.Revision != 0 {
			t.Errorf("%s: got %v, %v", name, c, err)
		}
	}
}

func TestNewsIsADeltaOrAWholeCatalog(t *testing.T) {
	bubble(t, func(l *lab) {
		entries, end := written(l.t, 3)
		var snapshot bytes.Buffer
		if _, err := end.WriteTo(&snapshot); err != nil {
			l.t.Fatal(err)
		}
		l.serve("c2", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != api.PathCatalog || r.URL.Query().Get("wait") != "20s" {
				api.WriteError(w, fault.New(fault.Invalid, "asked for %s", r.URL))
				return
			}
			time.Sleep(20 * time.Second) // nothing has happened for as long as was allowed
			switch since := r.URL.Query().Get("since"); since {
			case "0":
				w.Header().Set("Content-Type", api.TypeSnapshot)
				_, _ = w.Write(snapshot.Bytes())
			case "1":
				w.Header().Set("Content-Type", api.TypeSnapshot)
				_, _ = w.Write(snapshot.Bytes()[:snapshot.Len()/2])
			case "2":
				w.Header().Set("Content-Type", "text/html")
			default:
				w.Header().Set("Content-Type", api.TypeDelta)
				_ = json.NewEncoder(w).Encode(api.Delta{Entries: entries, Revision: end.Revision, Hash: end.Hash})
			}
		})
		ctx := l.t.Context()
		if n, err := l.client.Catalog(ctx, 0, 20*time.Second); err != nil || n.Delta != nil || n.Snapshot.Hash != end.Hash {
			l.t.Errorf("the whole: %+v, %v", n, err)
		}
		if n, err := l.client.CatalogAt(ctx, "c2:4400", 7, 20*time.Second); err != nil || n.Snapshot != nil || len(n.Delta.Entries) != len(entries) || n.Delta.Hash != end.Hash {
			l.t.Errorf("a delta: %+v, %v", n, err)
		}
		if n, err := l.client.Catalog(ctx, 1, 20*time.Second); err == nil {
			l.t.Errorf("half a snapshot: %+v", n)
		}
		if n, err := l.client.Catalog(ctx, 2, 20*time.Second); !errors.Is(err, fault.Internal) || !strings.Contains(err.Error(), "text/html") {
			l.t.Errorf("something else: %+v, %v", n, err)
		}
		if _, err := l.client.CatalogAt(ctx, "c1:4400", 7, 20*time.Second); !errors.Is(err, fault.Unavailable) {
			l.t.Errorf("nobody there: %v", err)
		}
	})
}

// A controller may lack a chunk that another one has, because it was away or joins at this moment.
func TestAChunkComesFromWhoeverHasIt(t *testing.T) {
	missing := fails(fault.New(fault.NotFound, "no such chunk here"))
	for name, tc := range map[string]struct {
		c1, c2 http.HandlerFunc // nil: nobody there
		kind   fault.Kind
	}{
		"the first":           {says("chunk"), nil, ""},
		"the second":          {missing, says("chunk"), ""},
		"the one that lives":  {nil, says("chunk"), ""},
		"nobody has it":       {missing, missing, fault.NotFound},
		"nobody is there":     {nil, nil, fault.Unavailable},
		"who knows":           {nil, missing, fault.NotFound},
		"not for this caller": {fails(fault.New(fault.Denied, "no")), fails(fault.New(fault.Denied, "no")), fault.Denied},
	} {
		bubble(t, func(l *lab) {
			for host, answer := range map[string]http.HandlerFunc{"c1": tc.c1, "c2": tc.c2, "c3": tc.c2} {
				if answer != nil {
					l.serve(host, answer)
				}
			}
			body, err := l.client.Chunk(l.t.Context(), chunk.RefOf([]byte("x")))
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("%s: got %v, want %q", name, err, tc.kind)
			}
			if err != nil {
				return
			}
			defer body.Close()
			if b, err := io.ReadAll(body); err != nil || string(b) != "\"chunk\"\n" {
				t.Errorf("%s: got %q, %v", name, b, err)
			}
		})
	}
}
