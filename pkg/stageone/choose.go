package stageone

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/modules"
)

// maxModule bounds a module once decompressed.
const maxModule = 128 << 20

// wanted are the modules by which a node reaches its network, its disks and its root, as paths below kernel/ that
// they begin with. What these need comes along. Left out is what only a full system uses: sound, graphics, wireless.
var wanted = []string{
	"drivers/net/ethernet/", "drivers/net/phy/", "drivers/net/mdio/", "drivers/net/pcs/", "drivers/net/virtio_net", "drivers/net/bonding/",
	"drivers/net/hyperv/", "drivers/net/vmxnet3/", "drivers/net/xen-netfront", "drivers/net/net_failover", "drivers/net/mii", "drivers/net/usb/",
	"net/8021q/", "net/packet/", "net/core/failover",
	"drivers/infiniband/core/", "drivers/infiniband/hw/mlx4/", "drivers/infiniband/hw/mlx5/", "drivers/infiniband/hw/hfi1/", "drivers/infiniband/ulp/ipoib/",
	"drivers/virtio/", "drivers/block/virtio_blk", "drivers/block/loop", "drivers/char/hw_random/virtio-rng", "drivers/hv/", "drivers/xen/",
	"drivers/pci/controller/", "drivers/pci/host/",
	"drivers/nvme/host/", "drivers/ata/ahci", "drivers/ata/libahci", "drivers/ata/libata", "drivers/ata/ata_piix",
	"drivers/scsi/sd_mod", "drivers/scsi/scsi_mod", "drivers/scsi/virtio_scsi", "drivers/scsi/megaraid/", "drivers/scsi/mpt3sas/",
	"drivers/scsi/hpsa", "drivers/scsi/aacraid/", "drivers/scsi/smartpqi/", "drivers/scsi/vmw_pvscsi", "drivers/scsi/hv_storvsc",
	"drivers/usb/host/xhci", "drivers/usb/host/ehci",
	"fs/ext4/", "fs/xfs/", "fs/fat/", "fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/nls/nls_utf8", "fs/squashfs/", "fs/erofs/", "fs/overlayfs/",
	"lib/crc", "lib/libcrc", "crypto/crc32c",
}

func isWanted(file string, extra []string) bool {
	// Beside kernel/ there are updates/, extra/ and weak-updates/: a driver that a site installed itself is one that
	// it needs, so all of these come along.
	rest, ok := strings.CutPrefix(file, "kernel/")
	if !ok {
		return true
	}
	return slices.ContainsFunc(wanted, func(w string) bool { return strings.HasPrefix(rest, w) }) || slices.Contains(extra, modules.Name(file))
}

// choose returns the files of all modules wanted and of what they need, each once, in depmod's order.
func choose(x *modules.Index, extra []string) map[string]bool {
	keep := map[string]bool{}
	for _, f := range x.Files() {
		if !isWanted(f, extra) {
			continue
		}
		for _, need := range x.ForName(modules.Name(f)) {
			keep[need] = true
		}
	}
	return keep
}

// plainName is the name of a module's file without the suffix of its compression: stage one has no use for it.
func plainName(file string) string {
	for _, s := range []string{".xz", ".zst", ".gz"} {
		if p, ok := strings.CutSuffix(file, s); ok && strings.HasSuffix(p, ".ko") {
			return p
		}
	}
	return file
}

// plain undoes a module's compression: the whole archive is compressed once more, and better in one piece.
func plain(file string, b []byte) ([]byte, error) {
	var r io.Reader = bytes.NewReader(b)
	var err error
	switch path.Ext(file) {
	case ".xz":
		// The dictionary that the file claims is allocated at once; kernel builds use 1 to 2 MiB.
		r, err = (xz.ReaderConfig{DictCap: 64 << 10, SingleStream: true}).NewReader(r)
	case ".zst":
		var d *zstd.Decoder
		d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err == nil {
			defer d.Close()
			r = d
		}
	case ".gz":
		r, err = gzip.NewReader(r)
	default:
		return b, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "module %s cannot be decompressed", file)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "module %s cannot be decompressed", file)
	}
	if len(out) > maxModule {
		return nil, fault.New(fault.Invalid, "module %s is larger than %d bytes", file, maxModule)
	}
	return out, nil
}

// firmware lists the firmware files that a module says it may load, from its section .modinfo.
func firmware(module []byte) []string {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil
	}
	info, err := s.Data()
	if err != nil {
		return nil
	}
	var all []string
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if name, ok := bytes.CutPrefix(field, []byte("firmware=")); ok {
			all = append(all, string(name))
		}
	}
	return all
}
