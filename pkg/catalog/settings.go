package catalog

import "net/netip"

// Settings are what may be decided about a node, in a profile or in the node itself. A field that is nil or
// empty is not decided here. Merge says how several Settings become one.
//
// The JSON names are the words of the command line, of the log, of the feed and of blame: one form for all.
type Settings struct {
	Image    *string           `json:"image,omitempty"`    // name or name:tag; no tag means latest
	Method   *string           `json:"method,omitempty"`   // MethodTwoStage (default) or MethodOneStage
	Kernel   KernelSettings    `json:"kernel,omitzero"`    // which kernel, and its command line
	Init     *string           `json:"init,omitempty"`     // program that becomes PID 1 (default /sbin/init)
	Root     *string           `json:"root,omitempty"`     // RootTmpfs (default) or RootRamfs
	Overlays OverlaySettings   `json:"overlays,omitzero"`  // rendered files laid over the image
	Primary  *string           `json:"primary,omitempty"`  // the network device the node boots from
	Nets     map[string]NetDev `json:"nets,omitempty"`     // network devices by their name in wulfmesh
	SSHKeys  []string          `json:"ssh_keys,omitempty"` // lines of root's authorized_keys
	Rack     *string           `json:"rack,omitempty"`
	Zone     *string           `json:"zone,omitempty"`
	Comment  *string           `json:"comment,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
}

// The ways to boot an image.
const (
	MethodTwoStage = "two-stage" // stage one fetches the image, then switches root to it
	MethodOneStage = "one-stage" // the firmware's loader fetches the image and the kernel unpacks it
)

// What the root of a node is made of.
const (
	RootTmpfs = "tmpfs"
	RootRamfs = "ramfs"
)

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

// NetDev is one network device of a node.
type NetDev struct {
	Device   *string       `json:"device,omitempty"`   // the kernel's name for it, such as eth0; none: matched by hardware address
	Hardware *HardwareAddr `json:"hardware,omitempty"` // what DHCP knows the node by
	Network  *string       `json:"network,omitempty"`  // a Network; none: the one whose prefix holds Address
	Address  *netip.Addr   `json:"address,omitempty"`
	Gateway  *netip.Addr   `json:"gateway,omitempty"` // none: the network's
	MTU      *int          `json:"mtu,omitempty"`     // none: the network's
}

// DefaultNet is the network device that commands mean when none is named.
const DefaultNet = "default"
