package boot_test

import (
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// An IPv6 address without brackets before its port is another address, or none.
func TestAddressesOfRelaysCanBeDialledInBothFamilies(t *testing.T) {
	for addr, want := range map[string][2]string{
		"10.1.0.250":  {"10.1.0.250:4480", "10.1.0.250:4481"},
		"fd00:1::250": {"[fd00:1::250]:4480", "[fd00:1::250]:4481"},
	} {
		r := boot.Relay{Name: "r1", Addr: netip.MustParseAddr(addr), BootPort: 4480, MeshPort: 4481}
		if got := [2]string{r.Boot(), r.Mesh()}; got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}
