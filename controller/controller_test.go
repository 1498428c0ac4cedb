package controller_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestAWriteAtAnyControllerIsReadableAtAll(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		for i, m := range c.ctls {
			name := fmt.Sprintf("n%d", i)
			rev := c.change(addNode(name), m)
			for _, other := range c.ctls {
				v, err := get[api.NodeView](c, other, "/v1/nodes/"+name)
				if err != nil || string(v.Name) != name {
					t.Errorf("%s written at %s (revision %d) reads at %s as %+v, %v", name, m.name, rev, other.name, v, err)
				}
			}
		}
		var hash catalog.Hash
		for _, m := range c.ctls {
			st, err := get[api.ControllerStatus](c, m, api.PathStatus)
			if err != nil {
				t.Fatal(err)
			}
			if hash == (catalog.Hash{}) {
				hash = st.Hash
			}
			if st.Hash != hash || len(st.Problems) != 0 {
				t.Errorf("%s: hash %s, problems %q", m.name, st.Hash, st.Problems)
			}
		}
	})
}

func TestKillingTheLeaderUnderWritesLosesNothingAcknowledged(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		acked := make(chan string, 10_000)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			client := c.operator()
			defer client.Close()
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("n%04d", i)
				if _, err := client.Change(ctx, addNode(name), api.ChangeOptions{}); err == nil {
					acked <- name
				} else if ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
		time.Sleep(2 * time.Second)
		old := c.leader()
		before := len(acked)
		c.crash(old)
		time.Sleep(8 * time.Second)
		if after := len(acked); after < before+30 {
			t.Errorf("%d writes before the leader died and %d after", before, after-before)
		}
		c.start(old)
		time.Sleep(4 * time.Second)
		cancel()
		<-done
		close(acked)
		names := map[string]bool{}
		for name := range acked {
			names[name] = true
		}
		for _, m := range c.ctls {
			list, err := get[api.List[api.NodeView]](c, m, api.PathNodes)
			if err != nil {
				t.Fatal(err)
			}
			have := map[string]bool{}
			for _, v := range list.Items {
				have[string(v.Name)] = true
			}
			for name := range names {
				if !have[name] {
					t.Errorf("%s was acknowledged and %s does not have it", name, m.name)
				}
			}
		}
		t.Logf("%d writes acknowledged", len(names))
	})
}

func TestAMinorityAnswersOnlyStaleReads(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		lone := c.follower()
		c.change(addNode("n1"), lone) // so that it has it for certain
		c.net.Partition([]string{lone.name, "admin"}, others(c, lone))
		time.Sleep(4 * time.Second)
		start := time.Now()
		_, err := get[api.NodeView](c, lone, "/v1/nodes/n1")
		is(t, "a read without a majority", err, fault.Unavailable)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s to say so", took)
		}
		if v, err := get[api.NodeView](c, lone, "/v1/nodes/n1?consistency=stale"); err != nil || v.Name != "n1" {
			t.Errorf("a stale read: %+v, %v", v, err)
		}
		client := c.operator(lone)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if _, err := client.Change(ctx, addNode("n2"), api.ChangeOptions{}); err == nil {
			t.Error("a minority accepted a write")
		}
		client.Close()
		c.net.Heal()
		c.eventually("the minority to be back", func() bool {
			_, err := get[api.NodeView](c, lone, "/v1/nodes/n1")
			return err == nil
		})
	})
}

func others(c *cluster, not *member) (names []string) {
	for _, m := range c.ctls {
		if m != not {
			names = append(names, m.name)
		}
	}
	return names
}

func TestAControllerOfOneStartsFromAnEmptyDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.stop()
		m := c.member()
		c.ctls = append(c.ctls, m)
		c.start(m) // no Init
		c.eventually("a leader", func() bool { return m.Status().State == "leader" && m.Catalog().Cluster.Name != "" })
		if s := m.Settings(); s.Advertise == "" || s.Name == "" {
			t.Errorf("settings %+v", s)
		}
	})
}

func TestTheFounderDoesNotBeginAnotherClusterWhenItLosesItsLog(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		c.change(addNode("n1"))
		founder := c.ctls[0]
		time.Sleep(5 * time.Second)
		c.end(founder)
		if err := os.RemoveAll(filepath.Join(founder.dir, "log")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		c.start(founder)
		c.eventually("the founder to have its log again", func() bool {
			_, ok := founder.Catalog().Node("n1")
			return ok && founder.Status().State == "follower"
		})
		if got, want := founder.Catalog().Hash, c.leader().Catalog().Hash; got != want {
			t.Errorf("state hash %s, want %s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.stop()
		m := c.found()
		time.Sleep(5 * time.Second)
		c.end(m)
		if err := os.RemoveAll(filepath.Join(m.dir, "log")); err != nil {
			t.Fatal(err)
		}
		l, err := m.host.Listen(":4400")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = controller.New(controller.Config{Dir: m.dir, Listener: l, Dial: m.host.Dial, Log: testLog(m.name)})
		is(t, "starting the only controller without its log", err, fault.Corrupt)
	})
}

func TestLeadershipIsHandedOverAndAControllerRemoved(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		old, next := c.leader(), c.follower()
		client := c.operator(next) // a follower passes it on
		defer client.Close()
		if err := client.Post(t.Context(), api.PathLeader+"?to="+next.name, struct{}{}, nil); err != nil {
			t.Fatal(err)
		}
		c.eventually("the new leader", func() bool { return next.Status().State == "leader" })
		c.change(addNode("n1"), old)
		// The leader is removed through another one: it abdicates first.
		through := c.operator(old)
		defer through.Close()
		if err := through.Delete(t.Context(), "/v1/controllers/"+next.name, nil); err != nil {
			t.Fatal(err)
		}
		c.eventually("two controllers", func() bool {
			list, err := get[api.List[api.ControllerView]](c, old, api.PathControllers)
			return err == nil && len(list.Items) == 2
		})
		c.end(next)
		c.change(addNode("n2"), old)
		list, err := get[api.List[api.ControllerView]](c, c.leader(), api.PathControllers)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list.Items {
			if !v.Voter || !v.Alive {
				t.Errorf("%s: %+v", v.Name, v)
			}
		}
	})
}
