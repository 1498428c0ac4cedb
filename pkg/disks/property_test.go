package disks_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
)

// someDisk draws a declaration, of which about half can be.
func someDisk(permit bool) *rapid.Generator[catalog.Disk] {
	return rapid.Custom(func(t *rapid.T) catalog.Disk {
		maybe := func(what string) *bool {
			if rapid.IntRange(0, 2).Draw(t, what) == 0 {
				return new(true)
			}
			return nil
		}
		d := catalog.Disk{Partitions: map[string]catalog.Partition{}}
		if permit {
			d.Wipe = maybe("wipe table")
		}
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := catalog.Partition{Resize: maybe("resize")}
			if rapid.Bool().Draw(t, "numbered") {
				p.Number = new(rapid.IntRange(0, 5).Draw(t, "number"))
			}
			if rapid.Bool().Draw(t, "sized") {
				p.Size = new(int64(rapid.IntRange(0, 60).Draw(t, "size")))
			}
			if rapid.IntRange(0, 3).Draw(t, "placed") == 0 {
				p.Start = new(int64(rapid.IntRange(0, 90).Draw(t, "start")))
			}
			if rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
				p.Exists = new(false)
			}
			if permit {
				p.Wipe = maybe("wipe")
			}
			d.Partitions[string(rune('a'+rapid.IntRange(0, 5).Draw(t, "label")))] = p
		}
		return d
	})
}

// overlaps tells whether two parts of a disk have a byte in common.
func overlaps(r disks.Range, e disks.Entry) bool {
	return r.At <= int64(e.Last)*512+511 && r.At+r.Size > int64(e.First)*512
}

// Whatever was there and whatever is declared: a plan that is made can be carried out, has nothing left to do afterwards,
// and touches no partition unless it may. When the current fails half-way the next boot comes to the same end.
func TestPlansConvergeAndDestroyNothingWithoutPermission(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRAM(100 * mib)
		look := func(r *ram) disks.Present {
			p, err := disks.Look(r, r.size, r.sector)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		for round := range rapid.IntRange(1, 4).Draw(t, "rounds") {
			d := someDisk(round == 0 || rapid.Bool().Draw(t, "permitted")).Draw(t, "declared")
			before := look(r)
			plan, err := disks.PlanDisk(d, before, random(uint64(round)))
			if err != nil {
				continue
			}
			check(t, d, before, plan)
			steps := len(plan.Clear)
			if plan.Table != nil {
				steps += len(plan.Table.Writes(plan.Fresh))
			}
			cut := r.clone()
			cut.apply(plan, rapid.IntRange(0, steps).Draw(t, "cut"))
			r.apply(plan, all)
			after := look(r)
			for _, x := range []*ram{r, cut} {
				again, err := disks.PlanDisk(d, look(x), random(uint64(round)+100))
				if err != nil {
					t.Fatalf("after %v: %v", plan.Steps, err)
				}
				if x == r && (again.Table != nil || len(again.Clear)+len(again.Steps) > 0) {
					t.Fatalf("nothing should be left to do: %v", again.Steps)
				}
				x.apply(again, all)
			}
			if got, want := show(look(cut)), show(after); got != want {
				t.Fatalf("after a power cut\n%s, else\n%s", got, want)
			}
		}
	})
}

// check holds a plan against what was there before and the permissions.
func check(t *rapid.T, d catalog.Disk, before disks.Present, plan disks.Plan) {
	if d.Wipe != nil && *d.Wipe || before.Table == nil || plan.Table == nil {
		return
	}
	for _, old := range before.Table.Entries {
		p, declared := d.Partitions[old.Label]
		permitted := declared && p.Wipe != nil && *p.Wipe
		for _, p := range d.Partitions {
			permitted = permitted || p.Number != nil && *p.Number == old.Number && p.Wipe != nil && *p.Wipe
		}
		if permitted {
			continue
		}
		for _, c := range plan.Clear {
			if overlaps(c, old) {
				t.Fatalf("%+v is cleared, which is in %+v", c, old)
			}
		}
		kept := false
		for _, e := range plan.Table.Entries {
			grown := e
			grown.Last = old.Last
			kept = kept || grown == old && e.Last >= old.Last
		}
		if !kept {
			t.Fatalf("partition %+v is gone or another: %s", old, fmt.Sprint(plan.Steps))
		}
	}
}
