package disks

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Table is a partition table of the kind GPT (UEFI 2.10, chapter 5.3).
type Table struct {
	Sector  int    // bytes of a logical sector
	Sectors uint64 // of the disk
	Disk    GUID
	Entries []Entry // by number

	slots  int  // how many entries there is room for
	mended bool // read from its second copy, as the first is damaged
}

// Entry is a partition.
type Entry struct {
	Number      int // from 1
	Type, GUID  GUID
	First, Last uint64 // sectors, both of them its own
	Attributes  uint64
	Label       string
}

// Making is the attribute of a partition on which a file system is being made: what lies there is of no worth until it is
// taken away again. It is one of those that belong to a partition's type, and no type of Linux uses it.
const Making = 1 << 55

const (
	signature  = "EFI PART"
	entrySize  = 128
	slotsUsual = 128
	maxSlots   = 1024 // no program makes so many; the header could ask for 4 billion
	maxLabel   = 36   // UTF-16 units
	headerSize = 92
	align      = 1 << 20
	// mbrMark tells, in the boot record before a table, that it was made here: a disk that has it, and nothing in the sector
	// behind it, was left by a power cut before its table was complete.
	mbrMark = "wulf"
)

// size is the number of bytes of the entry.
func (t *Table) size(e Entry) int64 { return int64(e.Last-e.First+1) * int64(t.Sector) }

// arraySectors is how many sectors the entries take, in each of the two copies.
func (t *Table) arraySectors() uint64 {
	return (uint64(t.slots)*entrySize + uint64(t.Sector) - 1) / uint64(t.Sector)
}

// usable are the first and the last sector that partitions may have.
func (t *Table) usable() (first, last uint64) {
	return 2 + t.arraySectors(), t.Sectors - t.arraySectors() - 2
}

// newTable is an empty table for a disk.
func newTable(size int64, sector int, random io.Reader) (*Table, error) {
	t := &Table{Sector: sector, Sectors: uint64(size / int64(sector)), slots: slotsUsual}
	if size < 4*align {
		return nil, fault.New(fault.Invalid, "a disk of %d bytes is too small for partitions", size)
	}
	var err error
	t.Disk, err = newGUID(random)
	return t, err
}

// Entry finds a partition by its number, nil if there is none. The table is changed through it.
func (t *Table) Entry(number int) *Entry {
	for i := range t.Entries {
		if t.Entries[i].Number == number {
			return &t.Entries[i]
		}
	}
	return nil
}

// clone is a copy to change.
func (t *Table) clone() *Table {
	c := *t
	c.Entries, c.mended = slices.Clone(t.Entries), false
	return &c
}

// readTable reads a table whose header is in the sector at.
func readTable(r io.ReaderAt, size int64, sector int, at uint64) (*Table, error) {
	damaged := fault.New(fault.Corrupt, "the partition table is damaged")
	head := make([]byte, sector)
	if err := readAt(r, head, int64(at)*int64(sector)); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	n := int64(le.Uint32(head[12:]))
	if string(head[:8]) != signature || n < headerSize || n > int64(sector) {
		return nil, damaged
	}
	sum := le.Uint32(head[16:])
	clear(head[16:20])
	if crc32.ChecksumIEEE(head[:n]) != sum || le.Uint64(head[24:]) != at {
		return nil, damaged
	}
	t := &Table{Sector: sector, Sectors: uint64(size / int64(sector)), Disk: readGUID(head[56:]), slots: int(le.Uint32(head[80:]))}
	if le.Uint32(head[84:]) != entrySize || t.slots < 1 || t.slots > maxSlots {
		return nil, fault.New(fault.Corrupt, "the partition table has an unusual form: %d entries of %d bytes", t.slots, le.Uint32(head[84:]))
	}
	array, where := make([]byte, t.slots*entrySize), le.Uint64(head[72:])
	if where < 2 || where >= t.Sectors || where+t.arraySectors() > t.Sectors {
		return nil, damaged
	}
	if err := readAt(r, array, int64(where)*int64(sector)); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(array) != le.Uint32(head[88:]) {
		return nil, damaged
	}
	for i := range t.slots {
		b := array[i*entrySize:][:entrySize]
		if readGUID(b) == (GUID{}) {
			continue
		}
		units := make([]uint16, maxLabel)
		for k := range units {
			units[k] = le.Uint16(b[56+2*k:])
		}
		if end := slices.Index(units, 0); end >= 0 {
			units = units[:end]
		}
		t.Entries = append(t.Entries, Entry{Number: i + 1, Type: readGUID(b), GUID: readGUID(b[16:]),
			First: le.Uint64(b[32:]), Last: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]), Label: string(utf16.Decode(units))})
	}
	if t.slots < slotsUsual { // a table that is written anew has the usual form
		t.slots = slotsUsual
	}
	return t, t.check()
}

// check refuses partitions that lie over one another or over the table.
func (t *Table) check() error {
	first, last := t.usable()
	sorted := slices.SortedFunc(slices.Values(t.Entries), func(a, b Entry) int { return compare(a.First, b.First) })
	for i, e := range sorted {
		switch {
		case e.First > e.Last || e.First < first || e.Last > last:
			return fault.New(fault.Corrupt, "the partition table is damaged: partition %d lies outside of the disk", e.Number)
		case i > 0 && sorted[i-1].Last >= e.First:
			return fault.New(fault.Corrupt, "the partition table is damaged: partitions %d and %d overlap", sorted[i-1].Number, e.Number)
		}
	}
	return nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Write is a piece of a disk that is to be written.
type Write struct {
	At   int64
	Data []byte
}

// Writes are the pieces of the disk that hold the table, in the order in which they must reach it, each before the next:
// whenever the current fails there is an old table, a new one, or a new one that is known to be unfinished. With fresh
// the boot record before the table is written too; else it stays as it is.
func (t *Table) Writes(fresh bool) []Write {
	array := t.array()
	second := t.Sectors - 1 - t.arraySectors()
	at := func(sector uint64) int64 { return int64(sector) * int64(t.Sector) }
	var w []Write
	if fresh {
		w = append(w, Write{0, t.bootRecord()})
	}
	return append(w,
		Write{at(second), array}, Write{at(t.Sectors - 1), t.header(t.Sectors-1, 1, second, array)},
		Write{at(2), array}, Write{at(1), t.header(1, t.Sectors-1, 2, array)})
}

func (t *Table) array() []byte {
	b := make([]byte, t.arraySectors()*uint64(t.Sector))
	le := binary.LittleEndian
	for _, e := range t.Entries {
		p := b[(e.Number-1)*entrySize:][:entrySize]
		e.Type.put(p)
		e.GUID.put(p[16:])
		le.PutUint64(p[32:], e.First)
		le.PutUint64(p[40:], e.Last)
		le.PutUint64(p[48:], e.Attributes)
		for i, u := range utf16.Encode([]rune(e.Label)) {
			if i < maxLabel {
				le.PutUint16(p[56+2*i:], u)
			}
		}
	}
	return b
}

func (t *Table) header(self, other, array uint64, entries []byte) []byte {
	b := make([]byte, t.Sector)
	le := binary.LittleEndian
	first, last := t.usable()
	copy(b, signature)
	le.PutUint32(b[8:], 0x10000) // revision 1.0
	le.PutUint32(b[12:], headerSize)
	le.PutUint64(b[24:], self)
	le.PutUint64(b[32:], other)
	le.PutUint64(b[40:], first)
	le.PutUint64(b[48:], last)
	t.Disk.put(b[56:])
	le.PutUint64(b[72:], array)
	le.PutUint32(b[80:], uint32(t.slots))
	le.PutUint32(b[84:], entrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries[:t.slots*entrySize]))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

// bootRecord says to old programs that the whole disk is in use.
func (t *Table) bootRecord() []byte {
	b := make([]byte, t.Sector)
	le := binary.LittleEndian
	copy(b[440:], mbrMark)
	p := b[446:]
	copy(p, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff})
	le.PutUint32(p[8:], 1)
	le.PutUint32(p[12:], uint32(min(t.Sectors-1, 0xffffffff)))
	le.PutUint16(b[510:], 0xaa55)
	return b
}

// readAt fills b, or says why not.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return fault.Wrap(fault.Unavailable, err, "reading the disk at byte %d", at)
	}
	return nil
}

// zero tells whether nothing was ever written to b: a drive gives zeros for that, a few all ones.
func zero(b []byte) bool {
	return len(b) == 0 || (b[0] == 0 || b[0] == 0xff) && bytes.Count(b, b[:1]) == len(b)
}

func trimmed(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.TrimRight(string(b), " ")
}
