package disks

import (
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Format is what can be made on a device.
type Format struct {
	Name    string
	Program string   // "" for what the agent makes itself
	Package string   // that usually brings it
	Module  string   // of the kernel, that mounts it
	Quiet   []string // options that go first: ask nothing, say nothing
	Label   string   // option before a label
	UUID    string   // option before a UUID, or what its word begins with
	Longest int      // bytes of a label
}

// formats are those that can be made.
var formats = []Format{
	{Ext4, "mkfs.ext4", "e2fsprogs", "ext4", []string{"-F", "-q"}, "-L", "-U", 16},
	{Ext3, "mkfs.ext3", "e2fsprogs", "ext4", []string{"-F", "-q"}, "-L", "-U", 16},
	{Ext2, "mkfs.ext2", "e2fsprogs", "ext4", []string{"-F", "-q"}, "-L", "-U", 16},
	{XFS, "mkfs.xfs", "xfsprogs", "xfs", []string{"-f", "-q"}, "-L", "-muuid=", 12},
	{Btrfs, "mkfs.btrfs", "btrfs-progs", "btrfs", []string{"-f", "-q"}, "-L", "-U", 255},
	{VFAT, "mkfs.vfat", "dosfstools", "vfat", []string{"-I"}, "-n", "-i", 11},
	{Swap, "", "", "", nil, "", "", 15},
}

// FormatOf finds a format by its name.
func FormatOf(name string) (Format, error) {
	for _, f := range formats {
		if f.Name == name {
			return f, nil
		}
	}
	var known []string
	for _, f := range formats {
		known = append(known, f.Name)
	}
	return Format{}, fault.New(fault.Invalid, "the format %.40q cannot be made here", name).WithFix("declare one of %s", strings.Join(known, ", "))
}

// Command is the program that makes the file system on a device, with its arguments. The declared options come before
// label and UUID, so that what is declared by its own name counts.
func (f Format) Command(fs catalog.Filesystem, id, device string) []string {
	argv := slices.Concat([]string{f.Program}, f.Quiet, fs.Options)
	if label := deref(fs.Label); label != "" {
		argv = append(argv, f.Label, label)
	}
	if id != "" {
		if f.Name == VFAT {
			id = strings.ReplaceAll(id, "-", "")
		}
		if strings.HasSuffix(f.UUID, "=") {
			argv = append(argv, f.UUID+id)
		} else {
			argv = append(argv, f.UUID, id)
		}
	}
	return append(argv, device)
}

// Decision is what becomes of a device that shall hold a file system.
type Decision struct {
	Make bool   // it is made; what is there goes
	Why  string // for people
}

// Decide says whether a file system is to be made on a device. A format of "" means that one has to be there already. What
// is there goes only if it may: by wipe_filesystem, or because unfinished tells that it was never whole.
func Decide(fs catalog.Filesystem, present Content, unfinished bool) (Decision, error) {
	format := deref(fs.Format)
	if format == "" {
		if present.Format == "" || present.Format == Swap {
			return Decision{}, fault.New(fault.NotFound, "it holds %s, and no format is declared that could be made", present).WithFix("declare the format, such as ext4")
		}
		return Decision{Why: "is kept"}, nil
	}
	f, err := FormatOf(format)
	if err != nil {
		return Decision{}, err
	}
	if n := len(deref(fs.Label)); n > f.Longest {
		return Decision{}, fault.New(fault.Invalid, "the label %q has %d bytes; one of %s has at most %d", *fs.Label, n, f.Name, f.Longest)
	}
	switch {
	case isTrue(fs.Wipe):
		return Decision{true, "is made anew, as wipe_filesystem says"}, nil
	case present.Blank:
		return Decision{true, "is made"}, nil
	case unfinished:
		return Decision{true, "is made anew: the last time it was cut off"}, nil
	case present.Format != format:
		return Decision{}, kept(present, "format "+format)
	case deref(fs.Label) != "" && !sameLabel(format, present.Label, *fs.Label):
		return Decision{}, kept(present, "the label "+*fs.Label)
	case deref(fs.UUID) != "" && !strings.EqualFold(present.UUID, *fs.UUID):
		return Decision{}, kept(present, "the UUID "+*fs.UUID)
	}
	return Decision{Why: "is kept"}, nil
}

// sameLabel compares labels; those of FAT are in capitals.
func sameLabel(format, a, b string) bool {
	return a == b || format == VFAT && strings.EqualFold(a, b)
}

func kept(present Content, declared string) error {
	return fault.New(fault.Conflict, "it holds %s and not one with %s, and nothing permits to remove it", present, declared).
		WithFix("declare what is there, take it away, or permit it: wipe_filesystem")
}

// DecideRoot is Decide for the file system that becomes a node's root: it holds the image of this boot and nothing else, so
// it is made anew at each boot. One that was made so before is known by mark, its UUID, and may go.
func DecideRoot(fs catalog.Filesystem, present Content, unfinished bool, mark string) (Decision, error) {
	if present.Format != "" && present.UUID == mark {
		unfinished = true
	}
	d, err := Decide(fs, present, unfinished)
	if err != nil || d.Make {
		return Decision{d.Make, "is made anew for the image"}, err
	}
	return d, fault.New(fault.Conflict, "it holds %s, which no earlier boot of this node has made for its root, and nothing permits to remove it", present).
		WithFix("take the data away, or permit it: wipe_filesystem of a file system that is declared on the device")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
