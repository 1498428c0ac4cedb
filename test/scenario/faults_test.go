package scenario

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// injected is a fault, how it comes about, and what `wulf node why` must say of it.
type injected struct {
	name   string
	inject func(f *faulty)
	size   mesh.Size     // zero: a controller, two relays, three nodes
	after  time.Duration // when it is asked; 0: after ten minutes

	stage boot.Stage // that did not come about; "" if the node must be up
	cause []string   // words of the verdict, all of them
	fix   []string   // words of the fix, all of them
}

// faulty is a mesh in which one node is to be explained.
type faulty struct {
	t    *testing.T
	m    *mesh.Mesh
	node *firmware.Machine // the one that the fault is about
	name string            // of the node to be explained; "" is that of node
	rest []*firmware.Machine
}

// set decides something about the node.
func (f *faulty) set(s catalog.Settings) {
	f.t.Helper()
	f.m.Change(catalog.SetNodes{Nodes: catalog.NodeSet{catalog.NodeName(f.node.Name())}, Set: s})
}

// relays are the names of all relays.
func (f *faulty) relays() (names []string) {
	for _, r := range f.m.Relays {
		names = append(names, r.Name)
	}
	return names
}

// on switches the node on, and all others.
func (f *faulty) on() { f.m.PowerOn(append(f.rest, f.node)...) }

// faults is the catalogue.
func faults() []injected {
	all := faultsOfDeclaration()
	all = append(all, faultsOfAddresses()...)
	all = append(all, faultsOfTheWire()...)
	all = append(all, faultsOfRelays()...)
	return append(all, faultsOfMachines()...)
}

// share is how many of a hundred faults must be explained right.
const share = 95

// Every fault of the catalogue is injected into a mesh of its own, and a controller is asked why the node does not boot:
// it must name the stage that did not come about, the cause, and what mends it. What heals by itself must leave nothing
// to be said.
func TestWhyNamesStageAndCauseOfInjectedFaults(t *testing.T) {
	type row struct {
		injected
		got   api.Why
		wrong string
	}
	var rows []row
	for i, fault := range faults() {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(fault.name, " ", "-"), func(t *testing.T) {
			if fault.size == (mesh.Size{}) {
				fault.size = mesh.Size{Controllers: 1, Relays: 2, Nodes: 3}
			}
			fault.size.Seed = 1
			mesh.Run(t, fault.size, func(t *testing.T, m *mesh.Mesh) {
				f := &faulty{t: t, m: m}
				if len(m.Nodes) > 0 {
					f.node, f.rest = m.Nodes[0], m.Nodes[1:]
				}
				fault.inject(f)
				time.Sleep(cmp.Or(fault.after, 10*time.Minute))
				name := cmp.Or(f.name, f.node.Name())
				why, err := get[api.Why](t, m, strings.Replace(api.PathWhy, "{name}", name, 1))
				if err != nil {
					t.Fatal(err)
				}
				wrong := fault.judge(why)
				rows = append(rows, row{fault, why, wrong})
				if wrong != "" {
					t.Errorf("%s\nstate:   %s\nstage:   %s\nverdict: %s\nfix:     %s\nnotes:   %q\nevents:\n%s",
						wrong, why.State, why.Stage, why.Verdict, why.Fix, why.Notes, eventsOf(why))
				}
			})
		})
	}
	right := 0
	var table strings.Builder
	for _, r := range rows {
		mark := "✓"
		if r.wrong != "" {
			mark = "✗ " + r.wrong
		} else {
			right++
		}
		fmt.Fprintf(&table, "%-44s %-10s %s\n    %s\n    → %s\n", r.name, cmp.Or(string(r.got.Stage), "-"), mark, r.got.Verdict, r.got.Fix)
	}
	t.Logf("\n%s%d of %d faults are explained right: %.1f %%", table.String(), right, len(rows), 100*float64(right)/float64(max(1, len(rows))))
	if right*100 < share*len(rows) {
		t.Errorf("%d of %d faults are explained right, want %d %%", right, len(rows), share)
	}
}

// judge says what is wrong with an answer; "" if it is right.
func (i *injected) judge(w api.Why) string {
	if w.Stage != i.stage {
		return fmt.Sprintf("the stage is %q, want %q", w.Stage, i.stage)
	}
	for _, word := range i.cause {
		if !strings.Contains(w.Verdict, word) {
			return fmt.Sprintf("the cause lacks %q", word)
		}
	}
	for _, word := range i.fix {
		if !strings.Contains(w.Fix, word) {
			return fmt.Sprintf("the fix lacks %q", word)
		}
	}
	if len(i.fix) == 0 && w.Fix != "" {
		return fmt.Sprintf("there is nothing to be mended, and it says %q", w.Fix)
	}
	return ""
}

func eventsOf(w api.Why) string {
	if w.Boot == nil {
		return ""
	}
	var b strings.Builder
	for _, e := range w.Boot.Events {
		fmt.Fprintf(&b, "  %s %-9s %s %s %s %s %s\n", e.Time.Format("15:04:05"), e.Stage, e.Relay, e.Firmware, e.Address, e.Message, e.Error)
	}
	return b.String()
}

// fine is what is said of a node that runs as declared.
func fine() []string { return []string{"nothing is wrong"} }
