package overlay

import (
	"maps"
	"slices"
	"strconv"
)

// Disk is what becomes of a disk, in templates.
type Disk struct {
	Device     string // what templates call Id
	WipeTable  bool
	Partitions map[string]*Partition // by label
}

// Id is the disk's device.
func (d *Disk) Id() string { return d.Device }

// Partition is a partition of a Disk in templates. Numbers are texts, "" if nobody decides them.
type Partition struct {
	Label              string // what templates call Id
	Number             string // "": the next free one
	SizeMiB            string // "": all that is left
	StartMiB           string // "": the first place where it fits
	TypeGuid           string
	Guid               string
	WipePartitionEntry bool
	ShouldExist        bool
	Resize             bool
}

// Id is the partition's label.
func (p *Partition) Id() string { return p.Label }

// FileSystem is a file system in templates.
type FileSystem struct {
	Device         string // what templates call Id
	Format         string
	Path           string // where it is mounted
	WipeFileSystem bool
	Label          string
	Uuid           string
	Options        []string
	MountOptions   string
}

// Id is the device of the file system.
func (f *FileSystem) Id() string { return f.Device }

// PartitionList lists the partitions by their numbers; those without one come last, in the order of their labels.
func (d *Disk) PartitionList() []*Partition {
	all := sorted(d.Partitions)
	slices.SortStableFunc(all, func(a, b *Partition) int {
		x, y := number(a.Number), number(b.Number)
		switch {
		case (x == 0) != (y == 0):
			return y - x
		default:
			return x - y
		}
	})
	return all
}

// number is a partition's; what is none counts as not decided.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 16) // GPT has room for 128
	if err != nil {
		return 0
	}
	return int(n)
}

func sorted[V any](m map[string]V) []V {
	all := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}
