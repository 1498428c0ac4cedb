package scenario

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// Two machines that nobody knows are switched on at once, and a third. A rule has two nodes for them; the controllers that
// lead die while it claims. Each node gets one machine, the third waits on its screen, and every controller says the same.
func TestARuleGivesEachNodeOneMachineWhileLeadersDie(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2}, func(t *testing.T, m *mesh.Mesh, dice *rand.Rand) {
		machines := []*firmware.Machine{m.AddMachine(boot.FirmwareEFI64), m.AddMachine(boot.FirmwareBIOS), m.AddMachine(boot.FirmwareBIOS)}
		var nodes []catalog.Node
		for _, n := range machines[:2] {
			d := m.Declaration(n)
			for name, nic := range d.Settings.Nets {
				nic.Hardware = nil
				d.Settings.Nets[name] = nic
			}
			nodes = append(nodes, d)
		}
		m.Change(catalog.AddNodes{Nodes: nodes})
		m.Change(catalog.PutDiscoverRule{Rule: catalog.DiscoverRule{
			Name: "front", Match: catalog.MatchFirst, Network: mesh.Network, Nodes: catalog.NodeSetOf(nodes[0].Name, nodes[1].Name), Limit: 5, Expires: time.Now().Add(time.Hour),
		}})
		m.PowerOn(machines...)
		for range 2 {
			time.Sleep(between(dice, 2*time.Second, 12*time.Second))
			old := m.Leader()
			m.Kill(old.Name)
			m.Leader()
			time.Sleep(between(dice, 0, 5*time.Second))
			m.Restart(old.Name)
		}
		m.Eventually("two machines to be up", func() bool { return m.Up() == 2 })
		m.Settle()
		var claimed, waiting []string
		for _, c := range m.Controllers {
			list, err := get[api.List[discover.Found]](t, m, api.PathDiscover, c)
			if err != nil {
				t.Fatal(err)
			}
			var is []string
			for _, f := range list.Items {
				switch f.State {
				case discover.Claimed:
					is = append(is, string(f.Node))
				case discover.New:
					waiting = append(waiting, c.Name+": "+string(f.Hardware)+" "+f.Why)
				}
				if !strings.HasPrefix(f.Facts.Serial, "SN-") || f.Facts.Network != mesh.Network {
					t.Errorf("%s knows of %s only %+v", c.Name, f.Hardware, f.Facts)
				}
			}
			slices.Sort(is)
			claimed = append(claimed, strings.Join(is, " "))
		}
		want := string(nodes[0].Name) + " " + string(nodes[1].Name)
		if !slices.Equal(claimed, []string{want, want, want}) {
			t.Errorf("claimed are %q, want %q everywhere", claimed, want)
		}
		if len(waiting) != 3 {
			t.Errorf("one should wait, at each of three controllers: %q", waiting)
		}
		rules, err := get[api.List[catalog.DiscoverRule]](t, m, api.PathRules, m.Leader())
		if err != nil || len(rules.Items) != 1 || rules.Items[0].Claimed != 2 {
			t.Errorf("the rules are %+v, %v", rules.Items, err)
		}
		for _, n := range machines {
			if c := n.Counts(); c.Starts != 1 {
				t.Errorf("%s was started %d times", n.Name(), c.Starts)
			}
		}
	})
}
