package scenario

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/relay/gossip"
	"github.com/wulfmesh/wulfmesh/test/memnet"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// One of two relays dies while machines are at every step of their boots: by kill -9, and without power, when nobody
// tells its clients. All nodes come up through the other one, and none fetches more than what was on its way.
func TestARelayDiesInTheMiddleOfBoots(t *testing.T) {
	for name, end := range map[string]func(*mesh.Mesh) func(...string){
		"killed":        func(m *mesh.Mesh) func(...string) { return m.Kill },
		"without power": func(m *mesh.Mesh) func(...string) { return m.PowerCut },
	} {
		t.Run(name, func(t *testing.T) {
			tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 12}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
				for _, r := range m.Relays {
					r.SetBandwidth(3 << 20) // an image takes seconds, so that there is a middle
				}
				m.PowerOn(m.Nodes...)
				time.Sleep(between(dice, 3*time.Second, 8*time.Second))
				stages := map[boot.Stage]int{}
				for _, n := range m.Nodes {
					stages[n.Stage()]++
				}
				t.Logf("when it dies the machines are at %v", stages)
				end(m)(m.Relays[dice.IntN(2)].Name)
				m.WaitUp(5*time.Minute, m.Nodes...)
				for _, n := range m.Nodes {
					// The agent fetches four chunks at once: those, and no more, may have to be fetched again.
					if again := strings.Count(n.Trace(), "agent: fetching "); again > 4 {
						t.Errorf("%s fetched %d chunks again", n.Name(), again)
					}
					if c := n.Counts(); c.Ups != 1 {
						t.Errorf("%s: %+v", n.Name(), c)
					}
				}
				told(t, m, m.Nodes...)
			})
		})
	}
}

// A relay that was off while the catalog went on starts with what it has on disk, without a controller; it boots nodes
// by that, and catches up when the controllers are back.
func TestARelayStartsWithAnOldFeed(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		old := m.Relays[1]
		before := old.Catalog().Revision
		m.Stop(old.Name)
		late := m.AddNodes(1)[0]
		m.Settle()
		m.CutControllers()
		m.Kill(m.Relays[0].Name)
		m.Restart(old.Name)
		known := m.Nodes[:4]
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, known...)
		if got := old.Catalog().Revision; got != before {
			t.Errorf("it serves revision %d, and had %d", got, before)
		}
		if c := late.Counts(); c.Ups > 0 {
			t.Error("a node that the relay cannot know is up")
		}
		m.Net.Heal(mesh.Names(m.Controllers...)...)
		m.WaitUp(5*time.Minute, late)
		if got, want := old.Catalog().Revision, m.Leader().Catalog().Revision; got != want {
			t.Errorf("it is at revision %d of %d", got, want)
		}
		told(t, m, m.Nodes...)
		m.Restart(m.Relays[0].Name)
		m.Settle()
	})
}

// A relay whose admission is taken back serves nobody any more, no relay and no controller gives it anything, on old
// connections neither, and nodes boot from the others.
func TestADeletedRelayServesNothing(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 3, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		other, gone := m.Relays[0], m.Relays[2]
		version := m.Publish(mesh.Image, 99)
		kernel := version.Kernels[0].Kernel
		m.Settle()
		relays := m.ClientAs(gone, pki.Relay, other.MeshAddr())
		controllers := m.ClientAs(gone, pki.Controller, m.Leader().Settings().Advertise)
		fromRelay := func() error {
			a, err := relays.Do(m.Ctx(), api.Request{
				Method: http.MethodGet, Path: strings.Replace(api.PathMeshChunk, "{id}", kernel.ID.String(), 1), Header: http.Header{api.HeaderHops: {"1"}},
			})
			if err == nil {
				_, err = io.Copy(io.Discard, a.Body)
				a.Body.Close()
			}
			return err
		}
		fromController := func() error { return controllers.Get(m.Ctx(), api.PathSecrets, new(api.RelaySecrets)) }
		fromGone := func() int {
			status, _ := m.Visit(gone.BootURL("/chunk/" + kernel.ID.String()))
			return status
		}
		if r, c, g := fromRelay(), fromController(), fromGone(); r != nil || c != nil || g != http.StatusOK {
			t.Fatalf("while it is admitted: %v, %v, status %d", r, c, g)
		}
		m.Change(catalog.DeleteRelay{Name: catalog.RelayName(gone.Name)})
		m.Eventually("the relay to know", func() bool { return fromGone() == http.StatusForbidden })
		if err := fromController(); !errors.Is(err, fault.Denied) {
			t.Errorf("a controller gives it secrets: %v", err)
		}
		m.Eventually("the others to know", func() bool { return errors.Is(fromRelay(), fault.Denied) })
		for _, path := range []string{"/boot/52:54:00:00:00:01/script", "/file/" + version.Manifest.ID.String(), "/loader/snponly.efi"} {
			if status, _ := m.Visit(gone.BootURL(path)); status != http.StatusForbidden {
				t.Errorf("it answers %s with status %d", path, status)
			}
		}
		m.Eventually("gossip to be rid of it", func() bool { return !slices.Contains(other.Status().Members, gone.Name) })
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		for _, n := range m.Nodes {
			if trace := n.Trace(); strings.Contains(trace, "10.1.0.3") || strings.Contains(trace, "relay="+gone.Name) {
				t.Errorf("%s was served by the relay that is gone", n.Name())
			}
		}
	})
}

// Somebody who holds the gossip key, but was not admitted, is no member: nobody asks it for a byte, no node is sent to
// it, and its certificate-less questions are refused.
func TestARelayThatIsOnlyInTheGossipServesNothing(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 4}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		var stolen api.RelaySecrets
		if err := m.ClientAs(m.Relays[0], pki.Controller, m.Leader().Settings().Advertise).Get(m.Ctx(), api.PathSecrets, &stolen); err != nil {
			t.Fatal(err)
		}
		g := startGhost(t, m, stolen.Gossip)
		time.Sleep(30 * time.Second)
		if heard := len(g.members()); heard < 2 {
			t.Errorf("it hears of %d relays, so this story proves nothing", heard)
		}
		for _, r := range m.Relays {
			if members := r.Status().Members; slices.Contains(members, "ghost") {
				t.Errorf("%s takes it for a member: %q", r.Name, members)
			}
		}
		m.Publish(mesh.Image, 7) // relays look for chunks
		m.Settle()
		m.PowerOn(m.Nodes...)
		m.WaitUp(3*time.Minute, m.Nodes...)
		asked := m.Net.Sent(func(f memnet.Flow) bool { return f.To == "ghost" && f.Port != api.PortGossip })
		if asked.Conns > 0 || asked.Packets > 0 {
			t.Errorf("it was asked for something: %+v", asked)
		}
		for _, n := range m.Nodes {
			if strings.Contains(n.Trace(), "10.1.0.66") {
				t.Errorf("%s was sent to it", n.Name())
			}
		}
	})
}

// ghost speaks the gossip under a name that was never admitted.
type ghost struct{ gossip *gossip.Gossip }

func (g *ghost) members() []gossip.Member { return slices.Collect(g.gossip.Members()) }

func startGhost(t *testing.T, m *mesh.Mesh, key []byte) *ghost {
	t.Helper()
	h := m.Net.Host("ghost", "10.1.0.66").Join(mesh.Segment)
	for _, port := range []string{":4480", ":4481"} { // whoever connects is noticed
		l, err := h.Listen(port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	l, err := h.Listen(":4482")
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.ListenPacket(":4482")
	if err != nil {
		t.Fatal(err)
	}
	g, err := gossip.New(gossip.Config{
		Name: "ghost", Cluster: "demo", Keys: [][]byte{key}, Listener: l, Packets: p, Dial: h.Dial,
		Advertise: netip.AddrPortFrom(h.Addr(), api.PortGossip), Seeds: func() []string { return []string{"10.1.0.1:4482", "10.1.0.2:4482"} },
		Admitted: func(string) bool { return true }, Meta: gossip.Meta{Role: "relay"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return &ghost{g}
}
