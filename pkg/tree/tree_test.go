package tree_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/tree"
)

func idOf(i int) chunk.ID { return chunk.Of(binary.BigEndian.AppendUint64(nil, uint64(i))) }

// chunkOf is a chunk, every other one of which is large.
func chunkOf(i int) chunk.Ref { return chunk.Ref{ID: idOf(i), Size: 1 + int64(i&1)*tree.Large} }

// site makes zones × racks × relays.
func site(zones, racks, relays int) []tree.Relay {
	var all []tree.Relay
	for z := range zones {
		for k := range racks {
			for r := range relays {
				all = append(all, tree.Relay{Name: fmt.Sprintf("z%dk%dr%d", z, k, r), Rack: fmt.Sprintf("k%d", k), Zone: fmt.Sprintf("z%d", z)})
			}
		}
	}
	return all
}

func parent(up []tree.Upstream) string {
	for _, u := range up {
		if !u.Kept {
			return u.Name
		}
	}
	return ""
}

// someSite draws relays, some of which follow others.
func someSite(t *rapid.T) []tree.Relay {
	var all []tree.Relay
	for i := range rapid.IntRange(1, 30).Draw(t, "relays") {
		r := tree.Relay{
			Name: fmt.Sprintf("r%d", i),
			Rack: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "rack"),
			Zone: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "zone"),
		}
		if i > 0 && rapid.IntRange(0, 5).Draw(t, "follows") == 0 {
			r.Follows = all[rapid.IntRange(0, i-1).Draw(t, "whom")].Name
		}
		all = append(all, r)
	}
	return all
}

// viewOf is a site as one sees it whom gossip told anything.
func viewOf(t *rapid.T, all []tree.Relay) *tree.Mesh {
	seen := slices.Clone(all)
	for i := range seen {
		seen[i].Down = rapid.IntRange(0, 3).Draw(t, "down") == 0
	}
	return tree.New(seen)
}

func TestNobodyWaitsInACircleWhateverGossipSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, id := someSite(t), chunkOf(rapid.Int().Draw(t, "chunk"))
		asks := map[string][]string{}
		for _, r := range all {
			mesh := viewOf(t, all)
			for _, u := range mesh.Tree(id).Above(r.Name) {
				if u.Name == r.Name {
					t.Fatalf("%s asks itself", r.Name)
				}
				if !u.Kept {
					asks[r.Name] = append(asks[r.Name], u.Name)
				}
			}
		}
		state := map[string]int{} // 1: on the way, 2: done
		var visit func(string)
		visit = func(name string) {
			if state[name] == 1 {
				t.Fatalf("%s waits for itself: %v", name, asks)
			}
			if state[name] == 2 {
				return
			}
			state[name] = 1
			for _, next := range asks[name] {
				visit(next)
			}
			state[name] = 2
		}
		for _, r := range all {
			visit(r.Name)
		}
	})
}

func TestNobodyAsksTheDeadOrTheSameTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := someSite(t)
		for i := range all {
			all[i].Down = rapid.Bool().Draw(t, "down")
		}
		mesh := tree.New(all).Tree(chunkOf(rapid.Int().Draw(t, "chunk")))
		for _, r := range all {
			seen := map[string]bool{r.Name: true}
			ask := func(name string) {
				if seen[name] {
					t.Fatalf("%s asks %s twice", r.Name, name)
				}
				seen[name] = true
				if slices.ContainsFunc(all, func(o tree.Relay) bool { return o.Name == name && o.Down }) {
					t.Fatalf("%s asks %s, which is down", r.Name, name)
				}
			}
			for _, u := range mesh.Above(r.Name) {
				ask(u.Name)
			}
			for _, name := range mesh.Others(r.Name) {
				ask(name)
			}
		}
	})
}

// However many are down: of those that agree who is, one asks a controller, one of each zone asks another zone, one of
// each rack asks another rack, and nobody is asked by more than FanOut on a level, for a large chunk FanOutLarge.
func TestAChunkCrossesEachBoundaryOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := site(rapid.IntRange(1, 6).Draw(t, "zones"), rapid.IntRange(1, 8).Draw(t, "racks"), rapid.IntRange(1, 3).Draw(t, "relays"))
		place := map[string]tree.Relay{}
		for i := range all {
			all[i].Down = rapid.IntRange(0, 2).Draw(t, "down") == 0
			place[all[i].Name] = all[i]
		}
		ref, most := chunkOf(rapid.Int().Draw(t, "chunk")), tree.FanOut
		if ref.Size > tree.Large {
			most = tree.FanOutLarge
		}
		mesh := tree.New(all).Tree(ref)
		controllers, intoZone, intoRack := 0, map[string]int{}, map[[2]string]int{}
		children := map[string][3]int{}
		up := 0
		for _, r := range all {
			if r.Down {
				continue
			}
			up++
			name := parent(mesh.Above(r.Name))
			p := place[name]
			level := 0
			switch {
			case name == "":
				controllers++
				continue
			case p.Zone != r.Zone:
				level = 2
				intoZone[r.Zone]++
			case p.Rack != r.Rack:
				level = 1
				intoRack[[2]string{r.Zone, r.Rack}]++
			}
			n := children[name]
			n[level]++
			if children[name] = n; n[level] > most {
				t.Fatalf("%s has %d children", name, n[level])
			}
		}
		if up > 0 && controllers != 1 {
			t.Fatalf("%d relays ask a controller", controllers)
		}
		for zone, n := range intoZone {
			if n > 1 {
				t.Fatalf("%d relays of zone %s ask another zone", n, zone)
			}
		}
		for rack, n := range intoRack {
			if n > 1 {
				t.Fatalf("%d relays of rack %v ask another rack", n, rack)
			}
		}
	})
}

func TestEveryUplinkCarriesTheSame(t *testing.T) {
	all := append(site(3, 4, 2), site(1, 9, 1)...) // nine of the racks of the first zone are of one relay more, or are new
	for i := range all[24:] {
		all[24+i].Name, all[24+i].Rack = fmt.Sprintf("extra%d", i), fmt.Sprintf("k%d", 20+i)
	}
	mesh, sends := tree.New(all), map[string]int{}
	const chunks = 6000
	for i := range chunks {
		tr := mesh.Tree(chunkOf(i))
		for _, r := range all {
			if p := parent(tr.Above(r.Name)); p != "" {
				sends[p]++
			}
		}
	}
	for _, r := range all {
		inRack, racks := 2.0, 4.0
		if r.Zone == "z0" {
			racks = 13
		}
		if len(r.Name) > 5 && r.Name[:5] == "extra" {
			inRack = 1
		}
		want := 1 - 1/(inRack*racks*3)
		if got := float64(sends[r.Name]) / chunks; math.Abs(got-want) > 0.12 {
			t.Errorf("%s sends %.2f copies of each chunk, want %.2f", r.Name, got, want)
		}
	}
}

func TestOneThatDiesMovesFew(t *testing.T) {
	for _, all := range [][]tree.Relay{site(1, 1, 50), site(1, 50, 1), site(2, 25, 2), site(4, 10, 2)} {
		moved, edges := 0, 0
		for i := range 300 {
			dead := i % len(all)
			without := slices.Clone(all)
			without[dead].Down = true
			before, after := tree.New(all).Tree(chunkOf(i)), tree.New(without).Tree(chunkOf(i))
			for j, r := range all {
				if j == dead {
					continue
				}
				edges++
				if parent(before.Above(r.Name)) != parent(after.Above(r.Name)) {
					moved++
				}
			}
		}
		if share := float64(moved) / float64(edges); share > 0.05 {
			t.Errorf("of %d relays one that dies moves %.1f %% of the others", len(all), 100*share)
		}
	}
}

func TestANewHeadAsksTheOneThatWasHead(t *testing.T) {
	all := site(2, 3, 2)
	mesh := tree.New(all)
	for i := range 200 {
		tr := mesh.Tree(chunkOf(i))
		for j, r := range all {
			up := tr.Above(r.Name)
			if parent(up) != "" {
				continue
			}
			before := slices.Clone(all)
			before[j].Down = true
			old := tree.New(before).Tree(chunkOf(i))
			for _, was := range all {
				if was.Name != r.Name && parent(old.Above(was.Name)) == "" && up[0].Name != was.Name {
					t.Errorf("%s asks %v first, but %s was the root before it came", r.Name, up, was.Name)
				}
			}
		}
	}
}

func TestAFollowerAsksItsOwnAndIsAskedByItsFollowers(t *testing.T) {
	all := append(site(1, 3, 2), tree.Relay{Name: "far", Zone: "hill", Follows: "z0k0r0"}, tree.Relay{Name: "farther", Zone: "hill", Follows: "far"})
	for i := range 100 {
		tr := tree.New(all).Tree(chunkOf(i))
		if up := tr.Above("farther"); up[0].Name != "far" || up[1].Name != "z0k0r0" {
			t.Fatalf("farther asks %v", up)
		}
		for _, r := range all[:6] {
			for _, u := range tr.Above(r.Name) {
				if u.Name == "far" || u.Name == "farther" {
					t.Fatalf("%s asks %s", r.Name, u.Name)
				}
			}
		}
	}
}

func TestWhoIsAloneOrUnknownAsksAController(t *testing.T) {
	if up := tree.New([]tree.Relay{{Name: "r1"}}).Tree(chunkOf(1)).Above("r1"); len(up) != 0 {
		t.Errorf("one alone asks %v", up)
	}
	if up := tree.New(nil).Tree(chunkOf(1)).Above("r1"); len(up) != 0 {
		t.Errorf("one unknown asks %v", up)
	}
	if up := tree.New([]tree.Relay{{Name: "a", Follows: "b"}, {Name: "b", Follows: "a"}}).Tree(chunkOf(1)).Above("a"); len(up) != 0 {
		t.Errorf("one of a circle asks %v", up)
	}
}

func BenchmarkAbove(b *testing.B) {
	mesh, i := tree.New(site(10, 75, 2)), 0
	for b.Loop() {
		mesh.Tree(chunkOf(i)).Above("z3k7r1")
		i++
	}
}
