package overlay

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

//go:embed all:shipped
var shippedFiles embed.FS

// ShippedOverlay is an overlay that comes with wulfmesh.
type ShippedOverlay struct {
	Name   string
	Bundle *Bundle
}

// shippedModes are the permissions of shipped files that are not 0644, by overlay and path: embedding keeps none.
var shippedModes = map[string]uint32{
	"ssh.host_keys/etc/ssh/wulf_host_keys":          0o600,
	"ssh.host_keys/etc/ssh/sshd_config.d/wulf.conf": 0o600,
	"ssh.authorized_keys/root/.ssh":                 0o700,
	"ssh.authorized_keys/root/.ssh/authorized_keys": 0o600,
	"machine-id/etc/machine-id":                     0o444,
	// NetworkManager takes no connections that others may read.
	"NetworkManager/etc/NetworkManager/system-connections/ww4-managed": 0o600,
	"NetworkManager/warewulf/init.d/20-NetworkManager":                 0o755,
	"netplan/etc/netplan/warewulf.yaml":                                0o600, // netplan complains of others

	"wwinit/init":                               0o755,
	"wwinit/warewulf/config":                    0o600,
	"wwinit/warewulf/run-init":                  0o755,
	"wwinit/warewulf/run-wwinit.d":              0o755,
	"wwinit/warewulf/init.d/20-loopback":        0o755,
	"wwinit/warewulf/init.d/50-ipmi":            0o755,
	"wwinit/warewulf/init.d/75-vnfs_fixes":      0o755,
	"wwinit/warewulf/init.d/90-selinux":         0o755,
	"ignition/warewulf/wwinit.d/10-ignition.sh": 0o755,
	"sfdisk/warewulf/wwinit.d/10-sfdisk.sh":     0o755,
	"mkfs/warewulf/wwinit.d/20-mkfs.sh":         0o755,
	"mkswap/warewulf/wwinit.d/20-mkswap.sh":     0o755,
	"mig/usr/local/sbin/ww-mig":                 0o755,
	"mig/usr/local/sbin/mig2gres":               0o755,
	"example.munge/etc/munge/munge.key":         0o400,
	"example.sssd/etc/sssd/sssd.conf":           0o600,
}

// shippedHooks are what running nodes do when files of shipped overlays have changed. The names of units are those that
// every distribution knows them by, if only as an alias.
var shippedHooks = map[string][]Hook{
	"chrony":           {{Path: "etc/chrony.conf", Restart: "chronyd.service"}},
	"ssh.host_keys":    {{Path: "etc/ssh/ssh_host_*", Reload: "sshd.service"}, {Path: "etc/ssh/sshd_config.d/wulf.conf", Reload: "sshd.service"}},
	"example.munge":    {{Path: "etc/munge/munge.key", Restart: "munge.service"}},
	"example.slurm":    {{Path: "etc/slurm/slurm.conf", Reload: "slurmd.service"}},
	"example.sssd":     {{Path: "etc/sssd/sssd.conf", Restart: "sssd.service"}},
	"systemd.networkd": {{Path: "etc/systemd/network/*", Reload: "systemd-networkd.service"}},
}

// DefaultSystem are the shipped overlays that a new cluster's default profile names, in order.
func DefaultSystem() []string {
	return []string{"hostname", "hosts", "resolv", "machine-id", "systemd.networkd", "ssh.host_keys", "ssh.known_hosts", "ssh.authorized_keys", "wulf-agent"}
}

// DefaultRuntime are the shipped overlays that a new cluster's default profile names to be refreshed on running nodes.
func DefaultRuntime() []string { return []string{"hosts", "ssh.known_hosts", "ssh.authorized_keys"} }

// Shipped returns the overlays that come with this version of wulfmesh, in the order of their names.
func Shipped() ([]ShippedOverlay, error) {
	names, err := shippedFiles.ReadDir("shipped")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading shipped overlays")
	}
	var all []ShippedOverlay
	for _, n := range names {
		tree, err := fs.Sub(shippedFiles, "shipped/"+n.Name())
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "reading shipped overlay %s", n.Name())
		}
		b, err := fromShipped(n.Name(), tree)
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "shipped overlay %s", n.Name())
		}
		all = append(all, ShippedOverlay{n.Name(), b})
	}
	return all, nil
}

func fromShipped(name string, tree fs.FS) (*Bundle, error) {
	var files []File
	err := fs.WalkDir(tree, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		f := File{Path: p, Type: TypeDir, Mode: 0o755}
		if !e.IsDir() {
			f.Type, f.Mode = TypeFile, 0o644
			if f.Content, err = fs.ReadFile(tree, p); err != nil {
				return err
			}
			f.Path, f.Template = strings.CutSuffix(p, TemplateSuffix)
		}
		m, ok := shippedModes[name+"/"+f.Path]
		if ok {
			f.Mode = m
		}
		if f.Type == TypeDir && !ok {
			return nil // the image decides about its own directories
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return NewBundle(files, shippedHooks[name]...)
}
