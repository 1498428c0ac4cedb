package boot_test

import (
	"fmt"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Each DHCP packet asks for a plan, of each relay that hears it.
func BenchmarkPlanAmongFiftyRelays(b *testing.B) {
	var places []place
	var live []catalog.RelayName
	for i := range 50 {
		name := fmt.Sprintf("relay%02d", i)
		places = append(places, place{name, fmt.Sprintf("10.9.0.%d", i+1), fmt.Sprint("rack", i/2), "", []catalog.NetworkName{"rack"}})
		live = append(live, catalog.RelayName(name))
	}
	c := lab(b, relays(b, places...)...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := boot.Resolve(c, boot.Request{Hardware: "52:54:00:00:00:01", Network: "rack", Relay: "relay07", Live: live}); err != nil {
			b.Fatal(err)
		}
	}
}
