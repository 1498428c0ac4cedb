package catalog

import (
	"net/netip"
	"strings"
)

// Settings are what may be decided about a node, in a profile or in the node itself. A field that is nil or
// empty is not decided here. Merge says how several Settings become one.
//
// The JSON names are the words of the command line, of the log, of the feed and of blame: one form for all.
type Settings struct {
	Image       *string               `json:"image,omitempty"`       // name or name:tag; no tag means latest
	Method      *string               `json:"method,omitempty"`      // MethodTwoStage (default), MethodOneStage or MethodWarewulf
	IPXE        *string               `json:"ipxe,omitempty"`        // name of a boot script of the site's own; kept for it, nothing reads it yet
	Kernel      KernelSettings        `json:"kernel,omitzero"`       // which kernel, and its command line
	Init        *string               `json:"init,omitempty"`        // program that becomes PID 1 (default /sbin/init)
	Root        *string               `json:"root,omitempty"`        // RootTmpfs (default, but with MethodWarewulf), RootRamfs, or a device such as /dev/disk/by-partlabel/root
	Overlays    OverlaySettings       `json:"overlays,omitzero"`     // rendered files laid over the image
	Primary     *string               `json:"primary,omitempty"`     // the network device the node boots from
	Nets        map[string]NetDev     `json:"nets,omitempty"`        // network devices by their name in wulfmesh
	BMC         BMC                   `json:"bmc,omitzero"`          // the board that switches the node's power
	Disks       map[string]Disk       `json:"disks,omitempty"`       // by device, such as /dev/nvme0n1
	Filesystems map[string]Filesystem `json:"filesystems,omitempty"` // by device, such as /dev/disk/by-partlabel/scratch
	SSHKeys     []string              `json:"ssh_keys,omitempty"`    // lines of root's authorized_keys
	Cluster     *string               `json:"cluster,omitempty"`     // the name of the part of the machine room that the node belongs to, for people and templates
	Rack        *string               `json:"rack,omitempty"`
	Position    *string               `json:"position,omitempty"` // in the rack, such as u12
	Zone        *string               `json:"zone,omitempty"`
	Roles       []string              `json:"roles,omitempty"`        // what the node is for, such as login
	Groups      []string              `json:"groups,omitempty"`       // for node sets: @NAME
	UUID        *string               `json:"uuid,omitempty"`         // of the machine (SMBIOS); a node's own
	Asset       *string               `json:"asset,omitempty"`        // key of the inventory; a node's own
	Discover    *bool                 `json:"discoverable,omitempty"` // an unknown machine may become this node; a node's own
	Comment     *string               `json:"comment,omitempty"`      // for people; never inherited
	Tags        map[string]string     `json:"tags,omitempty"`
	Resources   map[string]Resource   `json:"resources,omitempty"` // anything that templates read
	Secrets     map[string]Secret     `json:"secrets,omitempty"`   // what only the node may know

	// Without are the paths of settings that profiles decide and that are not to hold here: the only way to have
	// none of something inherited. It is not inherited itself.
	Without []string `json:"without,omitempty"`
}

// The ways to boot an image.
const (
	MethodTwoStage = "two-stage" // stage one fetches the image, then switches root to it
	MethodOneStage = "one-stage" // the firmware's loader fetches the image and the kernel unpacks it
	MethodWarewulf = "warewulf"  // likewise, with the wwinit and wwclient of Warewulf 4 in place of the agent; where Network.Warewulf allows it
)

// What the root of a node is made of, if it is not on a device.
const (
	RootTmpfs = "tmpfs"
	RootRamfs = "ramfs"

	// With MethodWarewulf the kernel has made the root before anything else runs. It stays so if nobody decides otherwise,
	// and only wwinit is told of it: to copy it into another takes the image's memory twice.
	rootInitramfs = "initramfs"
)

// TagPriority is the tag by which a relay knows the machines that its reserve of slots is for: those whose value is
// PriorityUrgent. A profile may give it to many.
const (
	TagPriority    = "boot-priority"
	PriorityUrgent = "urgent"
)

// Urgent tells whether the machine goes before others when a relay is busy.
func (s *Settings) Urgent() bool { return s.Tags[TagPriority] == PriorityUrgent }

// RootDevice is the device that the root is on: the one that Root names, or that of the file system whose path is /. It is
// "" for a root in memory.
func (s *Settings) RootDevice() string {
	if s.Root != nil && strings.HasPrefix(*s.Root, "/") {
		return *s.Root
	}
	for _, dev := range sortedKeys(s.Filesystems) {
		if p := s.Filesystems[dev].Path; p != nil && *p == "/" {
			return dev
		}
	}
	return ""
}

// KernelSettings choose a kernel of the image and what is said to it.
type KernelSettings struct {
	Version *string  `json:"version,omitempty"` // a version or a prefix of one; none means the newest
	Args    []string `json:"args,omitempty"`    // one word each, as on a kernel command line
}

// OverlaySettings name overlays; later ones win where two write the same file.
type OverlaySettings struct {
	System  []string `json:"system,omitempty"`  // applied before the node's init starts
	Runtime []string `json:"runtime,omitempty"` // applied then too, and refreshed while the node runs
}

// NetDev is one network device of a node. Type and Tags say what templates need beyond addresses: a bond has the tag
// mode and its slaves the tag master, a VLAN has the tags parent_device and vlan_id, and any device may have tags
// DNS1, DNS2, DNSSEARCH and route1=DESTINATION,GATEWAY. The words are Warewulf's, so that its overlays work.
type NetDev struct {
	Type     *string           `json:"type,omitempty"`     // one of NetTypes (default ethernet)
	OnBoot   *bool             `json:"onboot,omitempty"`   // whether the system brings it up (default true)
	Device   *string           `json:"device,omitempty"`   // the kernel's name for it, such as eth0; none: matched by hardware address
	Hardware *HardwareAddr     `json:"hardware,omitempty"` // what DHCP knows the node by
	Network  *string           `json:"network,omitempty"`  // a Network; none: the one whose prefix holds Address
	Address  *netip.Addr       `json:"address,omitempty"`
	Netmask  *netip.Addr       `json:"netmask,omitempty"` // none: the network's
	Gateway  *netip.Addr       `json:"gateway,omitempty"` // none: the network's
	Address6 *netip.Addr       `json:"address6,omitempty"`
	Prefix6  *int              `json:"prefixlen6,omitempty"` // none: the network's
	Gateway6 *netip.Addr       `json:"gateway6,omitempty"`   // none: the network's
	MTU      *int              `json:"mtu,omitempty"`        // none: the network's
	Tags     map[string]string `json:"tags,omitempty"`
}

// DefaultNet is the network device that commands mean when none is named.
const DefaultNet = "default"

// NetTypes are the types of a network device.
var NetTypes = []string{"ethernet", "infiniband", "bond", "bond-slave", "vlan", "bridge"}

// BMC is how to reach the board that switches a node's power and shows its console.
type BMC struct {
	Template  *string           `json:"template,omitempty"` // name of the commands to use, such as ipmitool
	Address   *netip.Addr       `json:"address,omitempty"`
	Netmask   *netip.Addr       `json:"netmask,omitempty"`
	Gateway   *netip.Addr       `json:"gateway,omitempty"`
	Port      *int              `json:"port,omitempty"`
	Username  *string           `json:"username,omitempty"`
	Password  *Secret           `json:"password,omitempty"`
	Interface *string           `json:"interface,omitempty"`  // such as lanplus
	Escape    *string           `json:"escapechar,omitempty"` // that leaves the console
	Write     *bool             `json:"write,omitempty"`      // the node writes these addresses into its board when it boots
	Tags      map[string]string `json:"tags,omitempty"`       // vlan and bit-rate are known
}

// Disk is what becomes of a disk when the node boots.
type Disk struct {
	Wipe       *bool                `json:"wipe_table,omitempty"` // its partition table goes
	Partitions map[string]Partition `json:"partitions,omitempty"` // by label
}

// Partition is a partition of a Disk.
type Partition struct {
	Number *int    `json:"number,omitempty"`    // 0 or none: the next free one
	Size   *int64  `json:"size_mib,omitempty"`  // 0 or none: all that is left
	Start  *int64  `json:"start_mib,omitempty"` // none: the first place where it fits
	Type   *string `json:"type_guid,omitempty"` // a GUID of GPT's partition types
	GUID   *string `json:"guid,omitempty"`      // of the partition itself
	Wipe   *bool   `json:"wipe_partition_entry,omitempty"`
	Exists *bool   `json:"should_exist,omitempty"` // false: it goes (default true)
	Resize *bool   `json:"resize,omitempty"`
}

// Filesystem is a file system on a device of the node.
type Filesystem struct {
	Format  *string  `json:"format,omitempty"` // ext4, xfs, btrfs, vfat, swap
	Path    *string  `json:"path,omitempty"`   // where it is mounted
	Wipe    *bool    `json:"wipe_filesystem,omitempty"`
	Label   *string  `json:"label,omitempty"`
	UUID    *string  `json:"uuid,omitempty"`
	Options []string `json:"options,omitempty"`       // of mkfs
	Mount   *string  `json:"mount_options,omitempty"` // of mount, with commas
}
