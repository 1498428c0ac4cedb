package catalog_test

import (
	"errors"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Asking nodes is remembered with who asked and when, decides nothing, and leaves nothing to be taken back.
func TestNodesAreAskedAndNothingIsDecided(t *testing.T) {
	l := started(t)
	l.must(catalog.AddNodes{Names: catalog.NodeSet{"n3"}})
	before, _ := l.c.Node("n1")
	asked := at.Add(time.Hour)
	if out := l.entry(catalog.Entry{By: "ann", At: asked, Change: catalog.SyncNodes{Nodes: catalog.NodeSet{"n1", "n3"}}}); out.Err != nil {
		t.Fatal(out.Err)
	}
	n1, _ := l.c.Node("n1")
	n2, _ := l.c.Node("n2")
	if !n1.Synced.Equal(asked) || !n2.Synced.IsZero() || !before.Synced.IsZero() {
		t.Errorf("asked at %s, n2 at %s, before at %s", n1.Synced, n2.Synced, before.Synced)
	}
	r, ok := l.c.RecordOf(l.c.Revision)
	if !ok || r.Undo != nil || r.Nodes.String() != "n[1,3]" || r.By != "ann" {
		t.Errorf("the record is %+v", r)
	}
	if rev := l.c.Settled(asked); rev != l.c.Revision {
		t.Errorf("settled at that time is %d, not %d", rev, l.c.Revision)
	}
	if rev := l.c.Settled(asked.Add(-time.Nanosecond)); rev != l.c.Revision-1 {
		t.Errorf("settled before is %d", rev)
	}
	for _, bad := range []catalog.SyncNodes{{}, {Nodes: catalog.NodeSet{"n1", "n9"}}} {
		if err := l.do(bad); !errors.Is(err, fault.Invalid) && !errors.Is(err, fault.NotFound) {
			t.Errorf("%v: %v", bad.Nodes, err)
		}
	}
}
