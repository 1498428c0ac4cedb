package overlay

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Disk is what becomes of a disk, in templates.
type Disk struct {
	Id         string // its device
	WipeTable  bool
	Partitions map[string]Partition // by label
}

// Partition is a partition of a Disk in templates.
type Partition struct {
	Id                 string // its label
	Number             int    // 0: the next free one
	SizeMiB            int64  // 0: all that is left
	StartMiB           int64  // 0: the first place where it fits
	TypeGuid           string
	Guid               string
	WipePartitionEntry bool
	ShouldExist        bool
	Resize             bool
}

// FileSystem is a file system in templates.
type FileSystem struct {
	Id             string // its device
	Format         string
	Path           string // where it is mounted
	WipeFileSystem bool
	Label          string
	Uuid           string
	Options        []string
	MountOptions   string
}

// DiskList lists the disks in the order of their devices.
func (d Data) DiskList() []Disk { return sorted(d.Disks) }

// FileSystemList lists the file systems in the order of their devices.
func (d Data) FileSystemList() []FileSystem { return sorted(d.FileSystems) }

// PartitionList lists the partitions by their numbers; those without one come last, in the order of their labels.
func (d Disk) PartitionList() []Partition {
	all := sorted(d.Partitions)
	slices.SortStableFunc(all, func(a, b Partition) int {
		if (a.Number == 0) != (b.Number == 0) {
			return cmp.Compare(b.Number, a.Number)
		}
		return cmp.Compare(a.Number, b.Number)
	})
	return all
}

func sorted[V any](m map[string]V) []V {
	all := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

func disks(all map[string]catalog.Disk) map[string]Disk {
	out := make(map[string]Disk, len(all))
	for id, s := range all {
		d := Disk{Id: id, WipeTable: value(s.Wipe), Partitions: make(map[string]Partition, len(s.Partitions))}
		for label, p := range s.Partitions {
			d.Partitions[label] = Partition{
				Id: label, Number: value(p.Number), SizeMiB: value(p.Size), StartMiB: value(p.Start), TypeGuid: value(p.Type), Guid: value(p.GUID),
				WipePartitionEntry: value(p.Wipe), ShouldExist: p.Exists == nil || *p.Exists, Resize: value(p.Resize),
			}
		}
		out[id] = d
	}
	return out
}

func fileSystems(all map[string]catalog.Filesystem) map[string]FileSystem {
	out := make(map[string]FileSystem, len(all))
	for id, f := range all {
		out[id] = FileSystem{
			Id: id, Format: value(f.Format), Path: value(f.Path), WipeFileSystem: value(f.Wipe), Label: value(f.Label), Uuid: value(f.UUID),
			Options: f.Options, MountOptions: value(f.Mount),
		}
	}
	return out
}

func resources(all map[string]catalog.Resource) map[string]any {
	out := make(map[string]any, len(all))
	for k, r := range all {
		out[k] = plain(r.Value())
	}
	return out
}

// plain makes the numbers of a resource such as templates compare and count with. One that neither kind can hold stays
// the text that it is.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}
