package disks

import "io"

// Present is what a disk holds that is to have partitions.
type Present struct {
	Size   int64
	Sector int    // bytes of a logical sector
	Table  *Table // nil if there is no whole GPT
	Blank  bool   // without one: the disk is free to be taken
	Tabled bool   // there is a partition table, of whatever kind and in whatever state
	What   string // without one, on a disk that is not: what is there, for people
}

// Look reads what a disk of size bytes holds. An error is the disk's.
func Look(r io.ReaderAt, size int64, sector int) (Present, error) {
	p := Present{Size: size, Sector: sector}
	c, err := Probe(r, size)
	if err != nil {
		return p, err
	}
	if c.Blank {
		p.Blank = true
		return p, nil
	}
	p.What = c.String()
	head := make([]byte, min(size, int64(2*sector)))
	if err := readAt(r, head, 0); err != nil {
		return p, err
	}
	p.Tabled = bootRecord(head) != "" || at(head, sector, signature)
	if len(head) < 2*sector || bootRecord(head) != "protective" {
		return p, nil // a GPT without its boot record is not one for the kernel either
	}
	if at(head, 440, mbrMark) && zero(head[sector:]) {
		p.Blank, p.Tabled = true, false // what was there had to go, and the table was not complete when the current failed
		return p, nil
	}
	t, first := readTable(r, size, sector, 1)
	if first != nil && at(head, sector, signature) {
		// Only the writing of the first copy was cut off: the second one is what UEFI has it for.
		if last := uint64(size/int64(sector)) - 1; last > 1 {
			if t, err = readTable(r, size, sector, last); err == nil {
				t.mended, first = true, nil
			}
		}
	}
	if first != nil {
		p.What = "a damaged partition table (" + first.Error() + ")"
		return p, nil
	}
	p.Table, p.What = t, "a partition table (GPT)"
	return p, nil
}
