package cli

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// A router's helpers are the relays of the rack, and where the rack has too few, those that are near.
func TestAMachinesAgentKnowsTheRelaysOfItsRackFirst(t *testing.T) {
	var relays []api.RelayView
	for i, place := range []struct{ rack, zone string }{{"a", "x"}, {"b", "x"}, {"a", "x"}, {"c", "y"}, {"d", "x"}} {
		relays = append(relays, api.RelayView{Relay: catalog.Relay{
			Name: catalog.RelayName(fmt.Sprintf("r%d", i+1)), Rack: place.rack, Zone: place.zone,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})},
		}})
	}
	relays = append(relays, api.RelayView{}) // one that nodes do not reach
	for _, c := range []struct {
		rack, zone string
		machine, n int
		want       string
	}{
		{"a", "x", 0, 2, "[10.0.0.1 10.0.0.3]"},
		{"a", "x", 1, 2, "[10.0.0.3 10.0.0.1]"},
		{"b", "x", 2, 3, "[10.0.0.2 10.0.0.3 10.0.0.5]"},
		{"c", "", 4, 2, "[10.0.0.4 10.0.0.5]"},
		{"", "", 3, 2, "[10.0.0.4 10.0.0.5]"},
		{"", "", 0, 9, "[10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5]"},
	} {
		if got := fmt.Sprint(helpersOf(relays, c.rack, c.zone, c.machine, c.n)); got != c.want {
			t.Errorf("machine %d of rack %q in zone %q: got %s, want %s", c.machine, c.rack, c.zone, got, c.want)
		}
	}
	if got := helpersOf(nil, "a", "", 0, 2); len(got) != 0 {
		t.Errorf("got %v of no relays", got)
	}
}
