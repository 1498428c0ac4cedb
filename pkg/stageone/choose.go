package stageone

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/modules"
)

// wanted are the modules by which a node reaches its network, its disks and its root, as paths below kernel/ that
// they begin with. What these need comes along. Left out is what only a full system uses: sound, graphics, wireless.
var wanted = []string{
	"drivers/net/ethernet/", "drivers/net/phy/", "drivers/net/mdio/", "drivers/net/pcs/", "drivers/net/virtio_net", "drivers/net/bonding/",
	"drivers/net/hyperv/", "drivers/net/vmxnet3/", "drivers/net/xen-netfront", "drivers/net/net_failover", "drivers/net/mii",
	"drivers/net/usb/aqc111", "drivers/net/usb/asix", "drivers/net/usb/ax88179", "drivers/net/usb/cdc_", "drivers/net/usb/lan78xx",
	"drivers/net/usb/r815", "drivers/net/usb/smsc", "drivers/net/usb/usbnet",
	"net/8021q/", "net/packet/", "net/core/failover",
	"drivers/infiniband/core/", "drivers/infiniband/hw/mlx4/", "drivers/infiniband/hw/mlx5/", "drivers/infiniband/hw/hfi1/", "drivers/infiniband/ulp/ipoib/",
	"drivers/virtio/", "drivers/block/virtio_blk", "drivers/block/xen-blkfront", "drivers/block/loop", "drivers/char/hw_random/virtio-rng", "drivers/hv/",
	"drivers/pci/controller/", "drivers/pci/host/",
	"drivers/nvme/host/nvme.ko", "drivers/nvme/host/nvme-core.ko", "drivers/ata/ahci", "drivers/ata/libahci", "drivers/ata/libata", "drivers/ata/ata_piix",
	"drivers/scsi/sd_mod", "drivers/scsi/scsi_mod", "drivers/scsi/virtio_scsi", "drivers/scsi/megaraid/", "drivers/scsi/mpt3sas/",
	"drivers/scsi/hpsa", "drivers/scsi/aacraid/", "drivers/scsi/smartpqi/", "drivers/scsi/vmw_pvscsi", "drivers/scsi/hv_storvsc",
	"drivers/usb/host/xhci", "drivers/usb/host/ehci",
	"fs/ext4/", "fs/xfs/", "fs/btrfs/", "fs/fat/", "fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/nls/nls_iso8859-1.", "fs/nls/nls_utf8", "fs/squashfs/", "fs/erofs/", "fs/overlayfs/",
	"lib/crc", "lib/libcrc", "crypto/crc32c",
}

// maxForeign bounds the file of a driver that does not come with the kernel: what is larger drives graphics cards.
const maxForeign = 8 << 20

// choose returns the files of all modules wanted and of what they need.
func (b *builder) choose(dir fs.FS, x *modules.Index, extra []string) map[string]bool {
	keep := make(map[string]bool)
	for _, f := range x.Files() {
		if !b.wants(dir, f, extra) {
			continue
		}
		for _, need := range x.ForName(modules.Name(f)) {
			keep[need] = true
		}
	}
	return keep
}

func (b *builder) wants(dir fs.FS, f string, extra []string) bool {
	if slices.ContainsFunc(extra, func(name string) bool { return modules.Name(name) == modules.Name(f) }) {
		return true
	}
	rest, ok := strings.CutPrefix(f, "kernel/")
	if ok {
		return slices.ContainsFunc(wanted, func(w string) bool { return strings.HasPrefix(rest, w) })
	}
	// Beside kernel/ there are updates/, extra/ and weak-updates/: a driver that a site installed itself is likely one
	// that it needs, and its place says nothing of what it drives.
	if fi, err := fs.Stat(dir, f); err == nil && fi.Size() > maxForeign {
		b.warn("module " + f + " is left out of stage one: it is larger than a driver that a node boots by")
		return false
	}
	return true
}
