package discover_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// lab has nodes n1 to n4, of which n4 has a machine, two networks, and relay r1 in rack a.
func lab(t testing.TB, changes ...catalog.Change) *catalog.Catalog {
	t.Helper()
	c := &catalog.Catalog{}
	nets := []catalog.NetworkName{"rack", "far"}
	for _, change := range append([]catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "far", Prefix: netip.MustParsePrefix("10.2.0.0/24")}},
		catalog.AddNodes{Names: catalog.NodeSetOf("n1", "n2", "n3", "n4")},
		catalog.ClaimNode{Node: "n4", Hardware: "52:54:00:00:00:04"},
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: []byte("h"), Role: "relay", Uses: 1, Rack: "a", Networks: nets, Expires: now.Add(time.Hour)}},
		catalog.AdmitRelay{Token: "t", Hash: []byte("h"), Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.254")}, BootPort: 1, MeshPort: 2, Mesh: "a", Gossip: "b", Key: []byte("k")}},
	}, changes...) {
		b, err := catalog.Entry{At: now, By: "test", Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	return c
}

// machine is the n-th that asked, n seconds after the first.
func machine(n int, change ...func(*discover.Machine)) discover.Machine {
	at := now.Add(-time.Minute + time.Duration(n)*time.Second)
	m := discover.Machine{Hardware: catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:01:%02x", n)), First: at, Last: at, Firmware: "bios", Relay: "r1", Facts: catalog.Facts{Network: "rack"}}
	for _, c := range change {
		c(&m)
	}
	return m
}

func facts(f catalog.Facts) func(*discover.Machine) {
	return func(m *discover.Machine) { m.Facts = m.Facts.Merge(f) }
}

// gone is a machine that was switched off ten minutes ago.
func gone(m *discover.Machine) { m.Last = now.Add(-discover.Fresh) }

func rule(name string, change ...func(*catalog.DiscoverRule)) catalog.PutDiscoverRule {
	r := catalog.DiscoverRule{Name: catalog.RuleName(name), Match: catalog.MatchFirst, Nodes: catalog.NodeSetOf("n1", "n2", "n4"), Limit: 5, Expires: now.Add(time.Hour)}
	for _, c := range change {
		c(&r)
	}
	return catalog.PutDiscoverRule{Rule: r}
}

func tags(node catalog.NodeName, kv ...string) catalog.Change {
	set := catalog.Settings{Tags: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		set.Tags[kv[i]] = kv[i+1]
	}
	return catalog.SetNodes{Nodes: catalog.NodeSetOf(node), Set: set}
}

func TestRulesGiveMachinesTheirNodes(t *testing.T) {
	by := func(match, port string) func(*catalog.DiscoverRule) {
		return func(r *catalog.DiscoverRule) { r.Match, r.Port = match, port }
	}
	for name, tc := range map[string]struct {
		changes []catalog.Change
		inbox   []discover.Machine
		want    string // in order of arrival: node, or - and why
	}{
		"no rule":                     {nil, []discover.Machine{machine(1)}, "-"},
		"in the order of arrival":     {[]catalog.Change{rule("a")}, []discover.Machine{machine(2), machine(1)}, "n1, n2"},
		"no more than there are":      {[]catalog.Change{rule("a")}, []discover.Machine{machine(1), machine(2), machine(3)}, "n1, n2, - rule a: all its nodes have machines"},
		"no more than the limit":      {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Limit = 1 })}, []discover.Machine{machine(1), machine(2)}, "n1, - rule a has given all that it may"},
		"the limit counts what was":   {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Limit = 1 }), catalog.ClaimNode{Node: "n2", Hardware: "52:54:00:00:02:02", Rule: "a"}}, []discover.Machine{machine(1)}, "- rule a is used up"},
		"another network":             {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Network = "far" })}, []discover.Machine{machine(1), machine(2, facts(catalog.Facts{Network: "far"}))}, "-, n1"},
		"a rack":                      {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Rack = "a" })}, []discover.Machine{machine(1), machine(2, facts(catalog.Facts{Agent: "10.1.0.250"}))}, "n1, -"},
		"another rack":                {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Rack = "b" })}, []discover.Machine{machine(1)}, "-"},
		"ignored":                     {[]catalog.Change{rule("a"), catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{machine(1).Hardware}, Why: "printer"}}, []discover.Machine{machine(1), machine(2)}, "- printer, n1"},
		"claimed":                     {[]catalog.Change{rule("a"), catalog.ClaimNode{Node: "n1", Hardware: machine(1).Hardware}}, []discover.Machine{machine(1), machine(2)}, "n1 is it, n2"},
		"it asks no more":             {[]catalog.Change{rule("a")}, []discover.Machine{machine(1, gone)}, "- it asks no more"},
		"an operating system":         {[]catalog.Change{rule("a")}, []discover.Machine{machine(1, func(m *discover.Machine) { m.Firmware = "" })}, "- it does not boot from the network"},
		"just come":                   {[]catalog.Change{rule("a")}, []discover.Machine{machine(58)}, "n1 soon"},
		"two devices of one":          {[]catalog.Change{rule("a")}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"})), machine(2, facts(catalog.Facts{UUID: "u"})), machine(3)}, "n1, - it has the UUID of machine 52:54:00:00:01:01, n2"},
		"another device of a node":    {[]catalog.Change{rule("a"), catalog.ClaimNode{Node: "n1", Hardware: machine(1).Hardware}}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"})), machine(2, facts(catalog.Facts{UUID: "u"}))}, "n1 is it, - it has the UUID of node n1"},
		"the first of two elsewhere":  {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Network = "far" })}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"})), machine(2, facts(catalog.Facts{UUID: "u", Network: "far"}))}, "-, n1"},
		"the first of two is ignored": {[]catalog.Change{rule("a"), catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{machine(1).Hardware}, Why: "a BMC"}}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"})), machine(2, facts(catalog.Facts{UUID: "u"}))}, "- a BMC, n1"},
		"the first of two is gone":    {[]catalog.Change{rule("a")}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"}), gone), machine(2, facts(catalog.Facts{UUID: "u"}))}, "- it asks no more, n1"},
		"the second of two is a node": {[]catalog.Change{rule("a"), catalog.ClaimNode{Node: "n1", Hardware: machine(2).Hardware}}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"})), machine(2, facts(catalog.Facts{UUID: "u"}))}, "- it has the UUID of node n1, n1 is it"},
		"two of one, two rules":       {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Network = "far" }), rule("b", func(r *catalog.DiscoverRule) { r.Nodes = catalog.NodeSetOf("n3") })}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "u"})), machine(2, facts(catalog.Facts{UUID: "u", Network: "far"}))}, "- it has the UUID of machine 52:54:00:00:01:02, n1"},
		"serial":                      {[]catalog.Change{rule("a", by("serial", "")), tags("n2", "serial", "AB7")}, []discover.Machine{machine(1, facts(catalog.Facts{Serial: "ab7"})), machine(2, facts(catalog.Facts{Serial: "x"})), machine(3)}, "n2, - rule a: no node declares its serial number, - rule a: its serial number is not known"},
		"serial of a node that has":   {[]catalog.Change{rule("a", by("serial", "")), tags("n4", "serial", "AB7")}, []discover.Machine{machine(1, facts(catalog.Facts{Serial: "AB7"}))}, "- rule a: node n4 has a machine already"},
		"serial twice":                {[]catalog.Change{rule("a", by("serial", "")), tags("n1", "serial", "AB7")}, []discover.Machine{machine(1, facts(catalog.Facts{Serial: "AB7"})), machine(2, facts(catalog.Facts{Serial: "AB7"}))}, "n1, - rule a: node n1 has a machine already"},
		"UUID":                        {[]catalog.Change{rule("a", by("uuid", "")), catalog.SetNodes{Nodes: catalog.NodeSetOf("n2"), Set: catalog.Settings{UUID: new("4c4c4544-0042-3510-8054-b4c04f564433")}}}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "4c4c4544-0042-3510-8054-b4c04f564433"}))}, "n2"},
		"declared UUID, first":        {[]catalog.Change{rule("a"), catalog.SetNodes{Nodes: catalog.NodeSetOf("n2"), Set: catalog.Settings{UUID: new("4c4c4544-0042-3510-8054-b4c04f564433")}}}, []discover.Machine{machine(1, facts(catalog.Facts{UUID: "4c4c4544-0042-3510-8054-b4c04f564433"}))}, "- it has the UUID of node n2"},
		"port by formula":             {[]catalog.Change{rule("a", by("port", "sw7/Gi1/0/{n1}"))}, []discover.Machine{machine(1, facts(catalog.Facts{Switch: "SW7", Port: "gi1/0/2"})), machine(2, facts(catalog.Facts{Switch: "sw8", Port: "Gi1/0/1"})), machine(3)}, "n2, - rule a: no node is expected at sw8/Gi1/0/1, - rule a: no switch says where it is plugged in"},
		"port of any switch":          {[]catalog.Change{rule("a", by("port", "*/{n1}"))}, []discover.Machine{machine(1, facts(catalog.Facts{Switch: "00:11", Port: "2"})), machine(2, facts(catalog.Facts{Port: "1"}))}, "n2, n1"},
		"port declared":               {[]catalog.Change{rule("a", by("port", "")), tags("n2", "port", "sw1/e9")}, []discover.Machine{machine(1, facts(catalog.Facts{Switch: "sw1", Port: "e9"}))}, "n2"},
		"who knows goes before any":   {[]catalog.Change{rule("any", func(r *catalog.DiscoverRule) { r.Order = 2 }), rule("sn", by("serial", ""), func(r *catalog.DiscoverRule) { r.Order = 1 }), tags("n1", "serial", "S")}, []discover.Machine{machine(1), machine(2, facts(catalog.Facts{Serial: "S"}))}, "n2, n1"},
		"a node that is gone":         {[]catalog.Change{rule("a"), catalog.DeleteNodes{Nodes: catalog.NodeSetOf("n1")}}, []discover.Machine{machine(1)}, "n2"},
		"a rule that is over is told": {[]catalog.Change{rule("a", func(r *catalog.DiscoverRule) { r.Expires = now.Add(time.Nanosecond) })}, []discover.Machine{machine(1)}, "n1"},
	} {
		c := lab(t, tc.changes...)
		var got []string
		for _, f := range discover.Look(c, c.OrderedRules(), tc.inbox, now) {
			switch {
			case f.State == discover.Claimed:
				got = append(got, string(f.Node)+" is it")
			case f.Due:
				got = append(got, string(f.Node))
			case f.Node != "":
				got = append(got, string(f.Node)+" soon")
			default:
				got = append(got, strings.TrimSpace("- "+f.Why))
			}
		}
		if got := strings.Join(got, ", "); got != tc.want {
			t.Errorf("%s: got %s\nwant %s", name, got, tc.want)
		}
	}
}

// Who gives nodes to whatever machines wait must not give one to a machine that left days ago, nor two to one machine.
func TestNextAreThoseThatWaitAndEachOnce(t *testing.T) {
	c := lab(t, catalog.ClaimNode{Node: "n1", Hardware: machine(7).Hardware}, catalog.SetNodes{Nodes: catalog.NodeSetOf("n2"), Set: catalog.Settings{UUID: new("4c4c4544-0042-3510-8054-b4c04f564433")}},
		catalog.IgnoreMachines{Machines: []catalog.HardwareAddr{machine(9).Hardware}, Why: "a switch"})
	of := func(uuid string) func(*discover.Machine) { return facts(catalog.Facts{UUID: uuid}) }
	found := discover.Look(c, nil, []discover.Machine{
		machine(1, gone, of("u")), machine(2, of("u")), machine(3), machine(4, of("u")), machine(5, func(m *discover.Machine) { m.Firmware = "" }), machine(6),
		machine(7, of("v")), machine(8, of("v")), machine(9), machine(10, of("4c4c4544-0042-3510-8054-b4c04f564433")),
	}, now)
	found = slices.DeleteFunc(found, func(f discover.Found) bool { return f.State != discover.New })
	next, left := discover.Next(found)
	var got []string
	for _, f := range next {
		got = append(got, string(f.Hardware[15:]))
	}
	for _, f := range left {
		got = append(got, string(f.Hardware[15:])+" "+f.Why)
	}
	if got, want := strings.Join(got, ", "), "02, 03, 06, 01 it asks no more, 04 it has the UUID of machine 52:54:00:00:01:02, 05 it does not boot from the network, "+
		"08 it has the UUID of node n1, 0a it has the UUID of node n2"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// What Look finds due, the log takes: else the leader would propose it again and again.
func TestWhatIsDueIsAccepted(t *testing.T) {
	c := lab(t, rule("a"), rule("b", func(r *catalog.DiscoverRule) { r.Nodes, r.Order = catalog.NodeSetOf("n3"), -1 }))
	inbox := []discover.Machine{machine(1), machine(2), machine(3), machine(4)}
	for _, f := range discover.Look(c, c.OrderedRules(), inbox, now) {
		if !f.Due {
			continue
		}
		b, err := catalog.Entry{At: now, Change: catalog.ClaimNode{Node: f.Node, Hardware: f.Hardware, Rule: f.Rule}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	left := slices.DeleteFunc(discover.Look(c, c.OrderedRules(), inbox, now), func(f discover.Found) bool { return f.State == discover.Claimed })
	if len(left) != 1 || left[0].Due {
		t.Errorf("still to do: %+v", left)
	}
}

func BenchmarkLook(b *testing.B) {
	c := lab(b, rule("a"), rule("p", func(r *catalog.DiscoverRule) { r.Match, r.Port = catalog.MatchPort, "*/{n1}" }))
	var inbox []discover.Machine
	for i := range 10_000 {
		inbox = append(inbox, machine(i%50, func(m *discover.Machine) {
			m.Hardware = catalog.HardwareAddr(fmt.Sprintf("52:54:00:01:%02x:%02x", i>>8, i&255))
		}))
	}
	for b.Loop() {
		discover.Look(c, c.OrderedRules(), inbox, now)
	}
}
