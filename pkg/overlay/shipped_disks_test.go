package overlay_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// loop makes a disk of a file.
func loop(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes disks of files")
	}
	losetup, file := program(t, "losetup"), filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "", losetup, "--find", "--show", file)
	if err != nil {
		t.Skipf("no disk can be made of a file here: %s", out)
	}
	disk := strings.TrimSpace(out)
	t.Cleanup(func() {
		if out, err := run(t, "", losetup, "--detach", disk); err != nil {
			t.Errorf("detaching %s: %v, %s", disk, err, out)
		}
	})
	return disk
}

// prepared runs the scripts of overlays for a node with these disks and file systems, as dracut's initramfs does.
func prepared(t *testing.T, set catalog.Settings, overlays ...string) (string, error) {
	t.Helper()
	c := change(t, moreLab(t), catalog.SetNodes{Nodes: []catalog.NodeName{"plain"}, Set: set})
	root := lay(t, c, "plain", append(overlays, "wwinit")...)
	return run(t, "", program(t, "env"), "PREFIX="+root, filepath.Join(root, "warewulf/run-wwinit.d"))
}

func TestScriptsPartitionADiskAndKeepWhatItHolds(t *testing.T) {
	disk, sfdisk := loop(t), program(t, "sfdisk")
	declared := func(wipe bool, labels ...string) catalog.Settings {
		d := catalog.Disk{Wipe: new(wipe), Partitions: map[string]catalog.Partition{}}
		for _, l := range labels {
			d.Partitions[l] = catalog.Partition{Size: new(int64(8))}
		}
		return catalog.Settings{Disks: map[string]catalog.Disk{disk: d}}
	}
	table := func() string {
		out, _ := run(t, "", sfdisk, "--dump", disk)
		return out
	}
	check := func(what string, set catalog.Settings, good bool, says string) {
		t.Helper()
		if out, err := prepared(t, set, "sfdisk"); (err == nil) != good || !strings.Contains(out, says) {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	if out, err := run(t, "", program(t, "mkswap"), disk); err != nil {
		t.Fatal(err, out)
	}
	check("a disk that holds something else", declared(false, "one"), false, "may not be wiped")
	check("the same, which may be wiped", declared(true, "one"), true, "first partition table")
	first := table()
	check("again", declared(true, "one"), true, "as it should be")
	if table() != first || !strings.Contains(first, `name="one"`) {
		t.Errorf("a second boot has made of\n%s\nthis:\n%s", first, table())
	}
	check("one more partition", declared(false, "one", "two"), true, "that it lacks")
	if now := table(); !strings.Contains(now, strings.TrimSpace(first[strings.Index(first, disk+"p1"):])) || !strings.Contains(now, `name="two"`) {
		t.Errorf("one more partition made of\n%s\nthis:\n%s", first, now)
	}
}

func TestScriptsFormatADiskAndKeepWhatItHolds(t *testing.T) {
	disk, blkid := loop(t), program(t, "blkid")
	program(t, "mkfs.ext4")
	declared := func(format string, wipe bool) catalog.Settings {
		return catalog.Settings{Filesystems: map[string]catalog.Filesystem{disk: {Format: new(format), Path: new("/scratch"), Label: new("scratch"), Wipe: new(wipe), Options: []string{"-m", "0"}}}}
	}
	holds := func() string {
		out, _ := run(t, "", blkid, "--probe", "--output", "export", disk)
		return out
	}
	for _, c := range []struct {
		what, format string
		wipe         bool
		good, anew   bool
		says         string
	}{
		{"an empty disk", "ext4", false, true, true, "gets a new ext4"},
		{"again", "ext4", false, true, false, "has its ext4"},
		{"another format", "ext2", false, false, false, "may not be wiped"},
		{"swap", "swap", false, false, false, "may not be wiped"},
		{"wiped", "ext2", true, true, true, "gets a new ext2"},
		{"wiped for swap", "swap", true, true, true, "becomes swap space"},
	} {
		before := holds()
		out, err := prepared(t, declared(c.format, c.wipe), "mkfs", "mkswap")
		if (err == nil) != c.good || !strings.Contains(out, c.says) {
			t.Errorf("%s: %v\n%s", c.what, err, out)
		}
		after := holds()
		if (before != after) != c.anew || c.anew && (!strings.Contains(after, "TYPE="+c.format+"\n") || !strings.Contains(after, "LABEL=scratch\n")) {
			t.Errorf("%s: of\n%s\nbecame\n%s", c.what, before, after)
		}
	}
}
