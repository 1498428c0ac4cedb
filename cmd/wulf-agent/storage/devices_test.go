package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// machine makes a tree like sysfs with the given disks and partitions: a directory each, with what its files say.
func machine(t *testing.T, devices map[string]map[string]string) *Host {
	t.Helper()
	h := &Host{sys: filepath.Join(t.TempDir(), "sys"), dev: filepath.Join(t.TempDir(), "dev")}
	for _, dir := range []string{filepath.Join(h.sys, "class/block"), h.dev} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, files := range devices {
		at := filepath.Join(h.sys, "devices", dir)
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(at, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(at, filepath.Join(h.sys, "class/block", filepath.Base(dir))); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// Devices are found by the names that udev would give them, where there is no udev.
func TestDevicesAreFoundByTheNamesOfUdev(t *testing.T) {
	h := machine(t, map[string]map[string]string{
		"pci0000:00/0000:00:04.0/virtio1/block/vda":                             {"uevent": "DEVNAME=vda\nDEVTYPE=disk\n", "serial": "S1\n"},
		"pci0000:00/0000:00:04.0/virtio1/block/vda/vda1":                        {"uevent": "DEVNAME=vda1\nPARTN=1\nPARTNAME=my scratch\n"},
		"pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1":                            {"uevent": "DEVNAME=nvme0n1\n", "device/model": "FAST  DISK   \n", "device/serial": " X9 \n", "wwid": "eui.0025385\n"},
		"pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda":      {"uevent": "DEVNAME=sda\n", "device/wwid": "naa.5000c500\n"},
		"pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda/sda3": {"uevent": "DEVNAME=sda3\nPARTN=3\nPARTNAME=root\n"},
		"pci0000:00/0000:03:00.0/host5/target5:0:7/5:0:7:1/block/sdb":           {"uevent": "DEVNAME=sdb\n"},
		"virtual/block/loop0": {"uevent": "DEVNAME=loop0\n"},
	})
	for name, want := range map[string]string{
		"/dev/vda": "vda", "/dev/sda3": "sda3", "/dev/./sda3": "sda3",
		"/dev/disk/by-partlabel/root": "sda3", `/dev/disk/by-partlabel/my\x20scratch`: "vda1",
		"/dev/disk/by-id/virtio-S1": "vda", "/dev/disk/by-id/virtio-S1-part1": "vda1", "/dev/disk/by-id/nvme-FAST_DISK_X9": "nvme0n1", "/dev/disk/by-id/nvme-eui.0025385": "nvme0n1",
		"/dev/disk/by-id/wwn-0x5000c500-part3": "sda3", "/dev/disk/by-id/scsi-35000c500": "sda",
		"/dev/disk/by-path/pci-0000:00:04.0": "vda", "/dev/disk/by-path/pci-0000:00:04.0-part1": "vda1", "/dev/disk/by-path/pci-0000:01:00.0-nvme-1": "nvme0n1",
		"/dev/disk/by-path/pci-0000:00:1f.2-ata-3": "sda", "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:7:1": "sdb",
	} {
		d, err := h.find(name)
		if err != nil || d.name != want || d.path != filepath.Join(h.dev, want) {
			t.Errorf("%s: got %q, %v, want %s", name, d.name, err, want)
		}
	}
	if d, err := h.find("/dev/sda3"); err != nil || d.disk != "sda" || d.number != 3 || d.label != "root" {
		t.Errorf("%+v, %v", d, err)
	}
	for _, name := range []string{"/dev/sdc", "/dev/loop0", "/dev/disk/by-partlabel/none", "/dev/disk/by-nothing/x", "/dev/disk", "/dev/disk/by-id/virtio-S1-part2"} {
		if d, err := h.find(name); !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "nvme0n1, sda") {
			t.Errorf("%s: got %q, %v", name, d.name, err)
		}
	}
}

// Two devices of one name are not chosen from.
func TestDevicesOfOneNameAreNotChosenFrom(t *testing.T) {
	h := machine(t, map[string]map[string]string{
		"a/sda": {"uevent": "DEVNAME=sda\n"}, "a/sda/sda1": {"uevent": "DEVNAME=sda1\nPARTN=1\nPARTNAME=scratch\n"},
		"a/sdb": {"uevent": "DEVNAME=sdb\n"}, "a/sdb/sdb1": {"uevent": "DEVNAME=sdb1\nPARTN=1\nPARTNAME=scratch\n"},
	})
	if _, err := h.find("/dev/disk/by-partlabel/scratch"); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "both are that") {
		t.Errorf("got %v", err)
	}
}
