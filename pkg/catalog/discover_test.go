package catalog_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// inbox has nodes n1 to n4, of which n4 has a machine, and the rule front over n1 and n2.
func inbox(t *testing.T) *log {
	l := &log{t: t, c: &catalog.Catalog{}}
	l.must(
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24")}},
		catalog.AddNodes{Names: catalog.NodeSetOf("n1", "n2", "n3")},
		catalog.AddNodes{Nodes: []catalog.Node{{Name: "n4", Settings: catalog.Settings{Nets: nic("52:54:00:00:00:04", "10.1.0.4")}}}},
		catalog.PutDiscoverRule{Rule: front()},
	)
	return l
}

func front() catalog.DiscoverRule {
	return catalog.DiscoverRule{Name: "front", Match: catalog.MatchFirst, Network: "rack", Nodes: catalog.NodeSetOf("n1", "n2"), Limit: 1, Expires: at.Add(time.Hour)}
}

func hardware(c *catalog.Catalog, name catalog.NodeName) catalog.HardwareAddr {
	n, _ := c.Node(name)
	for _, d := range n.Settings.Nets {
		if d.Hardware != nil {
			return *d.Hardware
		}
	}
	return ""
}

const stranger = catalog.HardwareAddr("52:54:00:00:00:99")

func TestAMachineIsClaimedOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		before []catalog.Change
		claim  catalog.ClaimNode
		kind   fault.Kind
		want   string
	}{
		"free node":             {nil, catalog.ClaimNode{Node: "n1", Hardware: "52-54-00-00-00-99"}, "", ""},
		"again":                 {[]catalog.Change{catalog.ClaimNode{Node: "n1", Hardware: stranger}}, catalog.ClaimNode{Node: "n1", Hardware: stranger}, "", ""},
		"no node":               {nil, catalog.ClaimNode{Node: "n9", Hardware: stranger}, fault.NotFound, `no node is called "n9"`},
		"no address":            {nil, catalog.ClaimNode{Node: "n1", Hardware: "x"}, fault.Invalid, "not a hardware address"},
		"node has one":          {nil, catalog.ClaimNode{Node: "n4", Hardware: stranger}, fault.Conflict, "node n4 has the machine 52:54:00:00:00:04 already"},
		"it is replaced":        {nil, catalog.ClaimNode{Node: "n4", Hardware: stranger, Replace: true}, "", ""},
		"other node's":          {nil, catalog.ClaimNode{Node: "n1", Hardware: "52:54:00:00:00:04"}, fault.Conflict, "belongs to node n4"},
		"other node's, replace": {nil, catalog.ClaimNode{Node: "n1", Hardware: "52:54:00:00:00:04", Replace: true}, fault.Conflict, "belongs to node n4"},
		"ignored, by hand":      {[]catalog.Change{catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{stranger}}}, catalog.ClaimNode{Node: "n1", Hardware: stranger}, "", ""},
		"by rule":               {nil, catalog.ClaimNode{Node: "n2", Hardware: stranger, Rule: "front"}, "", ""},
		"ignored, by rule": {[]catalog.Change{catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{stranger}}},
			catalog.ClaimNode{Node: "n1", Hardware: stranger, Rule: "front"}, fault.Conflict, "is ignored"},
		"no rule":                {nil, catalog.ClaimNode{Node: "n2", Hardware: stranger, Rule: "frnt"}, fault.NotFound, `no discover rule is called "frnt"`},
		"not of the rule":        {nil, catalog.ClaimNode{Node: "n3", Hardware: stranger, Rule: "front"}, fault.Conflict, "not about node n3"},
		"a rule does not change": {nil, catalog.ClaimNode{Node: "n2", Hardware: stranger, Rule: "front", Replace: true}, fault.Invalid, "no node another machine"},
		"rule is used up": {[]catalog.Change{catalog.ClaimNode{Node: "n1", Hardware: "52:54:00:00:00:98", Rule: "front"}},
			catalog.ClaimNode{Node: "n2", Hardware: stranger, Rule: "front"}, fault.Conflict, "front is used up"},
	} {
		l := inbox(t)
		l.must(tc.before...)
		err := l.do(tc.claim)
		if tc.kind == "" {
			if err != nil || hardware(l.c, tc.claim.Node) != stranger {
				t.Errorf("%s: %v, %s has %s", name, err, tc.claim.Node, hardware(l.c, tc.claim.Node))
			}
			if _, is := l.c.IgnoredMachine(stranger); is {
				t.Errorf("%s: it is still ignored", name)
			}
			continue
		}
		if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s: %s", name, err, tc.kind, tc.want)
		}
	}
}

func TestARuleEnds(t *testing.T) {
	l := inbox(t)
	late := l.entry(catalog.Entry{By: "test", At: at.Add(time.Hour), Change: catalog.ClaimNode{Node: "n1", Hardware: stranger, Rule: "front"}})
	if fault.KindOf(late.Err) != fault.Conflict || !strings.Contains(late.Err.Error(), "expired") {
		t.Errorf("got %v", late.Err)
	}
}

// What is learnt of a machine stays with its node, but does not replace what somebody declared.
func TestAClaimKeepsSerialAndPort(t *testing.T) {
	l := inbox(t)
	facts := catalog.Facts{Serial: " AB12\x00", Switch: "sw1", Port: "Ethernet7"}
	l.must(catalog.SetNodes{Nodes: catalog.NodeSetOf("n2"), Set: catalog.Settings{Tags: map[string]string{"serial": "declared"}}},
		catalog.ClaimNode{Node: "n1", Hardware: stranger, Facts: facts}, catalog.ClaimNode{Node: "n2", Hardware: "52:54:00:00:00:98", Facts: facts})
	for name, want := range map[catalog.NodeName]string{"n1": "AB12 sw1/Ethernet7", "n2": "declared sw1/Ethernet7"} {
		n, _ := l.c.Node(name)
		if got := n.Settings.Tags["serial"] + " " + n.Settings.Tags["port"]; got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
}

func TestAClaimGoesToTheDeviceThatBoots(t *testing.T) {
	for want, nets := range map[string]map[string]catalog.NetDev{
		"default": {"ib": {Hardware: new(catalog.HardwareAddr("52:54:00:00:01:04"))}, "default": {}, "x": {MTU: new(9000)}},
		"lan":     {"lan": {MTU: new(1500)}},
	} {
		l := inbox(t)
		l.must(catalog.SetNodes{Nodes: catalog.NodeSetOf("n1"), Set: catalog.Settings{Nets: nets}}, catalog.ClaimNode{Node: "n1", Hardware: stranger})
		n, _ := l.c.Node("n1")
		if got := n.Settings.Nets[want].Hardware; got == nil || *got != stranger {
			t.Errorf("device %s has %v", want, got)
		}
	}
}

func TestRulesThatCannotBeRightAreRefused(t *testing.T) {
	for want, change := range map[string]func(*catalog.DiscoverRule){
		"not a name":             func(r *catalog.DiscoverRule) { r.Name = "-" },
		`match cannot be "mac"`:  func(r *catalog.DiscoverRule) { r.Match = "mac" },
		"names no node":          func(r *catalog.DiscoverRule) { r.Nodes = nil },
		`no node is called "n7"`: func(r *catalog.DiscoverRule) { r.Nodes = catalog.NodeSetOf("n7") },
		"no network is called":   func(r *catalog.DiscoverRule) { r.Network = "lan" },
		"may not claim 0":        func(r *catalog.DiscoverRule) { r.Limit = 0 },
		"expired already":        func(r *catalog.DiscoverRule) { r.Expires = at },
		"more than a year":       func(r *catalog.DiscoverRule) { r.Expires = at.Add(catalog.MaxRuleLife + 1) },
		"does not go by it":      func(r *catalog.DiscoverRule) { r.Port = "{n1}" },
		"port":                   func(r *catalog.DiscoverRule) { r.Match, r.Port = catalog.MatchPort, "sw{n" },
		"not between":            func(r *catalog.DiscoverRule) { r.Order = 1e9 },
		"not one line":           func(r *catalog.DiscoverRule) { r.Rack = "a\nb" },
		"has no":                 func(r *catalog.DiscoverRule) { r.Match, r.Port = catalog.MatchPort, "sw{n2}" },
	} {
		r := front()
		change(&r)
		if err := inbox(t).do(catalog.PutDiscoverRule{Rule: r}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestWhatIsDecidedOfMachinesCanBeTakenBackAndOutlivesASnapshot(t *testing.T) {
	l := inbox(t)
	begin := l.c.Changed()
	before := hashless(t, l.c)
	l.must(
		catalog.ClaimNode{Node: "n1", Hardware: stranger, Rule: "front", Facts: catalog.Facts{Serial: "S"}},
		catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{"52:54:00:00:00:97"}, Why: "printer"},
		catalog.DeleteDiscoverRule{Name: "front"},
		catalog.PutDiscoverRule{Rule: catalog.DiscoverRule{Name: "b", Match: catalog.MatchPort, Port: "*/{n1}", Nodes: catalog.NodeSetOf("n3"), Limit: 1, Expires: at.Add(time.Hour)}},
	)
	var b bytes.Buffer
	if _, err := l.c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	again, err := catalog.ReadSnapshot(bytes.NewReader(b.Bytes()))
	if err != nil || hashless(t, again) != hashless(t, l.c) {
		t.Fatalf("%v: a snapshot holds something else", err)
	}
	for r := range again.History() {
		if r.Kind == "discover.ignore" && r.About() != "machine 52:54:00:00:00:97" {
			t.Errorf("history says %q", r.About())
		}
	}
	l.c = again
	l.must(catalog.Revert{To: begin})
	if got := hashless(t, l.c); got != before {
		t.Errorf("after the way back\n%s\nwant\n%s", got, before)
	}
}

// hashless is what is declared, for people.
func hashless(t *testing.T, c *catalog.Catalog) string {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(b.String()) {
		for _, kind := range []string{"node", "rule", "ignored"} {
			if strings.HasPrefix(line, `{"`+kind+`":`) {
				kept = append(kept, line)
			}
		}
	}
	return strings.Join(kept, "")
}

func TestAPreviewShowsWhatAClaimDoes(t *testing.T) {
	l := inbox(t)
	for want, change := range map[string]catalog.Change{
		"change node n1 nets.default.hardware":      catalog.ClaimNode{Node: "n1", Hardware: stranger},
		"delete rule front ":                        catalog.DeleteDiscoverRule{Name: "front"},
		"add ignored machine 52:54:00:00:00:99 why": catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{stranger}, Why: "printer"},
	} {
		b, err := catalog.Entry{At: at, Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.c.Preview(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range p.Groups {
			path := ""
			if len(g.Lines) > 0 {
				path = g.Lines[0].Path
			}
			got = append(got, g.Action+" "+g.What+" "+g.Names+" "+path)
		}
		if !slices.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFactsAreBounded(t *testing.T) {
	got := catalog.Facts{
		Serial: strings.Repeat("x", 9e3), UUID: "{4C4C4544-0042-3510-8054-B4C04F564433}", Maker: "To Be Filled By O.E.M.", Product: " a\nb\x1b[2J\x7fö ", Port: "\x00\x00",
	}.Clean()
	want := catalog.Facts{Serial: strings.Repeat("x", catalog.MaxFact), UUID: "4c4c4544-0042-3510-8054-b4c04f564433", Product: "a?b?[2J??"}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if u := (catalog.Facts{UUID: "03000200-0400-0500-0006-000700080009"}).Clean().UUID; u != "" {
		t.Errorf("a UUID that a thousand boards have is kept: %s", u)
	}
}

func FuzzFacts(f *testing.F) {
	f.Add("AB12", "4c4c4544-0042-3510-8054-b4c04f564433", "sw\x00\xff")
	f.Fuzz(func(t *testing.T, serial, uuid, port string) {
		got := catalog.Facts{Serial: serial, UUID: uuid, Port: port}.Clean()
		for _, s := range []string{got.Serial, got.UUID, got.Port} {
			if len(s) > catalog.MaxFact || s != strings.TrimSpace(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q is kept", s)
			}
		}
		if again := got.Clean(); again != got {
			t.Errorf("cleaned twice it is %+v, once %+v", again, got)
		}
	})
}
