package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// The leader dies again and again in a stream of writes: by kill -9, without power, in an orderly way. Nothing that was
// acknowledged is lost, nothing is applied twice, and all controllers hold the same at the end.
func TestLeadersDieInAStreamOfWrites(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		w := write(t, m, 3)
		for _, end := range []func(...string){m.Kill, m.PowerCut, m.Stop} {
			w.progress(m, 10+dice.IntN(20))
			time.Sleep(between(dice, 0, time.Second))
			old := m.Leader()
			end(old.Name)
			w.progress(m, 10+dice.IntN(20))
			m.Restart(old.Name)
		}
		w.stop()
		m.Settle()
		w.check(m)
		t.Logf("%d writes acknowledged", w.count())
	})
}

// A request that is sent again, to whichever controller, is answered as the first time.
func TestARequestIsAppliedOnce(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		add := func(request, node string) api.ChangeRequest {
			change := catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(node)}}}
			body, err := json.Marshal(change)
			if err != nil {
				t.Fatal(err)
			}
			return api.ChangeRequest{Request: request, Kind: catalog.KindOf(change), Change: body}
		}
		var first api.ChangeResult
		for i, c := range append(m.Controllers, m.Controllers...) {
			if i == 3 {
				leader := m.Leader()
				m.Kill(leader.Name)
				m.Leader()
				m.Restart(leader.Name)
				m.Settle()
			}
			client := m.ClientOf(c)
			var got api.ChangeResult
			if err := client.Post(m.Ctx(), api.PathChanges, add("once", "x1"), &got); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = got
			}
			if got != first {
				t.Errorf("%s answers with revision %d, not %d", c.Name, got.Revision, first.Revision)
			}
			if err := client.Post(m.Ctx(), api.PathChanges, add(fmt.Sprint("other", i), "x1"), nil); !errors.Is(err, fault.Conflict) {
				t.Errorf("another request for the same answers %v", err)
			}
			client.Close()
		}
	})
}

// Whoever writes through one controller reads it at every other at once.
func TestAWriteAtAnyControllerIsReadAtAll(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		for i := range 8 {
			at := m.Controllers[dice.IntN(3)]
			name := fmt.Sprintf("x%d", i)
			client := m.ClientOf(at)
			if _, err := client.Change(m.Ctx(), catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(name)}}}, api.ChangeOptions{}); err != nil {
				t.Fatal(err)
			}
			client.Close()
			for _, c := range m.Controllers {
				if v, err := get[api.NodeView](t, m, "/v1/nodes/"+name, c); err != nil || string(v.Name) != name {
					t.Errorf("%s written at %s reads at %s as %q, %v", name, at.Name, c.Name, v.Name, err)
				}
			}
		}
	})
}

// The leader is cut off with nobody: it acknowledges nothing and answers no linearizable read, while the others go on.
// Healed, all hold the same, without what was refused.
func TestAMinorityRefusesAndHeals(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		lone := m.Leader()
		m.Net.Partition([]string{lone.Name}, mesh.Names(m.Followers()...))
		w := write(t, m, 2) // they find the majority by themselves
		alone := m.ClientOf(lone)
		const attempts = 3
		refused := 0
		for i := range attempts {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			rev, err := alone.Change(ctx, catalog.AddNodes{Nodes: []catalog.Node{{Name: catalog.NodeName(fmt.Sprintf("lost%d", i))}}}, api.ChangeOptions{})
			if err == nil {
				t.Errorf("%s acknowledged revision %d without a majority", lone.Name, rev)
			}
			if !errors.Is(err, fault.Unknown) {
				refused++
			}
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 8*time.Second)
			if err := alone.Get(ctx, api.PathNodes, new(api.List[api.NodeView])); i > 0 && err == nil {
				t.Errorf("%s answered a linearizable read without a majority", lone.Name)
			}
			cancel()
		}
		if err := alone.Get(m.Ctx(), api.PathNodes+"?consistency=stale", new(api.List[api.NodeView])); err != nil {
			t.Errorf("a stale read failed: %v", err)
		}
		w.progress(m, 20)
		time.Sleep(between(dice, 0, 10*time.Second))
		m.Net.Heal()
		w.stop()
		m.Settle()
		w.check(m)
		lost := 0
		for i := range attempts {
			if _, ok := m.Controllers[0].Catalog().Node(catalog.NodeName(fmt.Sprintf("lost%d", i))); ok {
				lost++
			}
		}
		if lost > attempts-refused {
			t.Errorf("%d writes happened although %d were refused", lost, refused)
		}
	})
}

// Controllers come and go while writes go on: from three to five, then the leader and another one are removed.
func TestTheClusterGrowsAndShrinksUnderWrites(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		w := write(t, m, 2)
		for range 2 {
			time.Sleep(between(dice, 0, 2*time.Second))
			m.AddController()
			w.progress(m, 10)
		}
		if got := voters(t, m); got != 5 {
			t.Errorf("%d controllers have a vote, want 5", got)
		}
		for range 2 {
			w.progress(m, 10)
			gone := m.Leader()
			if err := remove(t, m, gone); err != nil {
				t.Fatalf("removing %s: %v", gone.Name, err)
			}
			w.progress(m, 10)
			m.Stop(gone.Name)
			m.Forget(gone)
		}
		m.Kill(m.Leader().Name) // two of three go on
		w.progress(m, 20)
		w.stop()
		m.Settle()
		w.check(m)
		if got := voters(t, m); got != 3 {
			t.Errorf("%d controllers have a vote, want 3", got)
		}
	})
}

// remove takes a controller out of the cluster, through another one, and asks again where nobody can know.
func remove(t *testing.T, m *mesh.Mesh, gone *mesh.Controller) (err error) {
	client := m.ClientOf(slices.DeleteFunc(slices.Clone(m.Controllers), func(c *mesh.Controller) bool { return c == gone })...)
	defer client.Close()
	for range 20 {
		err = client.Delete(m.Ctx(), "/v1/controllers/"+gone.Name, nil)
		if k := fault.KindOf(err); err == nil || k == fault.NotFound {
			return nil
		} else if k != fault.Unavailable && k != fault.Unknown && k != fault.NotLeader && k != fault.Timeout {
			return err
		}
		time.Sleep(time.Second)
	}
	return err
}

func voters(t *testing.T, m *mesh.Mesh) (n int) {
	t.Helper()
	m.Eventually("the list of controllers", func() bool {
		list, err := get[api.List[api.ControllerView]](t, m, api.PathControllers)
		n = 0
		for _, v := range list.Items {
			if v.Voter {
				n++
			}
		}
		return err == nil
	})
	return n
}
