package catalog_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// declaredState is what a revert brings back, as text.
func declaredState(t *testing.T, c *catalog.Catalog) string {
	t.Helper()
	var all []any
	for n := range c.Networks() {
		all = append(all, n)
	}
	for p := range c.Profiles() {
		all = append(all, p)
	}
	for n := range c.Nodes() {
		all = append(all, n)
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whatever happened in between, also other reverts: a revert leads back to what was declared then.
func TestRevertLeadsBackToAnyRevision(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		l := started(t)
		first := l.c.Revision
		states := map[catalog.Revision]string{first: declaredState(t, l.c)}
		done := []string{}
		for range 40 {
			change := randomChange(r, l.c, first)
			if l.do(change) == nil {
				done = append(done, fmt.Sprintf("%d %s", l.c.Revision, catalog.KindOf(change)))
			}
			states[l.c.Revision] = declaredState(t, l.c)
		}
		to := first + catalog.Revision(r.Uint64N(uint64(l.c.Revision-first)))
		if want := states[to]; want == states[l.c.Revision] {
			continue // perhaps nothing happened since
		}
		b, err := (&catalog.Entry{By: "test", At: at, Change: catalog.Revert{To: to}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.c.Preview(b); err != nil {
			t.Errorf("seed %d: preview of a revert to %d: %v\n%v", seed, to, err, done)
		}
		if err := l.do(catalog.Revert{To: to}); err != nil {
			t.Errorf("seed %d: revert to %d: %v\n%v", seed, to, err, done)
			continue
		}
		if got := declaredState(t, l.c); got != states[to] {
			t.Errorf("seed %d: revert to %d\n got %s\nwant %s\n%v", seed, to, got, states[to], done)
		}
	}
}

func randomChange(r *rand.Rand, c *catalog.Catalog, first catalog.Revision) catalog.Change {
	name := func() catalog.NodeName { return catalog.NodeName(fmt.Sprintf("x%d", r.IntN(4))) }
	profile := func() catalog.ProfileName { return catalog.ProfileName(fmt.Sprintf("p%d", r.IntN(4))) }
	network := func() catalog.NetworkName { return catalog.NetworkName(fmt.Sprintf("net%d", r.IntN(3))) }
	word := func() *string { return new(fmt.Sprintf("w%d", r.IntN(3))) }
	var change catalog.Change
	switch r.IntN(10) {
	case 0, 1:
		n := name()
		change = catalog.AddNodes{Names: catalog.NodeSet{n}, Profiles: &[]catalog.ProfileName{profile()}, Set: catalog.Settings{Rack: word(), Tags: map[string]string{"a": *word()}}}
	case 2:
		change = catalog.DeleteNodes{Nodes: catalog.NodeSet{name()}}
	case 3:
		change = catalog.SetNodes{Nodes: catalog.NodeSet{name()}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Network: new(string(network()))}}}, Unset: []string{"rack"}}
	case 4, 5:
		change = catalog.AddProfile{Profile: catalog.Profile{Name: profile(), Profiles: []catalog.ProfileName{profile()}[:r.IntN(2)], Settings: catalog.Settings{Zone: word()}}}
	case 6:
		change = catalog.DeleteProfile{Name: profile()}
	case 7:
		change = catalog.SetProfiles{Names: []catalog.ProfileName{profile()}, Profiles: &[]catalog.ProfileName{profile()}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Network: new(string(network()))}}}}
	case 8:
		i := r.IntN(3)
		change = catalog.AddNetwork{Network: catalog.Network{Name: catalog.NetworkName(fmt.Sprintf("net%d", i)), Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", 20+i))}}
	case 9:
		change = catalog.DeleteNetwork{Name: network()}
	}
	switch r.IntN(8) {
	case 0:
		return catalog.Revert{To: first + catalog.Revision(r.Uint64N(uint64(c.Revision-first)+1))}
	case 1:
		return catalog.Batch{Changes: []catalog.Step{{Change: change}, {Change: randomStep(r)}}}
	}
	return change
}

func randomStep(r *rand.Rand) catalog.Change {
	return catalog.AddNodes{Names: catalog.NodeSet{catalog.NodeName(fmt.Sprintf("x%d", r.IntN(4)))}}
}

// What a revert passes over, its making and its deletion, is not there before or after, and nobody is told of it.
func TestRevertOverWhatCameAndWentIsPreviewed(t *testing.T) {
	l := started(t)
	to := l.c.Revision
	l.must(
		catalog.AddProfile{Profile: catalog.Profile{Name: "short"}},
		catalog.AddNodes{Names: catalog.NodeSet{"short"}, Profiles: &[]catalog.ProfileName{"short"}},
		catalog.DeleteNodes{Nodes: catalog.NodeSet{"short"}},
		catalog.DeleteProfile{Name: "short"},
	)
	b, err := (&catalog.Entry{By: "test", At: at, Change: catalog.Revert{To: to}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.c.Preview(b)
	if err != nil {
		t.Fatal(err)
	}
	if p.Changed || p.Nodes != 0 {
		t.Errorf("got %+v, want nothing", p)
	}
	before := l.c.Revision
	l.must(catalog.Revert{To: to}, catalog.Revert{To: before})
}

// The setting that a conflict says to free is the one of the node that has the address.
func TestConflictNamesTheSettingToFree(t *testing.T) {
	l := started(t)
	hw := catalog.HardwareAddr("52:54:00:00:00:77")
	l.must(catalog.SetNodes{Nodes: catalog.NodeSet{"n1"}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{"ib0": {Hardware: &hw}}}})
	err := l.do(catalog.SetNodes{Nodes: catalog.NodeSet{"n2"}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{"eth5": {Hardware: &hw}}}})
	got := fmt.Sprint(err, " ", fault.Fix(err))
	if want := "node n2: hardware address 52:54:00:00:00:77 belongs to node n1 already free it with: wulf node set n1 --unset nets.ib0.hardware"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// A revert that made profiles which build on one another can be taken back.
func TestRevertOfARevertDeletesProfilesThatBuildOnOneAnother(t *testing.T) {
	l := started(t)
	without := l.c.Revision
	l.must(
		catalog.AddProfile{Profile: catalog.Profile{Name: "a"}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "b", Profiles: []catalog.ProfileName{"a"}}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "c", Profiles: []catalog.ProfileName{"b"}}},
	)
	with := l.c.Revision
	l.must(catalog.Revert{To: without})
	gone := l.c.Revision
	l.must(catalog.Revert{To: with}, catalog.Revert{To: gone})
	if _, ok := l.c.Profile("a"); ok {
		t.Error("profile a is still there")
	}
}

// A list without words takes a list away, also where a file declares it so.
func TestDifferenceToAnEmptyListUnsets(t *testing.T) {
	full, empty := catalog.Settings{Roles: []string{"login"}}, catalog.Settings{Roles: []string{}}
	if set, unset := catalog.Difference(full, empty); len(set.Decided()) > 0 || fmt.Sprint(unset) != "[roles]" {
		t.Errorf("got %v and %v, want roles to be unset", set.Decided(), unset)
	}
	if set, unset := catalog.Difference(catalog.Settings{}, empty); len(set.Decided())+len(unset) > 0 {
		t.Errorf("got %v and %v, want no difference", set.Decided(), unset)
	}
}
