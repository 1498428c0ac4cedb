package warewulf

import (
	"net/netip"
	"strconv"
	"strings"
)

// Nodes is what nodes.conf declares, in the form of 4.7: nothing is merged, and lists still hold their "~x".
type Nodes struct {
	Profiles map[string]*Profile `yaml:"nodeprofiles" json:"nodeprofiles"`
	Nodes    map[string]*Node    `yaml:"nodes" json:"nodes"`
	Hazards  []Hazard            `yaml:"-" json:"-"` // met while reading, in the order of the file
}

// Node is a node with its own values.
type Node struct {
	Discoverable Bool   `yaml:"discoverable,omitempty" json:"discoverable,omitempty"`
	AssetKey     string `yaml:"asset key,omitempty" json:"asset key,omitempty"`
	Profile      `yaml:",inline"`
}

// Profile is what may be said of nodes, in a profile or in the node itself. What is empty is not said.
type Profile struct {
	Profiles       []string               `yaml:"profiles,omitempty" json:"profiles,omitempty"` // later ones win; "~p" takes p away
	Groups         []string               `yaml:"groups,omitempty" json:"groups,omitempty"`     // in no release yet: what follows 4.7
	Comment        string                 `yaml:"comment,omitempty" json:"comment,omitempty"`   // never inherited
	ClusterName    string                 `yaml:"cluster name,omitempty" json:"cluster name,omitempty"`
	ImageName      string                 `yaml:"image name,omitempty" json:"image name,omitempty"`
	IPXE           string                 `yaml:"ipxe template,omitempty" json:"ipxe template,omitempty"`
	RuntimeOverlay []string               `yaml:"runtime overlay,omitempty" json:"runtime overlay,omitempty"`
	SystemOverlay  []string               `yaml:"system overlay,omitempty" json:"system overlay,omitempty"`
	Kernel         *Kernel                `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	IPMI           *IPMI                  `yaml:"ipmi,omitempty" json:"ipmi,omitempty"`
	Init           string                 `yaml:"init,omitempty" json:"init,omitempty"`
	Root           string                 `yaml:"root,omitempty" json:"root,omitempty"` // initramfs, ramfs, tmpfs or a block device
	NetDevs        map[string]*NetDev     `yaml:"network devices,omitempty" json:"network devices,omitempty"`
	Tags           map[string]string      `yaml:"tags,omitempty" json:"tags,omitempty"`
	PrimaryNetDev  string                 `yaml:"primary network,omitempty" json:"primary network,omitempty"`
	Disks          map[string]*Disk       `yaml:"disks,omitempty" json:"disks,omitempty"`
	FileSystems    map[string]*FileSystem `yaml:"filesystems,omitempty" json:"filesystems,omitempty"`
	Resources      map[string]any         `yaml:"resources,omitempty" json:"resources,omitempty"` // anything; templates read it

	at Position
}

// Kernel is which kernel of the image a node boots, and its command line.
type Kernel struct {
	Version string   `yaml:"version,omitempty" json:"version,omitempty"` // a version's prefix, or a path in the image
	Args    []string `yaml:"args,omitempty" json:"args,omitempty"`
}

// IPMI is how to reach a node's management board.
type IPMI struct {
	UserName   string            `yaml:"username,omitempty" json:"username,omitempty"`
	Password   string            `yaml:"password,omitempty" json:"password,omitempty"`
	IPAddr     IP                `yaml:"ipaddr,omitempty" json:"ipaddr,omitempty"`
	Gateway    IP                `yaml:"gateway,omitempty" json:"gateway,omitempty"`
	Netmask    IP                `yaml:"netmask,omitempty" json:"netmask,omitempty"`
	Port       string            `yaml:"port,omitempty" json:"port,omitempty"`
	Interface  string            `yaml:"interface,omitempty" json:"interface,omitempty"`
	EscapeChar string            `yaml:"escapechar,omitempty" json:"escapechar,omitempty"`
	Write      Bool              `yaml:"write,omitempty" json:"write,omitempty"` // the node writes these into its board when it boots
	Template   string            `yaml:"template,omitempty" json:"template,omitempty"`
	Tags       map[string]string `yaml:"tags,omitempty" json:"tags,omitempty"`
}

// NetDev is a network device of a node.
type NetDev struct {
	Type       string            `yaml:"type,omitempty" json:"type,omitempty"`
	OnBoot     Bool              `yaml:"onboot,omitempty" json:"onboot,omitempty"`
	Device     string            `yaml:"device,omitempty" json:"device,omitempty"`
	Hwaddr     string            `yaml:"hwaddr,omitempty" json:"hwaddr,omitempty"` // as it is written
	IPAddr     IP                `yaml:"ipaddr,omitempty" json:"ipaddr,omitempty"`
	Netmask    IP                `yaml:"netmask,omitempty" json:"netmask,omitempty"`
	Gateway    IP                `yaml:"gateway,omitempty" json:"gateway,omitempty"`
	IPAddr6    IP                `yaml:"ipaddr6,omitempty" json:"ipaddr6,omitempty"`
	PrefixLen6 string            `yaml:"prefixlen6,omitempty" json:"prefixlen6,omitempty"`
	Gateway6   IP                `yaml:"gateway6,omitempty" json:"gateway6,omitempty"`
	MTU        string            `yaml:"mtu,omitempty" json:"mtu,omitempty"`
	Tags       map[string]string `yaml:"tags,omitempty" json:"tags,omitempty"`

	primary bool // by an old key
}

// Disk is what becomes of a disk when the node boots.
type Disk struct {
	WipeTable  *bool                 `yaml:"wipe_table,omitempty" json:"wipe_table,omitempty"`
	Partitions map[string]*Partition `yaml:"partitions,omitempty" json:"partitions,omitempty"` // by label
}

// Partition is a partition of a Disk. Numbers and sizes stay the texts that they are in Warewulf.
type Partition struct {
	Number             string `yaml:"number,omitempty" json:"number,omitempty"`
	SizeMiB            string `yaml:"size_mib,omitempty" json:"size_mib,omitempty"`
	StartMiB           string `yaml:"start_mib,omitempty" json:"start_mib,omitempty"`
	TypeGUID           string `yaml:"type_guid,omitempty" json:"type_guid,omitempty"`
	GUID               string `yaml:"guid,omitempty" json:"guid,omitempty"`
	WipePartitionEntry *bool  `yaml:"wipe_partition_entry,omitempty" json:"wipe_partition_entry,omitempty"`
	ShouldExist        *bool  `yaml:"should_exist,omitempty" json:"should_exist,omitempty"`
	Resize             *bool  `yaml:"resize,omitempty" json:"resize,omitempty"`
}

// FileSystem is a file system on a device of the node.
type FileSystem struct {
	Format         string   `yaml:"format,omitempty" json:"format,omitempty"`
	Path           string   `yaml:"path,omitempty" json:"path,omitempty"`
	WipeFileSystem *bool    `yaml:"wipe_filesystem,omitempty" json:"wipe_filesystem,omitempty"`
	Label          string   `yaml:"label,omitempty" json:"label,omitempty"`
	UUID           string   `yaml:"uuid,omitempty" json:"uuid,omitempty"`
	Options        []string `yaml:"options,omitempty" json:"options,omitempty"`
	MountOptions   string   `yaml:"mount_options,omitempty" json:"mount_options,omitempty"`
}

// IP is an address or a netmask in its usual text; "" is none.
type IP string

// Addr is the address, or the zero Addr for none.
func (ip IP) Addr() netip.Addr {
	a, _ := netip.ParseAddr(string(ip)) // it was parsed when it was read
	return a
}

// parseIP reads an address as Go's net.IP does, which Warewulf uses: no zones, and an IPv4 address in an IPv6 one is
// that IPv4 address.
func parseIP(text string) (IP, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return "", false
	}
	return IP(a.Unmap().String()), true
}

// Bool is Warewulf's third kind of truth: a text, so that "" is not decided. It is kept as it was written.
type Bool string

// True tells what the text means; undecided is what "" means.
func (b Bool) True(undecided bool) bool {
	if b == "" {
		return undecided
	}
	v, known := parseBool(string(b))
	return v && known
}

// parseBool reads what Warewulf takes for true and false, and what it takes for the wish to have nothing there.
func parseBool(text string) (value, known bool) {
	switch text = strings.ToLower(text); text {
	case "yes", "y", "on":
		return true, true
	case "no", "n", "off", "unset", "delete", "undef", "--", "nil", "0.0.0.0":
		return false, true
	}
	v, err := strconv.ParseBool(text)
	return v, err == nil
}
