package scenario

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// says waits until every controller has heard a relay say something of itself, and whether it is unwell.
func says(t *testing.T, m *mesh.Mesh, r *mesh.Relay, unwell bool, text string) {
	t.Helper()
	m.Eventually(r.Name+" to say "+text, func() bool {
		list, err := get[api.List[api.RelayView]](t, m, api.PathRelays)
		return err == nil && slices.ContainsFunc(list.Items, func(v api.RelayView) bool {
			return string(v.Name) == r.Name && v.Status != nil && v.Status.Unwell == unwell &&
				(text == "" || slices.ContainsFunc(v.Status.Problems, func(p string) bool { return strings.Contains(p, text) }))
		})
	})
}

// spared checks that the nodes boot, and that their scripts come from other relays than the one that is unwell.
func spared(t *testing.T, m *mesh.Mesh, sick *mesh.Relay) {
	t.Helper()
	time.Sleep(10 * time.Second) // gossip passes it on
	m.PowerOn(m.Nodes...)
	m.WaitUp(3*time.Minute, m.Nodes...)
	told(t, m, m.Nodes...)
	served := 0
	for _, b := range boots(t, m, m.Controllers[0]) {
		if string(b.Relay) == sick.Name {
			served++
		}
	}
	if served > len(m.Nodes)/3 { // it answers who has waited for long, as any relay does
		t.Errorf("%d of %d nodes were served by %s, which is unwell", served, len(m.Nodes), sick.Name)
	}
}

// A relay whose clock is wrong says so, steps back, and comes back when somebody has set it. Alone it boots nodes all the
// same, by the controllers' time.
func TestARelayWhoseClockIsWrongStepsBack(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 6}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		sick := m.Relays[0]
		sick.SetClock(-17 * time.Minute)
		says(t, m, sick, true, "its clock is 17m0s behind")
		spared(t, m, sick)
		m.PowerCut(m.Relays[1].Name)
		time.Sleep(time.Minute)
		for _, n := range m.Nodes {
			n.Reset()
		}
		m.WaitUp(3*time.Minute, m.Nodes...)
		sick.SetClock(time.Minute)
		says(t, m, sick, false, "")
	})
}

// A relay that cannot write to its disk any more says so and steps back; what it serves all the same, it serves right.
func TestARelayWhoseDiskIsFullStepsBack(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		sick := m.Relays[0]
		sick.BreakDisk(syscall.EROFS)
		m.Publish(mesh.Image, m.Seed()+500)
		says(t, m, sick, true, "read-only file system")
		spared(t, m, sick)
		sick.BreakDisk(nil)
		m.Publish(mesh.Image, m.Seed()+501)
		says(t, m, sick, false, "")
	})
}

// A relay that no controller can reach any more while others follow them steps back as soon as its catalog is older than
// theirs, and says so when it is heard again.
func TestARelayThatIsBehindStepsBack(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 3}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		sick := m.Relays[0]
		m.Net.Partition([]string{sick.Name}, mesh.Names(m.Controllers...))
		m.Change(catalog.SetNodes{Nodes: catalog.NodeSet{"n001"}, Set: catalog.Settings{Comment: new("newer")}})
		m.Eventually(sick.Name+" to step back", func() bool { return sick.Status().Unwell })
		if p := sick.Status().Problems; !strings.Contains(strings.Join(p, "\n"), "relay r2 serves") {
			t.Errorf("it says %q", p)
		}
		spared(t, m, sick)
		m.Net.Heal()
		says(t, m, sick, false, "")
	})
}

// A relay that lost its catalog and starts without any controller serves nothing, and says why.
func TestARelayThatLostItsCatalogServesNothing(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 3}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		sick := m.Relays[0]
		m.Stop(sick.Name)
		if err := os.RemoveAll(filepath.Join(sick.Dir(), "feed")); err != nil {
			t.Fatal(err)
		}
		m.Net.Partition([]string{sick.Name}, mesh.Names(m.Controllers...))
		m.Restart(sick.Name)
		m.Net.Partition([]string{sick.Name}, mesh.Names(m.Controllers...))
		time.Sleep(time.Minute)
		if st := sick.Status(); !st.Unwell || !strings.Contains(strings.Join(st.Problems, "\n"), "it has no catalog") {
			t.Errorf("it says %q, unwell %v", st.Problems, st.Unwell)
		}
		spared(t, m, sick)
		m.Net.Heal()
		says(t, m, sick, false, "")
	})
}

// A relay whose chunks somebody has removed under it fetches them again; no node notices.
func TestARelayWhoseChunksWereRemovedFillsItselfAgain(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		sick := m.Relays[0]
		refs := slices.DeleteFunc(m.Chunks(m.Version(mesh.Image)), func(ref chunk.Ref) bool { return os.Remove(sick.ChunkFile(ref.ID)) != nil })
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		says(t, m, sick, false, "chunks were gone from its disk")
		m.Eventually(sick.Name+" to be whole again", func() bool {
			return !slices.ContainsFunc(refs, func(ref chunk.Ref) bool { _, err := os.Stat(sick.ChunkFile(ref.ID)); return err != nil })
		})
		if n := m.Nodes[0]; n.Stage() != boot.StageUp {
			t.Errorf("%s is at %s", n.Name(), n.Stage())
		}
	})
}
