package overlay

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The parts of an Ignition configuration, version 3.1.0, that say what becomes of disks. Source: the specification of
// Ignition's configuration, v3.1.0. What says nothing is left out, as Warewulf leaves it out.
type ignition struct {
	Ignition struct {
		Version string `json:"version"`
	} `json:"ignition"`
	Storage struct {
		Disks       []ignitionDisk       `json:"disks,omitempty"`
		Filesystems []ignitionFilesystem `json:"filesystems,omitempty"`
	} `json:"storage"`
}

type ignitionDisk struct {
	Device     string              `json:"device"`
	Partitions []ignitionPartition `json:"partitions,omitempty"`
	WipeTable  bool                `json:"wipeTable,omitempty"`
}

type ignitionPartition struct {
	GUID        *string `json:"guid,omitempty"`
	Label       *string `json:"label,omitempty"`
	Number      int     `json:"number,omitempty"`
	Resize      bool    `json:"resize,omitempty"`
	ShouldExist bool    `json:"shouldExist,omitempty"`
	SizeMiB     *int    `json:"sizeMiB,omitempty"`
	StartMiB    *int    `json:"startMiB,omitempty"`
	TypeGUID    *string `json:"typeGuid,omitempty"`
	WipeEntry   bool    `json:"wipePartitionEntry,omitempty"`
}

type ignitionFilesystem struct {
	Device         string   `json:"device"`
	Format         *string  `json:"format,omitempty"`
	Label          *string  `json:"label,omitempty"`
	MountOptions   []string `json:"mountOptions,omitempty"`
	Options        []string `json:"options,omitempty"`
	Path           *string  `json:"path,omitempty"`
	UUID           *string  `json:"uuid,omitempty"`
	WipeFilesystem bool     `json:"wipeFilesystem,omitempty"`
}

// ignition is the node's disks and file systems as Ignition takes them; "" where there are none.
func (x *execution) ignition() (string, error) {
	disks, systems := x.dot.DiskList(), x.dot.FileSystemList()
	if len(disks) == 0 && len(systems) == 0 {
		return "", nil
	}
	var c ignition
	c.Ignition.Version = "3.1.0"
	for _, d := range disks {
		out := ignitionDisk{Device: d.Id(), WipeTable: d.WipeTable}
		for _, p := range d.PartitionList() {
			e := ignitionPartition{
				GUID: said(p.Guid), Label: said(p.Id()), Number: number(p.Number), Resize: p.Resize, ShouldExist: p.ShouldExist, TypeGUID: said(p.TypeGuid), WipeEntry: p.WipePartitionEntry,
			}
			var err error
			if e.SizeMiB, err = mib(p.SizeMiB); err == nil {
				e.StartMiB, err = mib(p.StartMiB)
			}
			if err != nil {
				return "", fault.Wrap(fault.Invalid, err, "partition %s of %s", p.Id(), d.Id())
			}
			out.Partitions = append(out.Partitions, e)
		}
		slices.SortStableFunc(out.Partitions, byNumberAndSize)
		c.Storage.Disks = append(c.Storage.Disks, out)
	}
	for _, f := range systems {
		e := ignitionFilesystem{
			Device: f.Id(), Format: said(f.Format), Label: said(f.Label), Options: f.Options, Path: said(f.Path), UUID: said(f.Uuid), WipeFilesystem: f.WipeFileSystem,
		}
		if f.MountOptions != "" {
			e.MountOptions = strings.Split(f.MountOptions, ",")
		}
		c.Storage.Filesystems = append(c.Storage.Filesystems, e)
	}
	b, err := json.Marshal(c)
	return string(b), err
}

// byNumberAndSize is Warewulf's order: those without a number come first, of these those with a size, the smaller ones
// before the larger ones.
func byNumberAndSize(a, b ignitionPartition) int {
	switch {
	case a.Number != b.Number:
		return cmp.Compare(a.Number, b.Number)
	case a.SizeMiB != nil && b.SizeMiB != nil:
		return cmp.Compare(*a.SizeMiB, *b.SizeMiB)
	case a.SizeMiB != nil:
		return -1
	case b.SizeMiB != nil:
		return 1
	}
	return 0
}

func said(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func mib(text string) (*int, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	return &n, err
}
