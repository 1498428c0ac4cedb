package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func set(nodes ...catalog.NodeName) catalog.SetNodes { return catalog.SetNodes{Nodes: nodes} }

func TestNamesOfThingsThatDoNotExistAreRefusedWithTheOneMeant(t *testing.T) {
	l := merging(t, []profile{{"compute", "", nil}}, "compute")
	for word, meant := range map[string]string{"image=debain": "debian", "overlays.system=hsots": "hosts", "overlays.runtime=~host": "hosts", "nets.default.network=rak": "rack"} {
		for _, change := range []catalog.Change{
			catalog.SetNodes{Nodes: catalog.NodeSet{"n1", "n2"}, Set: settings(t, word)}, catalog.AddNodes{Names: catalog.NodeSet{"n7"}, Set: settings(t, word)},
			catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Each: map[catalog.NodeName]catalog.Settings{"n1": settings(t, word)}}, catalog.AddProfile{Profile: catalog.Profile{Name: "p", Settings: settings(t, word)}},
		} {
			if err := l.do(change); !errors.Is(err, fault.NotFound) || fault.Fix(err) != fmt.Sprintf("did you mean %q?", meant) {
				t.Errorf("%s of %s: %v (%s)", catalog.KindOf(change), word, err, fault.Fix(err))
			}
		}
	}
	for _, name := range []catalog.ProfileName{"comptue", "~comptue"} {
		change := set("n1")
		change.Profiles = &[]catalog.ProfileName{name}
		if err := l.do(change); !errors.Is(err, fault.NotFound) || fault.Fix(err) != `did you mean "compute"?` {
			t.Errorf("%s: %v (%s)", name, err, fault.Fix(err))
		}
	}
}

func TestMoreNodesThanAClusterHasAreRefused(t *testing.T) {
	l := merging(t, nil, "")
	names := make(catalog.NodeSet, catalog.MaxNodes-l.c.NodeCount()+1)
	for i := range names {
		names[i] = catalog.NodeName(fmt.Sprintf("x%07d", i))
	}
	if err := l.do(catalog.AddNodes{Names: names}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "there would be 262145 nodes") {
		t.Errorf("got %v", err)
	}
}

func TestWhatOneNodeAloneMayHaveIsRefusedTwice(t *testing.T) {
	own := map[string]string{
		"nets.default.hardware": "52:54:00:00:00:77", "nets.eth1.hardware": "52:54:00:00:00:77",
		"nets.default.address": "10.1.0.77", "nets.eth1.address": "10.1.0.77", "bmc.address": "10.1.0.77",
		"nets.default.address6": "fd00::7", "nets.eth1.address6": "fd00:0::7", "uuid": "4c4c4544-0042-3510-8054-b4c04f564433",
	}
	for path, text := range own {
		for other, same := range own {
			kind := func(path string) string { return strings.TrimLeft(path[strings.LastIndex(path, ".")+1:], ".") }
			if kind(path) != kind(other) {
				continue
			}
			a, b := settings(t, path+"="+text), settings(t, other+"="+same)
			for name, changes := range map[string][]catalog.Change{
				"one after the other": {catalog.AddNodes{Names: catalog.NodeSet{"a"}, Set: a}, catalog.AddNodes{Names: catalog.NodeSet{"b"}, Set: b}},
				"in one change":       {catalog.AddNodes{Names: catalog.NodeSet{"a", "b"}, Each: map[catalog.NodeName]catalog.Settings{"a": a, "b": b}}},
				"as nodes":            {catalog.AddNodes{Nodes: []catalog.Node{{Name: "a", Settings: a}, {Name: "b", Settings: b}}}},
				"set":                 {catalog.AddNodes{Names: catalog.NodeSet{"a", "b"}}, catalog.SetNodes{Nodes: catalog.NodeSet{"a"}, Set: a}, catalog.SetNodes{Nodes: catalog.NodeSet{"b"}, Set: b}},
				"set alike":           {catalog.AddNodes{Names: catalog.NodeSet{"a", "b"}}, catalog.SetNodes{Nodes: catalog.NodeSet{"a", "b"}, Set: a}},
				"by a formula":        {catalog.AddNodes{Names: catalog.NodeSet{"a", "b"}, Compute: map[string]string{path: text}}},
				"in a batch":          {catalog.Batch{Changes: []catalog.Step{{Change: catalog.AddNodes{Names: catalog.NodeSet{"a"}, Set: a}}, {Change: catalog.AddNodes{Names: catalog.NodeSet{"b"}, Set: b}}}}},
			} {
				l := started(t)
				l.must(catalog.SetNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Prefix6: netip.MustParsePrefix("fd00::/64")}})
				var err error
				for _, c := range changes {
					err = l.do(c)
				}
				if !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "node b: ") || !strings.Contains(err.Error(), "belongs to node a already") {
					t.Errorf("%s and %s, %s: %v", path, other, name, err)
				}
			}
		}
	}
}

func TestOneNodeCannotHaveAnAddressTwice(t *testing.T) {
	l := started(t)
	if err := l.do(catalog.AddNodes{Names: catalog.NodeSet{"a"}, Set: settings(t, "nets.a.address=10.1.0.7", "bmc.address=10.1.0.7")}); !errors.Is(err, fault.Conflict) {
		t.Errorf("node and BMC at one address: %v", err)
	}
	admit(l, "r1", "rack", "10.1.0.253")
	for _, word := range []string{"nets.a.address=10.1.0.253", "bmc.address=10.1.0.253"} {
		if err := l.do(catalog.AddNodes{Names: catalog.NodeSet{"a"}, Set: settings(t, word)}); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "belongs to relay r1") {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func TestTwoNodesExchangeAllThatIsTheirs(t *testing.T) {
	l := started(t)
	one, two := []string{"nets.default.address=10.1.0.1", "nets.default.hardware=52:54:00:00:00:01", "bmc.address=10.9.0.1", "uuid=4c4c4544-0042-3510-8054-b4c04f564431"}, []string{"nets.default.address=10.1.0.2", "nets.default.hardware=52:54:00:00:00:02", "bmc.address=10.9.0.2", "uuid=4c4c4544-0042-3510-8054-b4c04f564432"}
	each := map[catalog.NodeName]catalog.Settings{"n1": settings(t, one...), "n2": settings(t, two...)}
	l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"n1", "n2"}, Each: each})
	before := declaredIn(l.c)
	rev := l.c.Changed()
	each["n1"], each["n2"] = each["n2"], each["n1"]
	l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"n1", "n2"}, Each: each})
	for i, node := range []catalog.NodeName{"n2", "n1"} {
		a, _ := l.c.NodeByAddress(netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", i+1)))
		h, _ := l.c.NodeByHardware(catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:00:0%d", i+1)))
		b, _ := l.c.NodeByAddress(netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", i+1)))
		u, _ := l.c.NodeByUUID(fmt.Sprintf("4c4c4544-0042-3510-8054-b4c04f56443%d", i+1))
		for what, n := range map[string]*catalog.Node{"address": a, "hardware": h, "BMC": b, "UUID": u} {
			if n == nil || n.Name != node {
				t.Errorf("%s %d is found at %v, want %s", what, i+1, n, node)
			}
		}
	}
	l.must(catalog.Revert{To: rev})
	if got := declaredIn(l.c); got.unlike(before) != before.unlike(before) {
		t.Error(got.unlike(before))
	}
}

func TestEachWinsOverComputeAndComputeOverSet(t *testing.T) {
	each := map[catalog.NodeName]catalog.Settings{"m3": settings(t, "rack=each")}
	for name, changes := range map[string][]catalog.Change{
		"added": {catalog.AddNodes{Names: catalog.NodeSet{"m1", "m2", "m3"}, Set: settings(t, "rack=set", "zone=set", "cluster=set"), Compute: map[string]string{"rack": "c{n1}", "zone": "c{n1}"}, Each: each}},
		"set":   {catalog.AddNodes{Names: catalog.NodeSet{"m1", "m2", "m3"}}, catalog.SetNodes{Nodes: catalog.NodeSet{"m1", "m2", "m3"}, Set: settings(t, "rack=set", "zone=set", "cluster=set"), Compute: map[string]string{"rack": "c{n1}", "zone": "c{n1}"}, Each: each}},
	} {
		l := started(t)
		l.must(changes...)
		for node, want := range map[catalog.NodeName]string{"m1": "c1 c1 set", "m3": "each c3 set"} {
			n, _ := l.c.Node(node)
			if got := *n.Settings.Rack + " " + *n.Settings.Zone + " " + *n.Settings.Cluster; got != want {
				t.Errorf("%s: %s has %q, want %q", name, node, got, want)
			}
		}
	}
}

func TestFormulasThatFitNotAreRefused(t *testing.T) {
	l := started(t)
	for formula, text := range map[string]string{"10.1.0.{n9}": "", "10.1.0.{n1*300}": "not an IP address", "10.1.0.{": "", "auto ": ""} {
		err := l.do(catalog.SetNodes{Nodes: catalog.NodeSet{"n1", "n2"}, Compute: map[string]string{"nets.default.address": formula}})
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", formula, err)
		}
	}
	for _, path := range []string{"nets.default.adress", "rack", "bmc.address", "", "nets..address"} {
		if err := l.do(catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Compute: map[string]string{path: catalog.Auto}}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q found automatically: %v", path, err)
		}
	}
}

func TestAutoFindsWhatIsFree(t *testing.T) {
	l := started(t)
	l.must(
		catalog.AddNetwork{Network: catalog.Network{Name: "s", Prefix: netip.MustParsePrefix("10.2.0.0/28"), Gateway: netip.MustParseAddr("10.2.0.2"), Pool: catalog.Range{First: netip.MustParseAddr("10.2.0.4"), Last: netip.MustParseAddr("10.2.0.7")}}},
		catalog.AddNodes{Names: catalog.NodeSet{"taken"}, Set: settings(t, "nets.default.address=10.2.0.8")},
	)
	admit(l, "r1", "s", "10.2.0.9")
	auto := map[string]string{"nets.default.address": catalog.Auto}
	add := func(names ...catalog.NodeName) catalog.AddNodes {
		return catalog.AddNodes{Names: names, Set: settings(t, "nets.default.network=s"), Compute: auto}
	}
	addresses := func(names ...catalog.NodeName) (all []string) {
		for _, name := range names {
			n, _ := l.c.Node(name)
			all = append(all, n.Settings.Nets["default"].Address.String())
		}
		return all
	}
	l.must(add("a1", "a2", "a3"))
	if got, want := addresses("a1", "a2", "a3"), []string{"10.2.0.1", "10.2.0.3", "10.2.0.10"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v: not the network, the gateway, the pool, a node, a relay", got, want)
	}
	l.must(catalog.DeleteNodes{Nodes: catalog.NodeSet{"a2"}}, add("a4"))
	if got := addresses("a4"); got[0] != "10.2.0.3" {
		t.Errorf("after a node was deleted, %v is found and not its address", got)
	}
	// A formula in the same change has the first say, and who has an address may keep it.
	l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"a1", "a3"}, Compute: auto})
	if got := addresses("a1", "a3"); !slices.Equal(got, []string{"10.2.0.1", "10.2.0.10"}) {
		t.Errorf("found anew: %v", got)
	}
	before := l.c
	if err := l.do(add("b1", "b2", "b3", "b4", "b5")); !errors.Is(err, fault.Full) || !strings.Contains(err.Error(), "network s") {
		t.Errorf("four are free and five asked for: %v", err)
	}
	l.c = before
	l.must(add("b1", "b2", "b3", "b4"))
	if got := addresses("b4"); got[0] != "10.2.0.14" {
		t.Errorf("the last one is %v, before the broadcast address", got)
	}
	l.must(catalog.DeleteNodes{Nodes: catalog.NodeSet{"b1", "b2", "b3", "b4"}}, catalog.SetNetwork{Network: catalog.Network{
		Name: "s", Prefix: netip.MustParsePrefix("10.2.0.0/28"), Allocate: catalog.Range{First: netip.MustParseAddr("10.2.0.12"), Last: netip.MustParseAddr("10.2.0.13")}}})
	l.must(add("c1", "c2"))
	if got := addresses("c1", "c2"); !slices.Equal(got, []string{"10.2.0.12", "10.2.0.13"}) {
		t.Errorf("found %v outside of what is to be allocated", got)
	}
	if err := l.do(catalog.AddNodes{Names: catalog.NodeSet{"d"}, Compute: auto}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "nothing says in which network") {
		t.Errorf("no network: %v", err)
	}
}

// 20 000 searches that each began at the first address would take minutes, and run into the tests' time-out.
func TestAutoForManyAtOnceIsNotQuadratic(t *testing.T) {
	l := started(t)
	l.must(catalog.AddNetwork{Network: catalog.Network{Name: "big", Prefix: netip.MustParsePrefix("10.64.0.0/12")}})
	var names catalog.NodeSet
	for i := range 20_000 {
		names = append(names, catalog.NodeName(fmt.Sprintf("m%05d", i)))
	}
	l.must(catalog.AddNodes{Names: names, Set: settings(t, "nets.default.network=big"), Compute: map[string]string{"nets.default.address": catalog.Auto}})
	if n, _ := l.c.Node("m19999"); *n.Settings.Nets["default"].Address != netip.MustParseAddr("10.64.78.32") {
		t.Errorf("the last has %s", n.Settings.Nets["default"].Address)
	}
}

func TestAChangeOfManyNodesIsSmallInTheLog(t *testing.T) {
	if b := encode(t, benchNodes()); len(b) > 1<<10 {
		t.Errorf("40 000 new nodes take %d bytes", len(b))
	}
	for name, change := range benchChanges() {
		if b := encode(t, change); len(b) > 1<<10 {
			t.Errorf("%s takes %d bytes", name, len(b))
		}
	}
}

func TestEntriesOfFormatOneAreRead(t *testing.T) {
	l := started(t)
	entry := `{"format":1,"by":"x","at":"2026-11-23T12:00:00Z","kind":"node.set","change":{"nodes":["n2","n1","n2"],"set":{"rack":"r1"}}}`
	next, out, err := l.c.Apply(l.c.Revision+1, []byte(entry))
	if err != nil || out.Err != nil {
		t.Fatal(err, out.Err)
	}
	for _, name := range []catalog.NodeName{"n1", "n2"} {
		if n, _ := next.Node(name); n.Settings.Rack == nil || *n.Settings.Rack != "r1" {
			t.Errorf("%s has no rack", name)
		}
	}
}

// What is no name must not become one on its way through the log, nor an entry that nobody can read.
func TestSetsOfNodesSurviveTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOf(rapid.OneOf(rapid.StringMatching(`[a-z0-9_.-]{0,6}`), rapid.SampledFrom([]string{"n[1-3]", "n[", "@g", "a,b", "a b", "and", "all", "*", "~x", "n1-3", "<x"}), rapid.String())).Draw(t, "names")
		var set catalog.NodeSet
		for _, n := range names {
			set = append(set, catalog.NodeName(strings.ToValidUTF8(n, "?")))
		}
		set = catalog.NodeSetOf(set...)
		b, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var again catalog.NodeSet
		if err := json.Unmarshal(b, &again); err != nil || !slices.Equal(again, set) {
			t.Fatalf("%q as %s is read as %q (%v)", set, b, again, err)
		}
	})
}

func TestABatchHappensWholeOrNotAtAll(t *testing.T) {
	l := started(t)
	before := dump(t, l.c)
	step := func(c catalog.Change) catalog.Step { return catalog.Step{Change: c} }
	err := l.do(catalog.Batch{Changes: []catalog.Step{step(catalog.AddNodes{Names: catalog.NodeSet{"x"}}), step(catalog.DeleteNodes{Nodes: catalog.NodeSet{"n1"}}), step(catalog.DeleteNodes{Nodes: catalog.NodeSet{"n9"}})}})
	if !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "n9") || dump(t, l.c) != before {
		t.Errorf("the third cannot be: %v", err)
	}
	if err := l.do(catalog.Batch{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("an empty batch: %v", err)
	}
	for _, inner := range []catalog.Change{catalog.Batch{}, catalog.Revert{}} {
		b, _ := catalog.Entry{At: at, Change: catalog.Batch{Changes: []catalog.Step{step(inner)}}}.Encode()
		if _, err := catalog.DecodeEntry(b); err == nil {
			t.Errorf("a batch with a %s in it was read", catalog.KindOf(inner))
		}
	}
	// Addresses of nodes count as the batch leaves them.
	l.must(catalog.Batch{Changes: []catalog.Step{
		step(catalog.AddNetwork{Network: catalog.Network{Name: "new", Prefix: netip.MustParsePrefix("10.7.0.0/24")}}),
		step(catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: settings(t, "nets.default.network=new")}),
		step(catalog.SetNodes{Nodes: catalog.NodeSet{"n1", "n2"}, Compute: map[string]string{"nets.default.address": "10.7.0.{n1}"}}),
	}})
}
