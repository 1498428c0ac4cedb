package feed_test

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// DHCP keeps what it made of plans until the edition changes: it must change with whatever a plan depends on.
func TestAnEditionLastsAsLongAsPlansStayTheSame(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		secret := sha256.Sum256([]byte("secret"))
		h.change(catalog.AdmitRelay{Token: "t", Hash: secret[:], Relay: catalog.Relay{
			Name: "r2", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, BootPort: 4480, MeshPort: 4481, Mesh: "10.1.0.2:4481", Gossip: "10.1.0.2:4482", Key: []byte{2},
		}})
		s := newSetup(t, h, dir)
		defer (&controller{history: h, name: "c1"}).start(s.net.Host("c1", "10.0.0.1"))()
		cfg := s.config("10.0.0.1:4400")
		var unwell atomic.Bool
		var live []catalog.RelayName
		cfg.Unwell = unwell.Load
		f := s.open(cfg)
		defer s.run(f)()
		time.Sleep(time.Second)
		planner := f.Planner(func() []catalog.RelayName { return live })
		rank := func() int {
			p, err := planner.Plan(boot.Request{Hardware: "52:54:00:00:00:01", Network: "rack"})
			if err != nil {
				t.Fatal(err)
			}
			return p.Rank("r1")
		}
		last := planner.Edition()
		for _, step := range []struct {
			name string
			do   func()
			rank int // -1: whatever it is
		}{
			{"a relay comes", func() { live = []catalog.RelayName{"r2"} }, -1},
			{"this one is unwell", func() { unwell.Store(true) }, 1},
			{"it is well again, alone", func() { unwell.Store(false); live = []catalog.RelayName{} }, 0},
			{"nobody knows who lives", func() { live = nil }, -1},
			{"the catalog changes", func() { h.addNode(1); time.Sleep(time.Second) }, -1},
		} {
			step.do()
			if now := planner.Edition(); now == last {
				t.Errorf("%s: the edition is the same", step.name)
			}
			if last = planner.Edition(); planner.Edition() != last {
				t.Errorf("%s: the edition differs though nothing changed since", step.name)
			}
			if got := rank(); step.rank >= 0 && got != step.rank {
				t.Errorf("%s: this relay has rank %d, want %d", step.name, got, step.rank)
			}
		}
		for i := range 300 {
			live = append(live, catalog.RelayName(fmt.Sprintf("relay-%03d", i)))
		}
		planner.Edition()
		if n := testing.AllocsPerRun(100, func() { planner.Edition() }); n > 0 {
			t.Errorf("an edition of %d relays allocates %g times while nothing changes", len(live), n)
		}
	})
}
