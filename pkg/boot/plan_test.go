package boot_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestResolveTellsAMachineWhatItBoots(t *testing.T) {
	c := lab(t)
	got := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:01", Firmware: boot.FirmwareBIOS, Network: "rack"})
	network, _ := c.Network("rack")
	img, _ := c.Image("debian")
	want := boot.Plan{
		Revision: c.Revision, Node: "n1.lab", Hostname: "n1",
		Network: network, Address: netip.MustParsePrefix("10.1.0.1/24"), Gateway: netip.MustParseAddr("10.1.0.254"), MTU: 9000,
		Loader: "undionly.kpxe", Relays: got.Relays, BootHardware: "52:54:00:00:00:01",
		Image: "debian", Manifest: chunk.RefOf([]byte("debian")), Kernel: img.Versions[0].Kernels[0],
		Method: catalog.MethodTwoStage, Init: "/sbin/init", Root: catalog.RootTmpfs, Args: []string{"console=ttyS0,115200", "quiet"},
		Unpacked: 300, ImageSize: 100, Secrets: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !got.Known() {
		t.Error("the plan of a node is of nobody")
	}
	if r := got.Relays[0]; r.Boot() != r.Addr.String()+":4480" || r.Mesh() != r.Addr.String()+":4481" {
		t.Errorf("relay %+v is at %s and %s", r, r.Boot(), r.Mesh())
	}
}

func TestResolveSaysWhyAMachineCannotBoot(t *testing.T) {
	c := lab(t)
	for name, tc := range map[string]struct {
		req  boot.Request
		kind fault.Kind // "": it can
		text string
	}{
		"a node":                {boot.Request{Hardware: "52:54:00:00:00:01", Network: "rack"}, "", ""},
		"network not known":     {boot.Request{Hardware: "52:54:00:00:00:01"}, "", ""},
		"an older kernel":       {boot.Request{Hardware: "52:54:00:00:00:03", Network: "rack"}, "", ""},
		"address from the pool": {boot.Request{Hardware: "52:54:00:00:00:07", Network: "rack"}, "", ""},
		"unknown machine":       {boot.Request{Hardware: "52:54:00:00:00:ff", Network: "rack"}, fault.NotFound, "no node has the hardware address 52:54:00:00:00:ff"},
		"no image":              {boot.Request{Hardware: "52:54:00:00:00:04", Network: "rack"}, fault.NotFound, "node imageless has no image"},
		"image has no kernel":   {boot.Request{Hardware: "52:54:00:00:00:05", Network: "rack"}, fault.NotFound, "image bare has no kernel"},
		"no such kernel":        {boot.Request{Hardware: "52:54:00:00:00:06", Network: "rack"}, fault.NotFound, "image debian has no kernel 7.0"},
		"cabled wrongly":        {boot.Request{Hardware: "52:54:00:00:00:08", Network: "rack"}, fault.Conflict, "node far1 asks in network rack but its device default is declared in far"},
		"nobody serves it":      {boot.Request{Hardware: "52:54:00:00:00:09"}, fault.Unavailable, "no relay serves node deaf1"},
		"argument for iPXE":     {boot.Request{Hardware: "52:54:00:00:00:0a", Network: "rack"}, fault.Invalid, `kernel argument "a=${base}"`},
		"init of two words":     {boot.Request{Hardware: "52:54:00:00:00:0b", Network: "rack"}, fault.Invalid, `kernel argument "wulf.init=/sbin/init ; shell"`},
	} {
		p := plan(t, c, tc.req)
		if got := fault.KindOf(p.Problem); got != tc.kind {
			t.Errorf("%s: the problem is %q (%v), want %q", name, got, p.Problem, tc.kind)
		}
		if tc.kind == "" {
			continue
		}
		if !strings.Contains(p.Problem.Error(), tc.text) || fault.Fix(p.Problem) == "" {
			t.Errorf("%s: %q, fix %q; want %q and a fix", name, p.Problem, fault.Fix(p.Problem), tc.text)
		}
	}
}

// In another network than the one where its device is declared, the address is no use to a node: RFC 2131 §4.3.2
// wants a NAK, for which the plan must not hold it.
func TestANodeInTheWrongNetworkGetsNoAddress(t *testing.T) {
	p := plan(t, lab(t), boot.Request{Hardware: "52:54:00:00:00:08", Network: "rack"})
	if p.Address.IsValid() || p.Gateway.IsValid() || p.Network.Name != "rack" || p.Node != "far1" {
		t.Errorf("got %+v", p)
	}
}

func TestAnUnknownMachineLearnsItsNetworkOnly(t *testing.T) {
	p := plan(t, lab(t), boot.Request{Hardware: "52:54:00:00:00:ff", Firmware: boot.FirmwareEFI64, Network: "rack"})
	if p.Known() || p.Address.IsValid() || p.Network.Name != "rack" || p.Secrets || p.Loader != "snponly.efi" || len(p.Relays) == 0 {
		t.Errorf("got %+v", p)
	}
}

func TestResolveRefusesRelaysThatHaveNoSay(t *testing.T) {
	c := lab(t)
	for name, tc := range map[string]struct {
		req  boot.Request
		kind fault.Kind
	}{
		"not admitted":       {boot.Request{Hardware: "52:54:00:00:00:01", Relay: "stranger"}, fault.Denied},
		"not in the network": {boot.Request{Hardware: "52:54:00:00:00:01", Relay: "r1", Network: "far"}, fault.NotFound},
		"no such network":    {boot.Request{Hardware: "52:54:00:00:00:01", Relay: "r1", Network: "nowhere"}, fault.NotFound},
	} {
		if _, err := boot.Resolve(c, tc.req); !errors.Is(err, tc.kind) {
			t.Errorf("%s: got %v, want %s", name, err, tc.kind)
		}
	}
}

func TestSecretsFollowThePolicyOfTheNetwork(t *testing.T) {
	c := lab(t)
	if p := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:01", Network: "rack"}); !p.Secrets {
		t.Error("relays of the network may hold its secrets, and the plan says no")
	}
	if p := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:08", Relay: "f1", Network: "far"}); p.Secrets {
		t.Error("nobody may hold the network's secrets, and the plan says yes")
	}
}

func TestTheKernelIsTheNewestOrTheOneAskedFor(t *testing.T) {
	c := lab(t)
	for hw, want := range map[catalog.HardwareAddr]string{"52:54:00:00:00:01": "6.12.0-2", "52:54:00:00:00:03": "6.1.0-1"} {
		if p := plan(t, c, boot.Request{Hardware: hw}); p.Kernel.Version != want || p.Kernel.StageOne != chunk.RefOf([]byte("stage one "+want)) {
			t.Errorf("%s boots %+v, want %s", hw, p.Kernel, want)
		}
	}
}

func TestEveryFirmwareGetsTheProgramItCanRun(t *testing.T) {
	c := lab(t)
	for firmware, want := range map[boot.Firmware]string{
		boot.FirmwareBIOS: "undionly.kpxe", boot.FirmwareEFI64: "snponly.efi", boot.FirmwareEFIArm64: "snponly-arm64.efi",
		boot.FirmwareHTTP64: "snponly.efi", boot.FirmwareHTTPArm64: "snponly-arm64.efi",
		boot.FirmwareIPXE: "", boot.FirmwareNone: "", boot.FirmwareOther: "", "pdp-11": "",
	} {
		if p := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:01", Firmware: firmware}); p.Loader != want {
			t.Errorf("%q is sent %q, want %q", firmware, p.Loader, want)
		}
	}
}

// many is a rack of relays, and nodes in several racks.
func many(t testing.TB, nodes int) *catalog.Catalog {
	var places []place
	for i := range 8 {
		rack := []string{"a", "b", "c", "d"}[i/2] // a and b stand in the north
		zone := []string{"north", "south"}[i/4]
		places = append(places, place{fmt.Sprintf("m%d", i), fmt.Sprintf("10.9.0.%d", i+1), rack, zone, []catalog.NetworkName{"big"}})
	}
	changes := append([]catalog.Change{catalog.AddNetwork{Network: catalog.Network{Name: "big", Prefix: netip.MustParsePrefix("10.9.0.0/16")}}}, relays(t, places...)...)
	var add catalog.AddNodes
	for i := range nodes {
		hw := catalog.HardwareAddr(fmt.Sprintf("52:54:01:00:%02x:%02x", i/256, i%256))
		add.Nodes = append(add.Nodes, catalog.Node{Name: catalog.NodeName(fmt.Sprintf("b%d", i)), Settings: catalog.Settings{
			Image: new("debian"), Rack: new("b"), Zone: new("north"),
			Nets: map[string]catalog.NetDev{"default": {Hardware: &hw, Address: new(netip.AddrFrom4([4]byte{10, 9, byte(1 + i/256), byte(i)}))}}}})
	}
	return lab(t, append(changes, add)...)
}

func TestRelaysOfTheRackComeFirstThenTheZoneThenTheOthersThenTheDead(t *testing.T) {
	c := many(t, 1)
	class := func(name catalog.RelayName) int {
		return map[catalog.RelayName]int{"m2": 0, "m3": 0, "m0": 1, "m1": 1, "m4": 2, "m5": 2, "m6": 2, "m7": 2}[name]
	}
	req := boot.Request{Hardware: "52:54:01:00:00:00", Network: "big", Relay: "m0"}
	p := plan(t, c, req)
	if got := names(p.Relays); len(got) != 8 || !slices.IsSortedFunc(got, func(a, b catalog.RelayName) int { return class(a) - class(b) }) {
		t.Errorf("order is %v", got)
	}
	// Gossip says nothing: nobody is held for dead. Gossip says who lives: the others go behind, in the same order.
	req.Live = []catalog.RelayName{"m2", "m5", "m7"}
	p = plan(t, c, req)
	got := names(p.Relays)
	alive, dead := got[:4], got[4:]
	if !slices.Contains(alive, "m0") {
		t.Errorf("the relay that answers is not dead, whatever gossip says: %v", got)
	}
	for _, part := range [][]catalog.RelayName{alive, dead} {
		if !slices.IsSortedFunc(part, func(a, b catalog.RelayName) int { return class(a) - class(b) }) {
			t.Errorf("order is %v", got)
		}
	}
	if where(t, p, "m2") != 0 || where(t, p, "m3") != 4 {
		t.Errorf("the rack's live relay is not first, or its dead one not the first of the dead: %v", got)
	}
	if p.Rank("r1") != -1 {
		t.Error("a relay of another network has a rank")
	}
}

func TestLoadSpreadsOverEqualRelays(t *testing.T) {
	const nodes = 512
	c := many(t, nodes)
	first := map[catalog.RelayName]int{}
	for i := range nodes {
		p := plan(t, c, boot.Request{Hardware: catalog.HardwareAddr(fmt.Sprintf("52:54:01:00:%02x:%02x", i/256, i%256)), Network: "big", Relay: "m0"})
		first[p.Relays[0].Name]++
	}
	if first["m2"] < nodes/2-2 || first["m3"] < nodes/2-2 { // the relays of the rack
		t.Errorf("%d nodes begin at %v", nodes, first)
	}
}

func TestEveryRelayGivesTheSameAnswer(t *testing.T) {
	c := many(t, 1)
	want := plan(t, c, boot.Request{Hardware: "52:54:01:00:00:00", Network: "big", Relay: "m0"})
	for _, relay := range []catalog.RelayName{"m0", "m3", "m7"} {
		for range 3 {
			if got := plan(t, many(t, 1), boot.Request{Hardware: "52:54:01:00:00:00", Network: "big", Relay: relay}); !reflect.DeepEqual(names(got.Relays), names(want.Relays)) || got.Address != want.Address {
				t.Fatalf("%s says %v, m0 says %v", relay, names(got.Relays), names(want.Relays))
			}
		}
	}
}

func TestAMachineReachesARelayInItsOwnNetwork(t *testing.T) {
	c := lab(t, relays(t, place{"both", "10.1.0.110 10.2.0.110", "", "", []catalog.NetworkName{"rack", "far"}})...)
	for network, want := range map[catalog.NetworkName]string{"rack": "10.1.0.110", "far": "10.2.0.110"} {
		p := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:ff", Network: network, Relay: "both"})
		if got := p.Relays[where(t, p, "both")].Addr.String(); got != want {
			t.Errorf("in %s it is at %s, want %s", network, got, want)
		}
		// f1 serves the rack too, through a router: its only address must do.
		if got := p.Relays[where(t, p, "f1")].Addr.String(); got != "10.2.0.101" {
			t.Errorf("f1 is at %s", got)
		}
	}
}

func TestSourcesAreTheFirstFewRelays(t *testing.T) {
	p := plan(t, many(t, 1), boot.Request{Hardware: "52:54:01:00:00:00", Network: "big", Relay: "m0"})
	if got, want := names(p.Sources()), names(p.Relays[:4]); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.Relays = p.Relays[:1]
	if got := len(p.Sources()); got != 1 {
		t.Errorf("%d sources of one relay", got)
	}
}

func TestStagesAreInTheOrderOfABoot(t *testing.T) {
	if boot.StageDHCP.Index() != 0 || boot.StageUp.Index() != len(boot.Stages())-1 || boot.StageImage.Index() <= boot.StageStageOne.Index() {
		t.Errorf("order is %v", boot.Stages())
	}
	if boot.StageFailed.Index() != -1 || boot.StageAlive.Index() != -1 {
		t.Error("a failure or a heart-beat is a step of a boot")
	}
}
