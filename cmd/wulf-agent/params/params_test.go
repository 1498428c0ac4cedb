package params_test

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/params"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func plan() *boot.Plan {
	return &boot.Plan{
		Node: "n1.lab", Revision: 7, Manifest: chunk.RefOf([]byte("m")), Method: "two-stage", Root: "ramfs", Init: "/bin/init", BootHardware: "52:54:00:12:34:56",
		Args:   []string{"console=ttyS0,115200", "quiet"},
		Relays: []boot.Relay{{Name: "r1", Addr: netip.MustParseAddr("10.0.0.1"), MeshPort: 4481}, {Name: "r2", Addr: netip.MustParseAddr("10.0.0.2"), MeshPort: 4481}},
	}
}

func TestWhatAPlanWritesIsWhatTheAgentReads(t *testing.T) {
	got, err := params.Parse(plan().CommandLine(boot.Session{Boot: "b1", Ticket: "t.1"}) + "\n")
	want := params.Params{Node: "n1.lab", Relays: []string{"10.0.0.1:4481", "10.0.0.2:4481"}, Image: chunk.Of([]byte("m")), Revision: 7, Boot: "b1", Ticket: "t.1",
		Method: "two-stage", Root: "ramfs", Init: "/bin/init", Hardware: "52:54:00:12:34:56"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestMissingAndWrongParametersAreNamed(t *testing.T) {
	good := plan().CommandLine(boot.Session{})
	for name, cmdline := range map[string]string{
		"wulf.node":   strings.Replace(good, "wulf.node=n1.lab", "", 1),
		"wulf.relays": strings.Replace(good, "wulf.relays=10.0.0.1:4481,10.0.0.2:4481", "wulf.relays=,", 1),
		"wulf.image":  good + " wulf.image=xyz",
		"wulf.rev":    good + " wulf.rev=-1",
		"wulf.init":   good + " wulf.init=init",
		"BOOTIF":      good + " BOOTIF=01-zz-54-00-12-34-56",
	} {
		if _, err := params.Parse(cmdline); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(plan().CommandLine(boot.Session{Boot: "b", Ticket: "t"}))
	f.Fuzz(func(t *testing.T, cmdline string) {
		if p, err := params.Parse(cmdline); err == nil && (p.Node == "" || len(p.Relays) == 0 || p.Image.IsZero()) {
			t.Errorf("accepted %+v", p)
		}
	})
}
