package disks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The formats of file systems that can be made.
const (
	Ext2  = "ext2"
	Ext3  = "ext3"
	Ext4  = "ext4"
	XFS   = "xfs"
	Btrfs = "btrfs"
	VFAT  = "vfat"
	Swap  = "swap"
)

// Content is what lies on a disk or a partition.
type Content struct {
	Blank  bool   // nothing was ever written, or all of it is gone
	Format string // of a file system that could be made here; "" for anything else
	Label  string // of that file system
	UUID   string // in lower case; of vfat its serial number, as 1234-ABCD
	Other  string // what else it is, for people: "a partition table (GPT)", "data of unknown kind"
}

// String says what it is, with an article.
func (c Content) String() string {
	switch {
	case c.Blank:
		return "nothing"
	case c.Format == "":
		return c.Other
	case c.Format == Swap && c.Label == "":
		return "swap space"
	case c.Format == Swap:
		return fmt.Sprintf("swap space labelled %q", c.Label)
	case c.Label == "":
		return "a file system " + c.Format + " without label"
	}
	return fmt.Sprintf("a file system %s labelled %q", c.Format, c.Label)
}

// How much of a device's two ends tells what lies on it. What keeps its mark farther inside leaves something there too:
// hardly anything begins with 2 MiB of zeros.
const (
	Head = 2 << 20
	Tail = 1 << 20
)

// Probe reads what lies on a device of size bytes.
func Probe(r io.ReaderAt, size int64) (Content, error) {
	if size <= 0 {
		return Content{}, fault.New(fault.Unavailable, "the device has no size: there is no medium in it, or it does not answer")
	}
	head := make([]byte, min(size, Head))
	if err := readAt(r, head, 0); err != nil {
		return Content{}, err
	}
	tail := make([]byte, min(size, Tail))
	if err := readAt(r, tail, size-int64(len(tail))); err != nil {
		return Content{}, err
	}
	if zero(head) && zero(tail) {
		return Content{Blank: true}, nil
	}
	// What several devices hold together comes first: one of them alone may look like the whole.
	for _, look := range []func(head, tail []byte, size int64) string{member, volume, partitions} {
		if other := look(head, tail, size); other != "" {
			return Content{Other: other}, nil
		}
	}
	for _, look := range []func([]byte) (Content, bool){xfs, btrfs, ext, swap, fat} {
		if c, ok := look(head); ok {
			return c, nil
		}
	}
	return Content{Other: "data of unknown kind"}, nil
}

// at tells whether text lies at an offset.
func at(b []byte, offset int, text string) bool {
	return offset >= 0 && len(b) >= offset+len(text) && string(b[offset:offset+len(text)]) == text
}

const raidMagic = "\xfc\x4e\x2b\xa9" // md(4), little-endian as on every machine that nodes are

// member tells of parts of arrays. Some are marked at their end only.
func member(head, tail []byte, size int64) string {
	end := func(offset int64) int { return int(offset - (size - int64(len(tail)))) }
	switch {
	case at(head, 0, raidMagic), at(head, 4096, raidMagic),
		at(tail, end((size-8192)&^4095), raidMagic), at(tail, end(size&^65535-65536), raidMagic):
		return "a member of a RAID (md)"
	case at(tail, len(tail)-1024, "Intel Raid ISM Cfg Sig."), at(tail, len(tail)-512, "\xde\x11\xde\x11"):
		return "a member of a RAID (of the firmware)"
	}
	for sector := range 4 {
		if at(head, sector*512, "LABELONE") {
			return "a physical volume of LVM"
		}
	}
	return ""
}

// volume tells of what is no file system that could be made here.
func volume(head, _ []byte, _ int64) string {
	for _, v := range []struct {
		offset     int
		text, what string
	}{
		{0, "LUKS\xba\xbe", "an encrypted volume (LUKS)"}, {3, "NTFS    ", "a file system ntfs"}, {3, "EXFAT   ", "a file system exfat"},
		{0, "hsqs", "a file system squashfs"}, {1024, "\x10\x20\xf5\xf2", "a file system f2fs"}, {0, "bluestore block device", "an OSD of Ceph"},
		{0x8001, "CD001", "a file system iso9660"}, {4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "a part of a bcache"},
		{4086, "S1SUSPEND", "a suspended system"}, {4086, "S2SUSPEND", "a suspended system"},
	} {
		if at(head, v.offset, v.text) {
			return v.what
		}
	}
	return ""
}

// partitions tells of partition tables. A FAT begins like a boot record; its entries would make no sense.
func partitions(head, _ []byte, _ int64) string {
	for _, sector := range []int{512, 4096} {
		if at(head, sector, signature) {
			return "a partition table (GPT)"
		}
	}
	if bootRecord(head) != "" {
		return "a partition table (DOS)"
	}
	return ""
}

// bootRecord says what a disk's first sector is: "protective" before a GPT, "dos", or "" for none.
func bootRecord(head []byte) string {
	if len(head) < 512 || !at(head, 510, "\x55\xaa") {
		return ""
	}
	kind := ""
	for i := range 4 {
		p := head[446+16*i:][:16]
		sectors := binary.LittleEndian.Uint32(p[12:])
		switch {
		case p[0] != 0 && p[0] != 0x80 || p[4] == 0 && sectors != 0:
			return "" // the code of a boot sector
		case p[4] == 0xee:
			kind = "protective"
		case p[4] != 0 && sectors != 0 && kind == "":
			kind = "dos"
		}
	}
	return kind
}

func uuid(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func xfs(b []byte) (Content, bool) {
	if len(b) < 512 || !at(b, 0, "XFSB") || b[126] != 0 { // one that is not complete says so there
		return Content{}, false
	}
	return Content{Format: XFS, UUID: uuid(b[32:]), Label: trimmed(b[108:120])}, true
}

func btrfs(b []byte) (Content, bool) {
	const super = 64 << 10
	if len(b) < super+4096 || !at(b, super+64, "_BHRfS_M") {
		return Content{}, false
	}
	return Content{Format: Btrfs, UUID: uuid(b[super+32:]), Label: trimmed(b[super+0x12b:][:256])}, true
}

// ext tells the three apart by what none but the later ones knows.
func ext(b []byte) (Content, bool) {
	const super = 1024
	if len(b) < super+1024 || !at(b, super+56, "\x53\xef") {
		return Content{}, false
	}
	le := binary.LittleEndian
	compat, incompat, readOnly := le.Uint32(b[super+92:]), le.Uint32(b[super+96:]), le.Uint32(b[super+100:])
	c := Content{Format: Ext4, UUID: uuid(b[super+104:]), Label: trimmed(b[super+120:][:16])}
	switch {
	case incompat&0x8 != 0:
		return Content{Other: "a journal of a file system ext4"}, true
	case incompat&^0x16 != 0 || readOnly&^0x7 != 0: // beyond file types, recovery, meta block groups; sparse, large files, trees
	case compat&0x4 != 0: // a journal
		c.Format = Ext3
	default:
		c.Format = Ext2
	}
	return c, true
}

func swap(b []byte) (Content, bool) {
	for page := 4096; page <= 64<<10; page *= 2 {
		if at(b, page-10, "SWAPSPACE2") {
			return Content{Format: Swap, UUID: uuid(b[1036:]), Label: trimmed(b[1052:1068])}, true
		}
	}
	return Content{}, false
}

func fat(b []byte) (Content, bool) {
	if len(b) < 512 || !at(b, 510, "\x55\xaa") || b[0] != 0xeb && b[0] != 0xe9 {
		return Content{}, false
	}
	serial, label := 39, 43
	switch {
	case at(b, 82, "FAT32"):
		serial, label = 67, 71
	case !at(b, 54, "FAT"):
		return Content{}, false
	}
	n := binary.LittleEndian.Uint32(b[serial:])
	c := Content{Format: VFAT, UUID: fmt.Sprintf("%04x-%04x", n>>16, n&0xffff), Label: trimmed(bytes.Clone(b[label : label+11]))}
	if c.Label == "NO NAME" {
		c.Label = ""
	}
	return c, true
}
