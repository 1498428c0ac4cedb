package journal_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// hall has so many nodes, 16 in a rack, all in one network; the n-th has the n-th address, and can boot.
func hall(t *testing.T, nodes int) *catalog.Catalog {
	var all []catalog.Node
	for n := range nodes {
		all = append(all, catalog.Node{Name: inHall(n), Settings: catalog.Settings{
			Image: new("debian"), Rack: new(fmt.Sprintf("r%02d", n/16)),
			Nets: map[string]catalog.NetDev{"default": {Hardware: new(hardware(n)), Address: new(address(n)), Network: new("hall")}},
		}})
	}
	return lab(t, append(relay(), catalog.AddNetwork{Network: catalog.Network{Name: "hall", Prefix: netip.MustParsePrefix("10.2.0.0/16")}}, catalog.AddNodes{Nodes: all})...)
}

func inHall(n int) catalog.NodeName { return catalog.NodeName(fmt.Sprintf("h%04d", n)) }

func hardware(n int) catalog.HardwareAddr {
	return catalog.HardwareAddr(fmt.Sprintf("52:54:00:02:%02x:%02x", n>>8, n&255))
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 2, byte(n>>8) + 1, byte(n)}) }

// boots is the boot of the n-th node, up to a stage.
func boots(n int, to boot.Stage) []boot.Event {
	var all []boot.Event
	for _, e := range whole(fmt.Sprintf("b%d", n), 0)[:to.Index()+1] {
		e.Node, e.Hardware, e.Address, e.Took = inHall(n), hardware(n), address(n).String(), time.Second
		all = append(all, e)
	}
	return all
}

// However many machines there are in the network, a node is compared with those of its rack: with all of them, each time.
func TestANodeIsComparedWithItsOwnRack(t *testing.T) {
	const nodes = 1200
	c, j := hall(t, nodes), open(t, "")
	for n := range nodes {
		to := boot.StageUp
		if n == 5 {
			to = boot.StageLoader
		}
		j.Record(boots(n, to))
	}
	for range 5 {
		w, err := j.Why(c, inHall(5), nil, t0.Add(time.Hour))
		if err != nil || len(w.Notes) == 0 || w.Notes[0] != "15 other nodes in rack r00 came further meanwhile: its relay serves" || w.Typical[boot.StageImage] != time.Second {
			t.Fatalf("%v, typical %v, %v", w.Notes, w.Typical, err)
		}
	}
}

// Where there are no racks, it is compared with those in its network that are next to it by name.
func TestANodeWithoutRackIsComparedWithThoseNextToIt(t *testing.T) {
	c, j := hall(t, 600), open(t, "")
	var names catalog.NodeSet
	for n := range 600 {
		names = append(names, inHall(n))
		to := boot.StageLoader
		if n > 300 {
			to = boot.StageUp
		}
		j.Record(boots(n, to))
	}
	b, err := catalog.Entry{At: t0, Change: catalog.SetNodes{Nodes: names, Unset: []string{"rack"}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	c, _, err = c.Apply(c.Revision+1, b)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{0: "212 other nodes in network hall", 300: "256 other nodes in network hall"} {
		w, err := j.Why(c, inHall(n), nil, t0.Add(time.Hour))
		if err != nil || len(w.Notes) == 0 || !strings.HasPrefix(w.Notes[0], want) {
			t.Errorf("node %d: %v, %v", n, w.Notes, err)
		}
	}
}

// Many at once are told what each would be told alone.
func TestManyAreExplainedAsOneIs(t *testing.T) {
	c, j := hall(t, 40), open(t, "")
	var names []catalog.NodeName
	now := t0.Add(time.Hour)
	for n := range 40 {
		names = append(names, inHall(n))
		if n%7 > 0 {
			j.Record(boots(n, boot.Stages()[n%7]))
		}
	}
	j.Record([]boot.Event{{Time: now.Add(-time.Minute), Hardware: "52:54:00:00:00:99", Stage: boot.StageDHCP, Relay: "r1"}})
	all, err := j.Whys(c, names, nil, now)
	if err != nil || len(all) != len(names) {
		t.Fatalf("%d, %v", len(all), err)
	}
	for i, name := range names {
		if one, err := j.Why(c, name, nil, now); err != nil || !reflect.DeepEqual(one, all[i]) {
			t.Errorf("%s: alone %+v\namong others %+v", name, one, all[i])
		}
	}
}

// Events of other nodes come, late and in no order, while somebody asks why a node does not boot.
func TestWhyIsAskedWhileEventsCome(t *testing.T) {
	c, j := hall(t, 16), open(t, "")
	j.Record(boots(0, boot.StageLoader))
	var g sync.WaitGroup
	g.Go(func() {
		for round := range 50 {
			for n := 1; n < 16; n++ {
				all := boots(n, boot.StageUp)
				for i := len(all) - 1; i >= 0; i-- {
					all[i].Boot, all[i].Time = fmt.Sprint(n, round), all[i].Time.Add(time.Duration(round)*time.Minute)
					j.Record(all[i : i+1])
				}
			}
		}
	})
	for range 50 {
		if _, err := j.Why(c, inHall(0), nil, t0.Add(time.Hour)); err != nil {
			t.Error(err)
		}
	}
	g.Wait()
}
