package scenario

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/memnet"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// Ten times as many machines as a relay sends to at once are switched on together. All of them come up, none gives up or
// begins anew, and while there are machines that wait, the relay's link is as busy as it can be.
func TestTenTimesAsManyMachinesAsARelayHasSlots(t *testing.T) {
	const slots, link = 4, 4 << 20
	tell(t, mesh.Size{Controllers: 1, Relays: 1, Nodes: 10 * slots, Image: 4 << 20}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		m.Change(catalog.SetRelay{Name: "r1", Slots: new(uint16(slots))})
		m.Settle()
		r := m.Relays[0]
		r.SetBandwidth(link)
		m.PowerOn(m.Nodes...)
		sent := func() int64 { return m.Net.Sent(func(f memnet.Flow) bool { return f.From == "r1" }).Bytes }
		var most api.RelayLoad
		var busy, waited int64 // bytes while machines waited, and seconds
		before, began := sent(), time.Now()
		for m.Up() < len(m.Nodes) && time.Since(began) < 10*time.Minute {
			time.Sleep(time.Second)
			now, load := sent(), r.Status().Load
			if load.Queued > 0 && load.Busy == slots && most.Queued > 0 { // and a second ago, too
				busy, waited = busy+now-before, waited+1
			}
			before, most.Queued = now, load.Queued
			most.Busy, most.Longest, most.Refused = max(most.Busy, load.Busy), max(most.Longest, load.Longest), load.Refused
		}
		m.WaitUp(time.Second, m.Nodes...)
		if waited < 5 || most.Busy > slots {
			t.Fatalf("machines waited for %d s, the most were %+v: this is no storm", waited, most)
		}
		used := float64(busy) / float64(waited) / link
		t.Logf("all are up after %v; for %d s machines waited, one for %v, while the link was used to %.0f %%; %d answers said to come back", time.Since(began).Round(time.Second), waited, most.Longest.Round(time.Second), 100*used, most.Refused)
		if used < 0.9 {
			t.Errorf("while machines waited the link was used to %.0f %%", 100*used)
		}
	})
}
