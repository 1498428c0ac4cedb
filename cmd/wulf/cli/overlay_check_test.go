package cli

import (
	"context"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
)

// heldChunks are chunks by their digest.
type heldChunks map[chunk.ID][]byte

func (h heldChunks) ReadAll(_ context.Context, ref chunk.Ref, _ int64) ([]byte, error) {
	return h[ref.ID], nil
}

// wholeCluster is a catalog of many nodes with the overlays that a new cluster has.
func wholeCluster(t testing.TB, nodes int) (*catalog.Catalog, heldChunks, []catalog.NodeName) {
	t.Helper()
	held := heldChunks{}
	shipped, err := overlay.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	changes := []catalog.Change{catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}}}
	for _, o := range shipped {
		body, err := o.Bundle.Encode()
		if err != nil {
			t.Fatal(err)
		}
		ref := chunk.RefOf(body)
		held[ref.ID] = body
		changes = append(changes, catalog.ShipOverlay{Name: catalog.OverlayName(o.Name), Base: ref, Files: len(o.Bundle.Files)})
	}
	names := make([]catalog.NodeName, nodes)
	many := catalog.AddNodes{Nodes: make([]catalog.Node, nodes)}
	addr := netip.MustParseAddr("10.1.0.1")
	for i := range names {
		names[i] = catalog.NodeName("r" + string(rune('a'+i%26)) + "n" + strconv.Itoa(i))
		many.Nodes[i] = catalog.Node{Name: names[i], Settings: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Address: new(addr)}}}}
		addr = addr.Next()
	}
	changes = append(changes,
		catalog.AddNetwork{Network: catalog.Network{Name: "all", Prefix: netip.MustParsePrefix("10.1.0.0/16"), Domain: "lab.example"}},
		catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{Overlays: catalog.OverlaySettings{System: overlay.DefaultSystem(), Runtime: overlay.DefaultRuntime()}}}, many)
	c := &catalog.Catalog{}
	for i, change := range changes {
		b, err := catalog.Entry{By: "test", At: time.Unix(0, 0), Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(catalog.Revision(i+1), b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	return c, held, names
}

// BenchmarkCheck is what wulf overlay check does for a whole cluster, once the catalog is here.
func BenchmarkCheck(b *testing.B) {
	c, held, names := wholeCluster(b, 40_000)
	for b.Loop() {
		k := newChecker(c, render.New(held, checkMemory))
		if err := k.all(b.Context(), names, func(int) {}); err != nil {
			b.Fatal(err)
		}
		r := k.result()
		b.ReportMetric(float64(r.Rendered), "rendered")
		b.ReportMetric(float64(r.Failed), "failed")
	}
}

// What all nodes share is rendered once, however many they are: or a check of a large cluster would take hours.
func TestACheckRendersOnceWhatNodesShare(t *testing.T) {
	rendered := func(nodes int) (perNode int) {
		c, held, names := wholeCluster(t, nodes)
		k := newChecker(c, render.New(held, checkMemory))
		if err := k.all(t.Context(), names, func(int) {}); err != nil {
			t.Fatal(err)
		}
		r := k.result()
		if r.Failed > 0 || len(r.Findings) > 0 {
			t.Errorf("shipped overlays are not as they should be: %+v", r.Findings)
		}
		return r.Rendered
	}
	few, many := rendered(10), rendered(110)
	again := rendered(210) - many
	if grown := many - few; grown != again || grown >= 110*10 {
		t.Errorf("100 nodes more render %d and %d templates more", grown, again)
	}
}
