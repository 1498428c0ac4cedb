package scenario

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// watched are the summaries that somebody sees who watches the last boot session, asking anew when an answer breaks off,
// at any controller but this one first.
func watched(t *testing.T, m *mesh.Mesh, first *mesh.Controller) (stop func() []api.BootSession) {
	order := []*mesh.Controller{first}
	for _, c := range m.Controllers {
		if c != first {
			order = append(order, c)
		}
	}
	client := m.ClientOf(order...)
	end := make(chan struct{})
	done := make(chan []api.BootSession, 1)
	ctx := t.Context()
	go func() {
		var all []api.BootSession
		defer func() { done <- all }()
		for {
			a, err := client.Do(ctx, api.Request{Method: http.MethodGet, Path: "/v1/boots/sessions/last?watch=true"})
			if err == nil {
				go func() { <-end; a.Body.Close() }()
				lines := json.NewDecoder(a.Body)
				for {
					var v api.BootSession
					if lines.Decode(&v) != nil {
						break
					}
					all = append(all, v)
				}
			}
			select {
			case <-end:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	return func() []api.BootSession {
		close(end)
		return <-done
	}
}

// A storm is watched at the leader, which dies in the middle of it. The watch goes on at another controller, and at the end
// all controllers tell the same, the one that was dead too.
func TestASessionIsWatchedThroughADyingLeader(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 12}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		leader := m.Leader()
		stop := watched(t, m, leader)
		for i, n := range m.Nodes {
			m.PowerOn(n)
			if i == len(m.Nodes)/2 {
				m.Kill(leader.Name)
			}
			time.Sleep(between(dice, 0, 4*time.Second))
		}
		m.WaitUp(3*time.Minute, m.Nodes...)
		time.Sleep(between(dice, 5*time.Second, time.Minute))
		m.Restart(leader.Name)
		told(t, m, m.Nodes...)
		summaries := stop()
		by := map[string]int{}
		for _, v := range summaries {
			by[string(v.By)]++
		}
		last := summaries[len(summaries)-1]
		if len(by) < 2 || by[leader.Name] == 0 || last.Up != len(m.Nodes) || last.Nodes != len(m.Nodes) || last.Failed+last.Silent > 0 {
			t.Errorf("%d summaries, by %v; the last is %+v", len(summaries), by, last)
		}
		var want string
		for _, c := range m.Controllers {
			var got string
			m.Eventually(c.Name+" to tell the same", func() bool {
				v, err := get[api.BootSession](t, m, fmt.Sprintf("/v1/boots/sessions/%d", last.Number), c)
				if err != nil {
					got = err.Error()
					return false
				}
				nodes, err := get[api.List[api.SessionNode]](t, m, fmt.Sprintf("/v1/boots/sessions/%d/nodes", last.Number), c)
				if err != nil {
					t.Fatal(err)
				}
				got = fmt.Sprint(v.Number, v.Started, v.Nodes, v.Up, v.Again, v.ToUp, v.Phases, v.Errors, v.Images, v.Bytes, nodes.Items)
				if want == "" {
					want = got
				}
				return got == want
			})
			if got != want {
				t.Errorf("%s tells\n%s, others\n%s", c.Name, got, want)
			}
		}
	})
}

// However many machines boot, the log does not hear of it.
func TestNothingOfAStormIsInTheLog(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 12}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		m.Settle()
		before := m.Leader().Catalog()
		m.PowerOn(m.Nodes...)
		m.WaitUp(2*time.Minute, m.Nodes...)
		told(t, m, m.Nodes...)
		for _, c := range m.Controllers {
			if now := c.Catalog(); now.Revision != before.Revision || now.Hash != before.Hash {
				t.Errorf("%s was at revision %d, and is at %d", c.Name, before.Revision, now.Revision)
			}
			if v, err := get[api.BootSession](t, m, "/v1/boots/sessions/last", c); err != nil || v.Nodes != len(m.Nodes) || v.Up != len(m.Nodes) {
				t.Errorf("%s tells %v, %+v", c.Name, err, v)
			}
		}
	})
}
