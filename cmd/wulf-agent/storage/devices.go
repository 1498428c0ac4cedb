package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// device is a disk or a partition that the kernel knows. There is no udev in stage one, so what it would make links of is
// read from where it would read it.
type device struct {
	path   string // such as /dev/nvme0n1p1
	name   string // the kernel's: nvme0n1p1
	disk   string // the name of the disk that it is on, its own for a disk
	number int    // of a partition; 0 for a disk
	label  string // of a partition, from a GPT
	sys    string // its directory in sysfs
}

// maxDevices bounds the devices that are looked at; a machine with more disks has them behind a controller that shows few.
const maxDevices = 4096

// devices lists the disks and partitions, but those that are none to keep anything on.
func (h *Host) devices() ([]device, error) {
	names, err := os.ReadDir(filepath.Join(h.sys, "class/block"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []device
	for _, n := range names[:min(len(names), maxDevices)] {
		if slices.ContainsFunc([]string{"loop", "ram", "zram", "sr", "fd", "md", "dm-", "nbd"}, func(p string) bool { return strings.HasPrefix(n.Name(), p) }) {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Join(h.sys, "class/block", n.Name()))
		if err != nil {
			continue // it has just gone
		}
		d := device{name: n.Name(), disk: n.Name(), path: filepath.Join(h.dev, n.Name()), sys: dir}
		for key, v := range h.uevent(dir) {
			switch key {
			case "DEVNAME":
				d.path = filepath.Join(h.dev, v)
			case "PARTN":
				d.number, _ = strconv.Atoi(v)
				d.disk = filepath.Base(filepath.Dir(dir))
			case "PARTNAME":
				d.label = v
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// uevent is what the kernel told of a device.
func (h *Host) uevent(dir string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(h.text(dir, "uevent")) {
		if key, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			all[key] = v
		}
	}
	return all
}

// text is what a file of sysfs says, "" if it is not there.
func (h *Host) text(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || len(b) > 64<<10 {
		return ""
	}
	return string(b)
}

// find finds the device that is declared as name; fault.NotFound if it is not there now.
func (h *Host) find(name string) (device, error) {
	all, err := h.devices()
	if err != nil {
		return device{}, err
	}
	link, by, linked := "", "", false
	if rest, ok := strings.CutPrefix(name, "/dev/disk/"); ok {
		by, link, linked = strings.Cut(rest, "/")
	}
	var found []device
	for _, d := range all {
		if linked && h.linked(d, by, link, all) || !linked && filepath.Clean(name) == filepath.Join("/dev", strings.TrimPrefix(d.path, h.dev)) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return device{}, fault.New(fault.NotFound, "there is no such device (there are: %s)", list(all)).
			WithFix("check the name, and that the image's kernel has a driver for its controller")
	case 1:
		return found[0], nil
	}
	return device{}, fault.New(fault.Conflict, "%s and %s both are that", found[0].path, found[1].path).WithFix("declare the device by another name")
}

func list(all []device) string {
	var names []string
	for _, d := range all {
		names = append(names, d.name)
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// linked tells whether udev would make the link /dev/disk/by/link for a device.
func (h *Host) linked(d device, by, link string, all []device) bool {
	switch by {
	case "by-partlabel":
		return d.number > 0 && (encode(d.label) == link || d.label == link)
	case "by-partuuid":
		e := h.entry(d, all)
		return e != nil && strings.EqualFold(e.GUID.String(), link)
	case "by-label", "by-uuid":
		c, err := h.probe(d)
		if err != nil || c.Format == "" {
			return false
		}
		if by == "by-uuid" {
			return strings.EqualFold(c.UUID, link)
		}
		return c.Label != "" && (encode(c.Label) == link || c.Label == link)
	case "by-id", "by-path":
		base, number := link, 0
		if i := strings.LastIndex(link, "-part"); i > 0 {
			if n, err := strconv.Atoi(link[i+len("-part"):]); err == nil && n > 0 {
				base, number = link[:i], n
			}
		}
		if number != d.number {
			return false
		}
		disk := d.sys
		if d.number > 0 {
			disk = filepath.Dir(d.sys)
		}
		if by == "by-path" {
			return slices.Contains(paths(disk), base)
		}
		return slices.Contains(h.ids(disk, d.disk), base)
	}
	return false
}

// encode writes a label as udev does in the name of a link: all but plain characters as \x and two digits.
func encode(label string) string {
	var b strings.Builder
	for _, r := range label {
		if r > 0x7f || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("#+-.:=@_", r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\x%02x`, r)
	}
	return b.String()
}

// ids are the names below by-id that udev gives a disk, as far as sysfs has what they are made of.
func (h *Host) ids(dir, name string) []string {
	value := func(file string) string { return strings.TrimSpace(h.text(dir, file)) }
	word := func(s string) string { return strings.Join(strings.Fields(s), "_") }
	var all []string
	if serial := value("serial"); serial != "" && strings.HasPrefix(name, "vd") {
		all = append(all, "virtio-"+word(serial))
	}
	if model, serial := value("device/model"), value("device/serial"); model != "" && serial != "" && strings.HasPrefix(name, "nvme") {
		all = append(all, "nvme-"+word(model)+"_"+word(serial))
	}
	if wwid := value("wwid"); wwid != "" && strings.HasPrefix(name, "nvme") {
		all = append(all, "nvme-"+wwid)
	}
	if hex, ok := strings.CutPrefix(value("device/wwid"), "naa."); ok {
		all = append(all, "wwn-0x"+hex, "scsi-3"+hex)
	}
	return all
}

// paths are the names below by-path that udev gives a disk of PCI, from its place in sysfs.
func paths(dir string) []string {
	parts := strings.Split(dir, "/")
	pci, rest := "", ""
	for i, p := range parts {
		switch {
		case len(p) == len("0000:00:1f.2") && p[4] == ':' && p[7] == ':' && p[10] == '.':
			pci = "pci-" + p
		case pci == "":
		case strings.HasPrefix(p, "ata"):
			rest = "-ata-" + strings.TrimPrefix(p, "ata")
		case p == "nvme" && i+2 < len(parts):
			if space := strings.LastIndexByte(parts[i+2], 'n'); space > 0 {
				rest = "-nvme-" + parts[i+2][space+1:]
			}
		case strings.Count(p, ":") == 3 && rest == "":
			if _, lun, _ := strings.Cut(p, ":"); lun != "" {
				rest = "-scsi-0:" + lun // hosts are counted from 0 below each controller
			}
		}
	}
	switch {
	case pci == "":
		return nil
	case strings.HasPrefix(rest, "-ata-"):
		return []string{pci + rest, pci + rest + ".0"}
	}
	return []string{pci + rest}
}

// entry is a partition's entry in the table of its disk, nil if there is none that can be read.
func (h *Host) entry(d device, all []device) *disks.Entry {
	if d.number == 0 {
		return nil
	}
	i := slices.IndexFunc(all, func(x device) bool { return x.name == d.disk })
	if i < 0 {
		return nil
	}
	p, err := h.look(all[i])
	if err != nil || p.Table == nil {
		return nil
	}
	return p.Table.Entry(d.number)
}

// open opens a device and tells its size and that of its sectors. What may be written must not be in use.
func (h *Host) open(d device, write bool) (f *os.File, size int64, sector int, err error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR | unix.O_EXCL
	}
	if f, err = os.OpenFile(d.path, flags, 0); err != nil {
		switch {
		case errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES):
			err = fault.Wrap(fault.Denied, err, "%s can only be read", d.path)
		case errors.Is(err, unix.EBUSY):
			err = fault.Wrap(fault.Conflict, err, "%s is in use", d.path)
		}
		return nil, 0, 0, err
	}
	if size, err = f.Seek(0, 2); err != nil {
		f.Close()
		return nil, 0, 0, err
	}
	sector = 512
	if n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err == nil && n >= 512 {
		sector = n
	}
	return f, size, sector, nil
}

// probe reads what lies on a device.
func (h *Host) probe(d device) (disks.Content, error) {
	f, size, _, err := h.open(d, false)
	if err != nil {
		return disks.Content{}, err
	}
	defer f.Close()
	return disks.Probe(f, size)
}

// look reads the partition table of a disk.
func (h *Host) look(d device) (disks.Present, error) {
	f, size, sector, err := h.open(d, false)
	if err != nil {
		return disks.Present{}, err
	}
	defer f.Close()
	return disks.Look(f, size, sector)
}
