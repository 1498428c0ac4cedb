package cli

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// setting is a flag that decides one setting. Its path may have parts that other flags name: NET, DISK, PART and FS
// (see places).
type setting struct {
	flag    string
	path    string
	usage   string
	aliases []string
	kind    settingKind
	node    bool // only nodes have it
}

type settingKind int

const (
	one     settingKind = iota // a text
	several                    // a list: again, or with commas; it replaces the list
	phrases                    // a list whose words may have commas in them: again, or with spaces
	yesNo                      // true or false; the bare flag is true
)

// settings are the flags that decide settings, of nodes and of profiles. Their names are those of wwctl where it has the
// same thing.
func settings() []setting {
	return []setting{
		{flag: "image", path: "image", usage: "boot image `NAME`[:TAG]", aliases: []string{"container", "C"}},
		{flag: "kernel", path: "kernel.version", usage: "use the image's kernel of `VERSION`, or the newest that begins so", aliases: []string{"kernelversion"}},
		{flag: "kernelargs", path: "kernel.args", usage: "add `WORD` to the kernel's command line; ~WORD takes one away that a profile gave", aliases: []string{"A"}, kind: phrases},
		{flag: "method", path: "method", usage: "boot by `METHOD`: two-stage, one-stage or warewulf"},
		{flag: "ipxe", path: "ipxe", usage: "the `NAME` of the site's own boot script"},
		{flag: "init", path: "init", usage: "the `PATH` of the program that becomes process 1", aliases: []string{"i"}},
		{flag: "root", path: "root", usage: "put the root on `KIND`: tmpfs, ramfs, or a device such as /dev/disk/by-partlabel/root"},
		{flag: "system-overlays", path: "overlays.system", usage: "lay overlay `NAME` over the image before init starts", aliases: []string{"O", "wwinit"}, kind: several},
		{flag: "runtime-overlays", path: "overlays.runtime", usage: "lay overlay `NAME` over it too, and refresh it while the node runs", aliases: []string{"R", "runtime"}, kind: several},
		{flag: "primarynet", path: "primary", usage: "boot from the network device `NAME`", aliases: []string{"p"}},
		{flag: "ssh-key", path: "ssh_keys", usage: "a `LINE` for root's authorized_keys", kind: phrases},
		{flag: "cluster", path: "cluster", usage: "the `NAME` of the part of the cluster that it belongs to", aliases: []string{"c"}},
		{flag: "rack", path: "rack", usage: "the `NAME` of its rack; of many nodes maybe a formula, as r{n1}"},
		{flag: "position", path: "position", usage: "its `PLACE` in the rack, as u12 or u{n2}"},
		{flag: "zone", path: "zone", usage: "the `NAME` of its zone"},
		{flag: "role", path: "roles", usage: "what it is for, as `ROLE`", kind: several},
		{flag: "groups", path: "groups", usage: "put it into group `NAME`, for node sets: @NAME", kind: several},
		{flag: "comment", path: "comment", usage: "a `TEXT` for people"},
		{flag: "discoverable", path: "discoverable", usage: "an unknown machine may become this node", aliases: []string{"e"}, kind: yesNo, node: true},
		{flag: "asset", path: "asset", usage: "its `KEY` in the inventory", node: true},
		{flag: "uuid", path: "uuid", usage: "the `UUID` of its board (SMBIOS)", node: true},

		{flag: "type", path: "nets.NET.type", usage: "the device's `TYPE`: ethernet, infiniband, bond, bond-slave, vlan or bridge", aliases: []string{"T"}},
		{flag: "onboot", path: "nets.NET.onboot", usage: "the system brings the device up", kind: yesNo},
		{flag: "netdev", path: "nets.NET.device", usage: "the kernel's `NAME` for it, as eth0", aliases: []string{"N"}},
		{flag: "hwaddr", path: "nets.NET.hardware", usage: "the hardware `ADDRESS` of the network device, by which DHCP knows it", aliases: []string{"H"}, node: true},
		{flag: "network", path: "nets.NET.network", usage: "the network `NAME` that it is in; else the one that holds its address"},
		{flag: "ipaddr", path: "nets.NET.address", usage: "its IP `ADDRESS`; auto: the first free one of --network", aliases: []string{"I"}, node: true},
		{flag: "netmask", path: "nets.NET.netmask", usage: "its `MASK`; else the network's", aliases: []string{"M"}},
		{flag: "gateway", path: "nets.NET.gateway", usage: "the `ADDRESS` of its gateway; else the network's", aliases: []string{"G"}},
		{flag: "ipaddr6", path: "nets.NET.address6", usage: "its IPv6 `ADDRESS`", node: true},
		{flag: "prefixlen6", path: "nets.NET.prefixlen6", usage: "the `LENGTH` of its IPv6 prefix; else the network's"},
		{flag: "gateway6", path: "nets.NET.gateway6", usage: "the `ADDRESS` of its IPv6 gateway; else the network's"},
		{flag: "mtu", path: "nets.NET.mtu", usage: "its greatest packet, in `BYTES`; else the network's"},

		{flag: "ipmiaddr", path: "bmc.address", usage: "the `ADDRESS` of its BMC", node: true},
		{flag: "ipminetmask", path: "bmc.netmask", usage: "the BMC's `MASK`"},
		{flag: "ipmigateway", path: "bmc.gateway", usage: "the `ADDRESS` of the BMC's gateway"},
		{flag: "ipmiport", path: "bmc.port", usage: "the BMC's `PORT`"},
		{flag: "ipmiuser", path: "bmc.username", usage: "the `USER` to be at the BMC"},
		{flag: "ipmipass", path: "bmc.password", usage: "the BMC's `PASSWORD`; it is sealed, and nobody sees it again; @FILE reads it from a file, @- from standard input"},
		{flag: "ipmiinterface", path: "bmc.interface", usage: "how to speak to it, as `lanplus`"},
		{flag: "ipmiescapechar", path: "bmc.escapechar", usage: "the `CHARACTER` that leaves the console"},
		{flag: "ipmiwrite", path: "bmc.write", usage: "the node writes these addresses into its BMC when it boots", kind: yesNo},
		{flag: "ipmitemplate", path: "bmc.template", usage: "the commands that speak to it, by `NAME`"},

		{flag: "diskwipe", path: "disks.DISK.wipe_table", usage: "wipe the disk's partition table", kind: yesNo},
		{flag: "partnumber", path: "disks.DISK.partitions.PART.number", usage: "the partition's `NUMBER`"},
		{flag: "partsize", path: "disks.DISK.partitions.PART.size_mib", usage: "its size in `MIB`; 0: all that is left"},
		{flag: "partstart", path: "disks.DISK.partitions.PART.start_mib", usage: "where it begins, in `MIB`"},
		{flag: "parttype", path: "disks.DISK.partitions.PART.type_guid", usage: "its type, a `GUID`"},
		{flag: "partguid", path: "disks.DISK.partitions.PART.guid", usage: "its own `GUID`"},
		{flag: "partwipe", path: "disks.DISK.partitions.PART.wipe_partition_entry", usage: "replace a partition that is in its way", kind: yesNo},
		{flag: "partcreate", path: "disks.DISK.partitions.PART.should_exist", usage: "make it if it is not there", kind: yesNo},
		{flag: "partresize", path: "disks.DISK.partitions.PART.resize", usage: "let it grow to its size, if it is smaller", kind: yesNo},
		{flag: "fsformat", path: "filesystems.FS.format", usage: "the file system's `FORMAT`, as ext4"},
		{flag: "fspath", path: "filesystems.FS.path", usage: "the `PATH` where it is mounted"},
		{flag: "fswipe", path: "filesystems.FS.wipe_filesystem", usage: "make it anew at every boot", kind: yesNo},
		{flag: "fslabel", path: "filesystems.FS.label", usage: "its `LABEL`"},
		{flag: "fsuuid", path: "filesystems.FS.uuid", usage: "its `UUID`"},
		{flag: "fsoptions", path: "filesystems.FS.options", usage: "an `OPTION` of mkfs", kind: phrases},
		{flag: "fsmount", path: "filesystems.FS.mount_options", usage: "`OPTIONS` of mount, with commas"},
	}
}

// places are the flags that name the parts of paths.
func places() map[string]string {
	return map[string]string{"NET": "netname", "DISK": "diskname", "PART": "partname", "FS": "fsname"}
}

func placeNames() map[string]string {
	return map[string]string{"DISK": "disk", "PART": "partition", "FS": "file system"}
}

// removals are the flags that take something with a name away, and where that is.
func removals() []setting {
	return []setting{
		{flag: "tagdel", path: "tags.", usage: "take tag `KEY` away"},
		{flag: "nettagdel", path: "nets.NET.tags.", usage: "take tag `KEY` of the network device away"},
		{flag: "ipmitagdel", path: "bmc.tags.", usage: "take tag `KEY` of the BMC away"},
		{flag: "netdel", path: "nets.", usage: "take the network device `NAME` away"},
		{flag: "diskdel", path: "disks.", usage: "take the disk `NAME` away"},
		{flag: "partdel", path: "disks.DISK.partitions.", usage: "take the partition `NAME` of the disk away"},
		{flag: "fsdel", path: "filesystems.", usage: "take the file system on `DEVICE` away"},
		{flag: "secretdel", path: "secrets.", usage: "take the secret `NAME` away"},
	}
}

// additions are the flags that set something with a name: KEY=VALUE.
func additions() []setting {
	return []setting{
		{flag: "tagadd", path: "tags.", usage: "set a tag: `KEY=VALUE`"},
		{flag: "nettagadd", path: "nets.NET.tags.", usage: "set a tag of the network device: `KEY=VALUE`"},
		{flag: "ipmitagadd", path: "bmc.tags.", usage: "set a tag of the BMC: `KEY=VALUE`"},
		{flag: "resource", path: "resources.", usage: "set a resource: `KEY=VALUE`, JSON or text"},
		{flag: "secret", path: "secrets.", usage: "set a secret: `KEY=VALUE`; it is sealed, and nobody sees it again; KEY=@FILE reads it from a file, KEY=@- from standard input"},
		{flag: "setting", path: "", usage: "set any setting by its path: `PATH=VALUE`, as nets.default.mtu=9000"},
	}
}

// settingFlags are the flags that decide settings.
func settingFlags(ofNodes bool) []cli.Flag {
	flags := []cli.Flag{
		texts("profile", "take the settings of profile `NAME`; several: again, or with commas; later ones win; ~NAME takes one away that another brings", "P"),
		text("netname", "the network device `NAME` that its flags are about (default: default)"),
		text("diskname", "the disk `DEVICE` that its flags are about, as /dev/nvme0n1"),
		text("partname", "the partition `LABEL` that its flags are about"),
		text("fsname", "the `DEVICE` or partition that the flags of a file system are about"),
	}
	for _, s := range settings() {
		if s.node && !ofNodes {
			continue
		}
		switch s.kind {
		case several, phrases:
			flags = append(flags, texts(s.flag, s.usage, s.aliases...))
		case yesNo:
			flags = append(flags, toggle(s.flag, s.usage, s.aliases...))
		default:
			flags = append(flags, text(s.flag, s.usage, s.aliases...))
		}
	}
	for _, s := range append(additions(), removals()...) {
		flags = append(flags, texts(s.flag, s.usage))
	}
	return flags
}

// unsetFlag takes decisions back.
func unsetFlag() cli.Flag {
	return texts("unset", "decide the setting at `PATH` no longer, as kernel.args or nets.default.gateway; profiles may still decide it")
}

// withoutFlag takes away what profiles decide.
func withoutFlag() cli.Flag {
	return texts("without", "have none of the setting at `PATH`, whatever profiles decide; a path with ~ before it may be inherited again")
}

// place fills the parts of a path that other flags name.
func place(c *cli.Context, path string) (string, error) {
	for part, flag := range places() {
		marked := strings.HasPrefix(path, part+".") || strings.Contains(path, "."+part+".")
		if !marked {
			continue
		}
		name := c.String(flag)
		if name == "" {
			if part != "NET" {
				return "", fault.New(fault.Invalid, "%s: it is not said of which %s", path, placeNames()[part]).WithFix("say --%s NAME", flag)
			}
			name = defaultNet
		}
		if part == "FS" {
			name = fsDevice(name)
		}
		path = strings.Replace(path, "."+part+".", "."+name+".", 1)
	}
	return path, nil
}

// fsDevice is the device of a file system. By wwctl's rule a name that is no device is a partition's.
func fsDevice(name string) string {
	if strings.HasPrefix(name, "/dev/") {
		return name
	}
	return "/dev/disk/by-partlabel/" + name
}
