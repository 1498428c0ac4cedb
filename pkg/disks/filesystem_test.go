package disks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A file system is made where nothing is, kept where it is as declared, and what else is there goes only if it may.
func TestDecideKeepsWhatMayNotGo(t *testing.T) {
	ext4 := disks.Content{Format: "ext4", Label: "data", UUID: "0b9eb464-1f05-4dd8-9b3b-5b2a3a6e1d11"}
	for name, tc := range map[string]struct {
		fs         catalog.Filesystem
		present    disks.Content
		unfinished bool
		makes      bool
		err        string
	}{
		"nothing there":                  {fs: catalog.Filesystem{Format: new("xfs")}, present: disks.Content{Blank: true}, makes: true},
		"the same":                       {fs: catalog.Filesystem{Format: new("ext4"), Label: new("data")}, present: ext4},
		"the same, by format alone":      {fs: catalog.Filesystem{Format: new("ext4")}, present: ext4},
		"the same, wiped":                {fs: catalog.Filesystem{Format: new("ext4"), Wipe: new(true)}, present: ext4, makes: true},
		"another format":                 {fs: catalog.Filesystem{Format: new("xfs")}, present: ext4, err: "holds a file system ext4 labelled \"data\" and not one with format xfs, and nothing permits"},
		"another format that may go":     {fs: catalog.Filesystem{Format: new("xfs"), Wipe: new(true)}, present: ext4, makes: true},
		"another label":                  {fs: catalog.Filesystem{Format: new("ext4"), Label: new("scratch")}, present: ext4, err: "the label scratch"},
		"another UUID":                   {fs: catalog.Filesystem{Format: new("ext4"), UUID: new("1b9eb464-1f05-4dd8-9b3b-5b2a3a6e1d11")}, present: ext4, err: "the UUID 1b9e"},
		"the UUID in capitals":           {fs: catalog.Filesystem{Format: new("ext4"), UUID: new(strings.ToUpper(ext4.UUID))}, present: ext4},
		"the label of a FAT in capitals": {fs: catalog.Filesystem{Format: new("vfat"), Label: new("efi")}, present: disks.Content{Format: "vfat", Label: "EFI"}},
		"unknown data":                   {fs: catalog.Filesystem{Format: new("ext4")}, present: disks.Content{Other: "data of unknown kind"}, err: "holds data of unknown kind"},
		"what was cut off":               {fs: catalog.Filesystem{Format: new("ext4")}, present: disks.Content{Other: "data of unknown kind"}, unfinished: true, makes: true},
		"swap where a file system is":    {fs: catalog.Filesystem{Format: new("swap")}, present: ext4, err: "format swap"},
		"no format, and one is there":    {present: ext4},
		"no format, and none is there":   {present: disks.Content{Blank: true}, err: "it holds nothing, and no format is declared"},
		"a format that cannot be made":   {fs: catalog.Filesystem{Format: new("zfs")}, present: disks.Content{Blank: true}, err: `"zfs" cannot be made`},
		"a label that is too long":       {fs: catalog.Filesystem{Format: new("xfs"), Label: new("thirteen-long")}, present: disks.Content{Blank: true}, err: "at most 12"},
	} {
		d, err := disks.Decide(tc.fs, tc.present, tc.unfinished)
		if d.Make != tc.makes || tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err) || fault.Fix(err) == "" && !strings.Contains(tc.err, "at most")) {
			t.Errorf("%s: got %+v, %v, want made %v, error %q", name, d, err, tc.makes, tc.err)
		}
	}
}

// A root holds one image and nothing else: what an earlier root was may go, anything else only with leave.
func TestDecideRootTakesItsOwn(t *testing.T) {
	const mark = "77756c66-0000-8000-8000-000000000001"
	fs := catalog.Filesystem{Format: new("ext4")}
	for name, tc := range map[string]struct {
		fs      catalog.Filesystem
		present disks.Content
		makes   bool
	}{
		"nothing there":                    {fs, disks.Content{Blank: true}, true},
		"an earlier root":                  {fs, disks.Content{Format: "ext4", UUID: mark}, true},
		"an earlier root, of another kind": {fs, disks.Content{Format: "xfs", UUID: mark}, true},
		"one of the same kind":             {fs, disks.Content{Format: "ext4", UUID: "0b9eb464-1f05-4dd8-9b3b-5b2a3a6e1d11"}, false},
		"unknown data":                     {fs, disks.Content{Other: "data of unknown kind"}, false},
		"anything, wiped":                  {catalog.Filesystem{Format: new("ext4"), Wipe: new(true)}, disks.Content{Other: "data of unknown kind"}, true},
	} {
		d, err := disks.DecideRoot(tc.fs, tc.present, false, mark)
		if d.Make != tc.makes || (err == nil) != tc.makes {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// Options come in the order in which the declared names win, each as one word.
func TestCommandHasTheDeclaredOptions(t *testing.T) {
	for format, want := range map[string]string{
		"ext4":  "mkfs.ext4|-F|-q|-O|^has_journal|-L|a b|-U|ID|/dev/x",
		"xfs":   "mkfs.xfs|-f|-q|-O|^has_journal|-L|a b|-muuid=ID|/dev/x",
		"btrfs": "mkfs.btrfs|-f|-q|-O|^has_journal|-L|a b|-U|ID|/dev/x",
		"vfat":  "mkfs.vfat|-I|-O|^has_journal|-n|a b|-i|ID|/dev/x",
	} {
		f, err := disks.FormatOf(format)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(f.Command(catalog.Filesystem{Label: new("a b"), Options: []string{"-O", "^has_journal"}}, "ID", "/dev/x"), "|")
		if got != want {
			t.Errorf("%s: got %s, want %s", format, got, want)
		}
	}
}

// Words of fstab say nothing to the kernel.
func TestMountOfReadsOptionsOfFstab(t *testing.T) {
	m := disks.MountOf(catalog.Filesystem{Path: new("/scratch//x/"), Mount: new("defaults,nofail, noatime,x-systemd.mkdir,data=writeback,ro,_netdev,discard")})
	if m.Path != "/scratch/x" || m.Data != "data=writeback,discard" || !slices.Equal(m.Flags, []string{"noatime", "ro"}) || !m.NoFail || m.NoAuto {
		t.Errorf("%+v", m)
	}
	for _, p := range []string{"", "none", "swap"} {
		if m := disks.MountOf(catalog.Filesystem{Path: &p, Mount: new("noauto")}); m.Path != "" || !m.NoAuto {
			t.Errorf("%q: %s", p, fmt.Sprintf("%+v", m))
		}
	}
}
