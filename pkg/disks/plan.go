package disks

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Range is a part of a disk, in bytes.
type Range struct{ At, Size int64 }

// Plan is what is to be done to a disk, in this order: Clear is overwritten with zeros, then Table is written.
type Plan struct {
	Clear []Range // what may look like content where a new partition begins and ends, and a table that has to go
	Table *Table  // nil if none is to be written
	Fresh bool    // of Table: there was none before
	Steps []string
}

// Ends are where anything that could be taken for content has its marks. The beginning comes last: as long as it is there,
// what is there is known.
func Ends(at, size int64) []Range {
	if size <= Head+Tail {
		return []Range{{at, size}}
	}
	return []Range{{at + size - Tail, Tail}, {at, Head}}
}

// PlanDisk says how a disk comes to hold the declared partitions. Random is for identifiers. What is not permitted is
// fault.Conflict, and what has no room fault.Full; then nothing at all is to be done.
func PlanDisk(d catalog.Disk, present Present, random io.Reader) (Plan, error) {
	p := &planner{wipe: isTrue(d.Wipe), random: random}
	if len(d.Partitions) == 0 {
		if p.wipe && present.Tabled {
			p.plan.Clear = Ends(0, present.Size)
			p.say("%s is removed", present.What)
		}
		return p.plan, nil
	}
	if err := p.begin(present); err != nil {
		return Plan{}, err
	}
	for _, step := range []func() error{
		func() error { return p.read(d.Partitions) }, p.match, p.remove, p.keep, p.create, p.fill,
	} {
		if err := step(); err != nil {
			return Plan{}, err
		}
	}
	if !p.changed {
		return Plan{}, nil
	}
	slices.SortFunc(p.t.Entries, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	p.plan.Table = p.t
	return p.plan, p.t.check()
}

// planner is the making of one plan.
type planner struct {
	wipe    bool
	random  io.Reader
	t       *Table
	changed bool
	plan    Plan
	wanted  []*wanted // by number, those without last, then by label
}

// wanted is a partition as it is declared.
type wanted struct {
	label        string
	number       int
	start, size  uint64 // sectors; 0 for not declared
	kind, guid   *GUID
	gone         bool // it shall not be there
	wipe, resize bool
	found        int // the number of the entry that it is about; 0 for none
}

func (p *planner) say(format string, args ...any) {
	p.plan.Steps, p.changed = append(p.plan.Steps, fmt.Sprintf(format, args...)), true
}

// begin takes the table that there is, or a new one where it may.
func (p *planner) begin(present Present) (err error) {
	if present.Table != nil {
		p.t = present.Table.clone()
		if present.Table.mended {
			p.say("the damaged first copy of the partition table is written anew from the second one")
		}
		return nil
	}
	if !present.Blank && !p.wipe {
		return fault.New(fault.Conflict, "it holds %s, and nothing permits to remove that", present.What).
			WithFix("take the data away, or permit it: wipe_table of this disk")
	}
	if p.t, err = newTable(present.Size, present.Sector, p.random); err != nil {
		return err
	}
	p.plan.Fresh = true
	if present.Blank {
		p.say("a partition table is made")
	} else {
		p.plan.Clear = Ends(0, present.Size)
		p.say("a partition table is made in place of %s", present.What)
	}
	return nil
}

// read reads the declaration.
func (p *planner) read(partitions map[string]catalog.Partition) error {
	mib := uint64(align / p.t.Sector)
	for _, label := range slices.Sorted(maps.Keys(partitions)) {
		d := partitions[label]
		w := &wanted{label: label, number: value(d.Number), gone: d.Exists != nil && !*d.Exists, wipe: isTrue(d.Wipe) || p.wipe, resize: isTrue(d.Resize)}
		w.start, w.size = uint64(max(value(d.Start), 0))*mib, uint64(max(value(d.Size), 0))*mib
		if n := len(utf16.Encode([]rune(label))); n > maxLabel || n == 0 {
			return fault.New(fault.Invalid, "the label %q has %d characters; a partition has from 1 to %d", label, n, maxLabel)
		}
		if w.number < 0 || w.number > p.t.slots {
			return fault.New(fault.Invalid, "partition %s: the number %d is not from 1 to %d", label, w.number, p.t.slots)
		}
		for _, other := range p.wanted {
			if w.number > 0 && other.number == w.number {
				return fault.New(fault.Invalid, "partitions %s and %s both have the number %d", other.label, label, w.number)
			}
		}
		for _, g := range []struct {
			text *string
			to   **GUID
		}{{d.Type, &w.kind}, {d.GUID, &w.guid}} {
			if g.text == nil || *g.text == "" || *g.text == "0" {
				continue
			}
			guid, err := ParseGUID(*g.text)
			if err != nil {
				return fault.Wrap(fault.Invalid, err, "partition %s", label)
			}
			*g.to = &guid
		}
		p.wanted = append(p.wanted, w)
	}
	slices.SortStableFunc(p.wanted, func(a, b *wanted) int {
		return cmp.Compare(uint(a.number)-1, uint(b.number)-1) // 0 becomes the largest
	})
	return nil
}

// match finds the entry that each declared partition is about: by its number, or by its label.
func (p *planner) match() error {
	taken := map[int]bool{}
	for _, w := range p.wanted {
		if w.number > 0 && p.t.Entry(w.number) != nil {
			w.found = w.number
		}
		taken[w.found] = true
	}
	for _, w := range p.wanted {
		for _, e := range p.t.Entries {
			if w.found == e.Number || e.Label != w.label || taken[e.Number] {
				continue
			}
			if w.found != 0 && p.wipe {
				continue // it goes
			}
			if w.found != 0 {
				return fault.New(fault.Conflict, "partition %s is to be the one with the number %d, and partition %d has that label", w.label, w.found, e.Number).
					WithFix("give that one another label or remove it, or declare its number")
			}
			w.found = e.Number
			taken[e.Number] = true
		}
	}
	return nil
}

// remove takes away what shall not be there.
func (p *planner) remove() error {
	for _, w := range p.wanted {
		if !w.gone || w.found == 0 {
			continue
		}
		if !w.wipe {
			return fault.New(fault.Conflict, "partition %s shall not exist, and nothing permits to remove it", w.label).WithFix("permit it: wipe_partition_entry of the partition")
		}
		p.drop(w.found, "is removed")
	}
	if !p.wipe {
		return nil
	}
	for _, e := range slices.Clone(p.t.Entries) {
		if !slices.ContainsFunc(p.wanted, func(w *wanted) bool { return w.found == e.Number }) {
			p.drop(e.Number, "is removed, for it is not declared")
		}
	}
	return nil
}

func (p *planner) drop(number int, how string) {
	e := *p.t.Entry(number)
	p.t.Entries = slices.DeleteFunc(p.t.Entries, func(x Entry) bool { return x.Number == number })
	p.say("partition %d %s %s", number, name(e.Label), how)
}

func name(label string) string {
	if label == "" {
		return "without label"
	}
	return label
}

// keep compares the entries that are there with what is declared, and changes what it may.
func (p *planner) keep() error {
	for _, w := range p.wanted {
		if w.gone || w.found == 0 {
			continue
		}
		e := p.t.Entry(w.found)
		place, names := p.differs(w, *e)
		switch {
		case place == "" && names == "":
		case place == "" && w.wipe:
			p.say("partition %d %s is changed: %s", e.Number, name(e.Label), names)
			p.describe(e, w)
		case names == "" && w.resize && p.onlyGrows(w, *e):
			if _, end := p.gapBehind(*e); e.First+w.size > end {
				return fault.New(fault.Full, "partition %s cannot grow to %s: there is room for %s", w.label, p.mib(w.size), p.mib(end-e.First))
			}
			p.say("partition %d %s grows from %s to %s", e.Number, w.label, p.mib(e.Last-e.First+1), p.mib(w.size))
			e.Last = e.First + w.size - 1
		case w.wipe:
			p.drop(w.found, "goes, for "+join(names, place))
			w.found = 0
		default:
			err := fault.New(fault.Conflict, "partition %d is not as declared: %s", e.Number, join(names, place))
			if names == "" && p.onlyGrows(w, *e) {
				return err.WithFix("let it grow: resize of partition %s", w.label)
			}
			return err.WithFix("declare what is there, or permit to make it anew: wipe_partition_entry of partition %s", w.label)
		}
	}
	return nil
}

func join(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), ", ")
}

// differs says how an entry differs from its declaration, in what no change can mend and in what one can.
func (p *planner) differs(w *wanted, e Entry) (place, names string) {
	var a, b []string
	if w.number > 0 && w.number != e.Number {
		a = append(a, fmt.Sprintf("its number is %d, not %d", e.Number, w.number))
	}
	if w.start > 0 && w.start != e.First {
		a = append(a, fmt.Sprintf("it starts at %s, not %s", p.mib(e.First), p.mib(w.start)))
	}
	if n := e.Last - e.First + 1; w.size > 0 && w.size != n {
		a = append(a, fmt.Sprintf("it has %s, not %s", p.mib(n), p.mib(w.size)))
	}
	if w.label != e.Label {
		b = append(b, fmt.Sprintf("its label is %q, not %q", e.Label, w.label))
	}
	if w.kind != nil && *w.kind != e.Type {
		b = append(b, fmt.Sprintf("its type is %s, not %s", e.Type, w.kind))
	}
	if w.guid != nil && *w.guid != e.GUID {
		b = append(b, fmt.Sprintf("its GUID is %s, not %s", e.GUID, w.guid))
	}
	return strings.Join(a, ", "), strings.Join(b, ", ")
}

// onlyGrows tells whether an entry has all that is declared but for some space behind it.
func (p *planner) onlyGrows(w *wanted, e Entry) bool {
	return (w.number == 0 || w.number == e.Number) && (w.start == 0 || w.start == e.First) && w.size > e.Last-e.First+1
}

// describe gives an entry what is declared of it.
func (p *planner) describe(e *Entry, w *wanted) {
	e.Label = w.label
	if w.kind != nil {
		e.Type = *w.kind
	}
	if w.guid != nil {
		e.GUID = *w.guid
	}
}

// mib writes a number of sectors.
func (p *planner) mib(sectors uint64) string {
	bytes := sectors * uint64(p.t.Sector)
	if bytes%align != 0 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/align)
	}
	return fmt.Sprintf("%d MiB", bytes/align)
}

func isTrue(b *bool) bool { return b != nil && *b }

func value[T int | int64](v *T) T {
	if v == nil {
		return 0
	}
	return *v
}
