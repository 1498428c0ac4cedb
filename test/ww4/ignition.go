package ww4

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// ignition is the JSON of a node's disks and file systems. Warewulf writes each letter of the mount options as an option,
// and the size for the start: the whole options and the start are what is meant.
func ignition(n *Node) string {
	type partition struct {
		GUID      string `json:"guid,omitempty"`
		Label     string `json:"label"`
		Number    int    `json:"number,omitempty"`
		Resize    bool   `json:"resize,omitempty"`
		Exists    bool   `json:"shouldExist,omitempty"`
		Size      *int   `json:"sizeMiB,omitempty"`
		Start     *int   `json:"startMiB,omitempty"`
		TypeGUID  string `json:"typeGuid,omitempty"`
		WipeEntry bool   `json:"wipePartitionEntry,omitempty"`
	}
	type disk struct {
		Device     string      `json:"device"`
		Partitions []partition `json:"partitions,omitempty"`
		Wipe       bool        `json:"wipeTable,omitempty"`
	}
	type fileSystem struct {
		Device  string   `json:"device"`
		Format  string   `json:"format,omitempty"`
		Label   string   `json:"label,omitempty"`
		Mount   []string `json:"mountOptions,omitempty"`
		Options []string `json:"options,omitempty"`
		Path    string   `json:"path,omitempty"`
		UUID    string   `json:"uuid,omitempty"`
		Wipe    bool     `json:"wipeFilesystem,omitempty"`
	}
	var out struct {
		Ignition struct {
			Version string `json:"version"`
		} `json:"ignition"`
		Storage struct {
			Disks       []disk       `json:"disks,omitempty"`
			Filesystems []fileSystem `json:"filesystems,omitempty"`
		} `json:"storage"`
	}
	if len(n.Disks) == 0 && len(n.FileSystems) == 0 {
		return ""
	}
	number := func(text string) *int {
		if i, err := strconv.Atoi(text); err == nil {
			return &i
		}
		return nil
	}
	out.Ignition.Version = "3.1.0"
	for _, d := range n.DiskList() {
		o := disk{Device: d.id, Wipe: d.WipeTable()}
		for _, p := range d.PartitionList() {
			no, _ := strconv.Atoi(p.Number)
			o.Partitions = append(o.Partitions, partition{
				p.Guid, p.id, no, p.Resize(), p.ShouldExist(), number(p.SizeMiB), number(p.StartMiB), p.TypeGuid, p.WipePartitionEntry(),
			})
		}
		slices.SortStableFunc(o.Partitions, func(a, b partition) int {
			switch {
			case a.Number != b.Number:
				return a.Number - b.Number
			case a.Size != nil && b.Size != nil:
				return *a.Size - *b.Size
			case a.Size != nil:
				return -1
			case b.Size != nil:
				return 1
			}
			return strings.Compare(a.Label, b.Label)
		})
		out.Storage.Disks = append(out.Storage.Disks, o)
	}
	for _, f := range n.FileSystemList() {
		o := fileSystem{Device: f.id, Format: f.Format, Label: f.Label, Options: f.Options, Path: f.Path, UUID: f.Uuid, Wipe: f.WipeFileSystem()}
		if f.MountOptions != "" {
			o.Mount = strings.Split(f.MountOptions, ",")
		}
		out.Storage.Filesystems = append(out.Storage.Filesystems, o)
	}
	b, _ := json.Marshal(out) // nothing in it can fail
	return string(b)
}
