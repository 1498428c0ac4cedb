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
	"ssh.host_keys/etc/ssh/ssh_host_ed25519_key":    0o600,
	"ssh.authorized_keys/root/.ssh":                 0o700,
	"ssh.authorized_keys/root/.ssh/authorized_keys": 0o600,
	"machine-id/etc/machine-id":                     0o444,
	// NetworkManager takes no connections that others may read.
	"NetworkManager/etc/NetworkManager/system-connections/ww4-managed": 0o600,
	"NetworkManager/warewulf/init.d/20-NetworkManager":                 0o755,
	"netplan/etc/netplan/warewulf.yaml":                                0o600, // netplan complains of others
}

// DefaultSystem are the shipped overlays that a new cluster's default profile names, in order.
func DefaultSystem() []string {
	return []string{"hostname", "hosts", "resolv", "machine-id", "systemd.networkd", "ssh.host_keys", "ssh.authorized_keys", "wulf-agent"}
}

// DefaultRuntime are the shipped overlays that a new cluster's default profile names to be refreshed on running nodes.
func DefaultRuntime() []string { return []string{"hosts", "ssh.authorized_keys"} }

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
	return NewBundle(files)
}
