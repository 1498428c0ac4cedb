//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	events "github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/test/cluster"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// diskful is the name of the tiny image with what makes file systems.
const diskful = "diskful"

// diskSize is enough for a root of the tiny image and something beside it.
const diskSize = 1 << 30

// tellInit runs before the tiny image's own init: it says what of the disks is in use, and counts boots on one of them.
const tellInit = `#!/bin/sh
PATH=/sbin:/bin:/usr/sbin:/usr/bin
[ -d /scratch ] && echo boot >>/scratch/boots
[ -e /leftover ] && echo "leftover is here"
echo left >/leftover
echo "disks: $(awk '/^\/dev\// { print $1 "=" $2 "=" $3 }' /proc/mounts | tr '\n' ' ')swaps: $(awk 'NR > 1 { print $1 }' /proc/swaps | tr '\n' ' ')boots: $(cat /scratch/boots 2>/dev/null | wc -l)"
sync
exec /sbin/init
`

// disksNode declares a node with a disk.
func disksNode(t *testing.T, ctx context.Context, c *cluster.Cluster, i int, disk rig.Disk, args ...string) *node {
	t.Helper()
	name, mac := fmt.Sprintf("d%d", i), fmt.Sprintf("52:54:00:77:01:%02x", i)
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: name, MAC: mac, Firmware: rig.BIOS, Disks: []rig.Disk{disk}})
	if err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"--init", "/sbin/tell", "--system-overlays", "tell"}, args...)
	if err := c.AddNode(ctx, name, diskful, mac, fmt.Sprintf("10.77.0.%d", 150+i), argv...); err != nil {
		t.Fatal(err)
	}
	return &node{m, c}
}

// emptyDisk makes a file that is a disk of zeros.
func emptyDisk(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// tells boots a node and returns what it says of its disks.
func (n *node) tells(t *testing.T, ctx context.Context) string {
	t.Helper()
	since := time.Now()
	if err := n.PowerCycle(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.c.WaitBoot(ctx, n.Name(), since); err != nil {
		t.Fatalf("%v\n%s", err, n.Console().Tail(30))
	}
	line, err := n.Console().Wait(ctx, "disks: ")
	if err != nil {
		t.Fatal(err)
	}
	n.PowerOff()
	_, said, _ := strings.Cut(line.Text, "disks: ")
	return strings.TrimSpace(said)
}

// failsWith boots a node that shall not come up, until the controllers know why.
func (n *node) failsWith(t *testing.T, ctx context.Context, why ...string) {
	t.Helper()
	if err := n.PowerCycle(); err != nil {
		t.Fatal(err)
	}
	defer n.PowerOff()
	for _, text := range why {
		if err := n.c.WaitWhy(ctx, n.Name(), text); err != nil {
			t.Fatalf("%v\n%s", err, n.Console().Tail(30))
		}
	}
}

func (n *node) set(t *testing.T, ctx context.Context, args ...string) {
	t.Helper()
	if _, err := n.c.Wulf(ctx, append([]string{"node", "set", n.Name(), "--wait"}, args...)...); err != nil {
		t.Fatal(err)
	}
}

// What is declared of a node's disks is there when its init starts, and nothing goes that may not.
func TestDisks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 14*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	if err := c.ImportImage(ctx, diskful, script(t, ctx, "make-image-busybox", "disks")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sbin/tell"), []byte(tellInit), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wulf(ctx, "overlay", "import", "tell", dir); err != nil {
		t.Fatal(err)
	}
	t.Run("EmptyDiskIsMadeAndKept", func(t *testing.T) { emptyDiskIsMadeAndKept(t, ctx, c) })
	t.Run("UsedDiskSurvives", func(t *testing.T) { usedDiskSurvives(t, ctx, c) })
	t.Run("FailingDiskIsTold", func(t *testing.T) { failingDiskIsTold(t, ctx, c) })
	t.Run("EveryFormatIsMadeAndMounted", func(t *testing.T) { everyFormat(t, ctx, c) })
	t.Run("OneStageHasItsDisks", func(t *testing.T) {
		n := disksNode(t, ctx, c, 8, rig.Disk{File: emptyDisk(t, diskSize)}, "--method", "one-stage",
			"--diskname", "/dev/vda", "--partname", "scratch", "--partcreate", "--fsname", "scratch", "--fsformat", "ext4", "--fspath", "/scratch")
		for boots := range 2 {
			if got, want := n.tells(t, ctx), fmt.Sprintf("/dev/vda1=/scratch=ext4 swaps: boots: %d", boots+1); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	})
	t.Run("SystemdAgrees", func(t *testing.T) { systemdAgrees(t, ctx, c) })
	t.Run("RootOnDisk", func(t *testing.T) { rootOnDisk(t, ctx, c) })
}

// An empty disk gets partitions, a file system and swap; the next boot touches nothing of them, and what was written
// between stays.
func emptyDiskIsMadeAndKept(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	disk := emptyDisk(t, diskSize)
	n := disksNode(t, ctx, c, 1, rig.Disk{File: disk},
		"--diskname", "/dev/vda", "--partname", "scratch", "--partsize", "300", "--fsname", "scratch", "--fsformat", "ext4", "--fspath", "/scratch")
	n.set(t, ctx, "--diskname", "/dev/vda", "--partname", "swap", "--partnumber", "1", "--partsize", "100", "--fsname", "swap", "--fsformat", "swap", "--fspath", "swap")
	for boots := range 2 {
		want := fmt.Sprintf("/dev/vda2=/scratch=ext4 swaps: /dev/vda1 boots: %d", boots+1)
		if got := n.tells(t, ctx); got != want {
			t.Fatalf("boot %d: got %q, want %q", boots, got, want)
		}
	}
	boots, err := c.Boots(ctx, n.Name())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"the disks are as declared", "partition 1 swap of 100 MiB is made"} {
		said := false
		for _, e := range boots[i].Events {
			said = said || strings.Contains(e.Message, want)
		}
		if !said {
			t.Errorf("boot %d does not say %q: %+v", i, want, boots[i].Events)
		}
	}
}

// A disk with somebody's data is left as it is, byte for byte, until its removal is permitted.
func usedDiskSurvives(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	disk := emptyDisk(t, diskSize)
	data := bytes.Repeat([]byte("somebody's data. "), 1<<20)
	if err := writeAt(disk, data, 3<<20); err != nil {
		t.Fatal(err)
	}
	if err := writeAt(disk, []byte("LABELONE"), 512); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, disk)
	n := disksNode(t, ctx, c, 2, rig.Disk{File: disk},
		"--diskname", "/dev/vda", "--partname", "scratch", "--partcreate", "--fsname", "scratch", "--fsformat", "ext4", "--fspath", "/scratch")
	n.failsWith(t, ctx, "disk /dev/vda: it holds a physical volume of LVM, and nothing permits to remove that", "wipe_table")
	n.set(t, ctx, "--fsname", "scratch", "--fsmount", "nofail")
	if got, want := n.tells(t, ctx), "swaps: boots: 0"; got != want {
		t.Errorf("without its disk: got %q, want %q", got, want)
	}
	if err := c.WaitWhy(ctx, n.Name(), "it runs without what is declared: disk /dev/vda: it holds a physical volume of LVM"); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(before, readAll(t, disk)) {
		t.Fatal("the data did not survive")
	}
	n.set(t, ctx, "--diskname", "/dev/vda", "--diskwipe")
	if got, want := n.tells(t, ctx), "/dev/vda1=/scratch=ext4 swaps: boots: 1"; got != want {
		t.Errorf("after it was permitted: got %q, want %q", got, want)
	}
}

// A disk that fails is told as that; the node boots without it if it may.
func failingDiskIsTold(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	declared := []string{"--diskname", "/dev/vda", "--partname", "scratch", "--partcreate", "--fsname", "scratch", "--fsformat", "ext4", "--fspath", "/scratch"}
	writes := disksNode(t, ctx, c, 3, rig.Disk{File: emptyDisk(t, diskSize), Fail: "write"}, declared...)
	writes.failsWith(t, ctx, "disk /dev/vda: writing to the disk: ", "input/output error")
	reads := disksNode(t, ctx, c, 4, rig.Disk{File: emptyDisk(t, diskSize), Fail: "read"}, append(declared, "--fsmount", "nofail")...)
	if got, want := reads.tells(t, ctx), "swaps: boots: 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := c.WaitWhy(ctx, reads.Name(), "it runs without what is declared: disk /dev/vda: reading the disk at byte 0"); err != nil {
		t.Error(err)
	}
}

// Every format that can be declared is made by the image's own program and mounted by the image's own kernel, on whatever
// bus the disk is and by whatever name it goes; and the next boot finds it as it is declared.
func everyFormat(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	formats := []string{"ext4", "ext2", "vfat"}
	for _, name := range []string{"xfs", "btrfs"} { // the image has what this machine has
		if _, err := exec.LookPath("mkfs." + name); err == nil {
			formats = append(formats, name)
		}
	}
	nvme, scsi := emptyDisk(t, diskSize), emptyDisk(t, diskSize)
	n := disksNode(t, ctx, c, 6, rig.Disk{File: nvme, Bus: "nvme", Serial: "N1"})
	want := ""
	for i, format := range formats {
		n.set(t, ctx, "--diskname", "/dev/nvme0n1", "--partname", "p-"+format, "--partnumber", fmt.Sprint(i+1), "--partsize", map[bool]string{true: "310", false: "120"}[format == "xfs"],
			"--fsname", "p-"+format, "--fsformat", format, "--fslabel", "L-"+format, "--fspath", "/mnt/"+format)
	}
	for _, format := range slices.Sorted(slices.Values(formats)) {
		want += fmt.Sprintf("/dev/nvme0n1p%d=/mnt/%s=%s ", slices.Index(formats, format)+1, format, format)
	}
	for range 2 {
		if got := n.tells(t, ctx); got != want+"swaps: boots: 0" {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	boots, err := c.Boots(ctx, n.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(boots[0].Events, func(e events.Event) bool { return e.Message == "the disks are as declared" }) {
		t.Errorf("the second boot did something: %+v", boots[0].Events)
	}
	n = disksNode(t, ctx, c, 7, rig.Disk{File: scsi, Bus: "scsi", Serial: "S1"}, "--fsname", "/dev/sda", "--fsformat", "ext4", "--fspath", "/scratch", "--fsmount", "noatime")
	for boots := range 2 {
		if got, want := n.tells(t, ctx), fmt.Sprintf("/dev/sda=/scratch=ext4 swaps: boots: %d", boots+1); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// reportUnit says what systemd makes of the disks.
const reportUnit = `[Unit]
After=local-fs.target swap.target

[Service]
Type=oneshot
StandardOutput=tty
ExecStart=/bin/sh -c 'echo "disks: root $$(findmnt -no SOURCE,FSTYPE /), scratch $$(systemctl is-active scratch.mount), swap $$(swapon --show=NAME --noheadings), failed: $$(systemctl list-units --failed --no-legend)"'

[Install]
WantedBy=multi-user.target
`

// A real distribution starts from a root on a disk, and units for what is mounted and switched on already do no harm.
func systemdAgrees(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	if err := c.ImportImage(ctx, "debian", script(t, ctx, "make-image")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	units := filepath.Join(dir, "etc/systemd/system")
	if err := os.MkdirAll(filepath.Join(units, "multi-user.target.wants"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(units, "report.service"), []byte(reportUnit), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../report.service", filepath.Join(units, "multi-user.target.wants/report.service")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wulf(ctx, "overlay", "import", "report", dir); err != nil {
		t.Fatal(err)
	}
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: "d9", MAC: "52:54:00:77:01:09", Firmware: rig.BIOS, Memory: 768, Disks: []rig.Disk{{File: emptyDisk(t, 4<<30)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddNode(ctx, "d9", "debian", "52:54:00:77:01:09", "10.77.0.159", "-O", "report", "-O", "systemd.mount", "-O", "systemd.swap",
		"--diskname", "/dev/vda", "--partname", "root", "--partsize", "2500", "--fsname", "root", "--fsformat", "ext4", "--fspath", "/"); err != nil {
		t.Fatal(err)
	}
	n := &node{m, c}
	n.set(t, ctx, "--diskname", "/dev/vda", "--partname", "scratch", "--partsize", "200", "--fsname", "scratch", "--fsformat", "ext4", "--fspath", "/scratch", "--fsmount", "noatime")
	n.set(t, ctx, "--diskname", "/dev/vda", "--partname", "swap", "--partcreate", "--fsname", "swap", "--fsformat", "swap", "--fspath", "swap")
	for range 2 {
		want := "root /dev/vda1 ext4, scratch active, swap /dev/vda3, failed:"
		if got := n.tells(t, ctx); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// A root on a disk holds the image of this boot and nothing of the one before; another's file system is not taken for one.
func rootOnDisk(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	disk := emptyDisk(t, diskSize)
	n := disksNode(t, ctx, c, 5, rig.Disk{File: disk}, "--root", "/dev/disk/by-partlabel/root", "--diskname", "/dev/vda", "--partname", "root", "--partcreate")
	for boots := range 3 {
		if boots == 2 { // after a power cut in the middle of the image
			if err := n.PowerCycle(); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Console().Wait(ctx, "unpacking the image"); err != nil {
				t.Fatal(err)
			}
			n.PowerOff()
		}
		if got, want := n.tells(t, ctx), "/dev/vda1=/=ext4 swaps: boots: 0"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if text := n.Console().Tail(1000); strings.Contains(text, "leftover is here") {
			t.Errorf("the root holds what the boot before wrote\n%s", text)
		}
	}
	// The same file system with another UUID is somebody's.
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	present, err := disks.Look(f, diskSize, 512)
	if err != nil || present.Table == nil {
		t.Fatalf("%+v, %v", present, err)
	}
	first := int64(present.Table.Entries[0].First) * 512
	if _, err := f.WriteAt([]byte("another UUID!"), first+1024+104); err != nil {
		t.Fatal(err)
	}
	if content, err := disks.Probe(io.NewSectionReader(f, first, diskSize-first-1<<20), diskSize-first-1<<20); err != nil || content.Format != disks.Ext4 {
		t.Fatalf("%+v, %v", content, err)
	}
	n.failsWith(t, ctx, "file system /dev/disk/by-partlabel/root: it holds a file system ext4 without label, which no earlier boot", "wipe_filesystem")
}

func writeAt(path string, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
