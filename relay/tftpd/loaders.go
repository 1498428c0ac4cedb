package tftpd

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxLoader bounds a boot program; those of iPXE have about a megabyte at most.
const maxLoader = 16 << 20

// Loaders are the boot programs of a relay, by the names under which they are served, in memory: what is asked for is
// a key of a map and never a path.
type Loaders struct{ byName map[string][]byte }

// sources are the files, below the directories, in which distributions have the boot programs.
var sources = map[string][]string{
	"undionly.kpxe":     {"undionly.kpxe"},
	"snponly.efi":       {"snponly.efi", "ipxe-snponly-x86_64.efi", "x86_64-efi/snponly.efi"},
	"snponly-arm64.efi": {"snponly-arm64.efi", "arm64-efi/snponly.efi", "arm64/snponly.efi", "ipxe-snponly-aarch64.efi"},
}

// SystemDirs are where distributions put iPXE: Debian, then Red Hat, then SUSE.
func SystemDirs() []string { return []string{"/usr/lib/ipxe", "/usr/share/ipxe", "/usr/share/ipxe-bootimgs"} }

// LoadLoaders reads what there is of the boot programs in the directories, the first that has one wins. It returns the
// names of those that none has; that is no error, for a site may have machines of one kind only.
func LoadLoaders(dirs []string) (*Loaders, []string, error) {
	l := &Loaders{map[string][]byte{}}
	var missing []string
	seen := map[string]bool{}
	for _, firmware := range []boot.Firmware{boot.FirmwareBIOS, boot.FirmwareEFI64, boot.FirmwareEFIArm64} {
		name := boot.Loaders[firmware]
		if seen[name] {
			continue
		}
		seen[name] = true
		body, err := find(dirs, sources[name])
		if err != nil {
			return nil, nil, err
		}
		if body == nil {
			missing = append(missing, name)
			continue
		}
		l.byName[name] = body
	}
	return l, missing, nil
}

func find(dirs, files []string) ([]byte, error) {
	for _, dir := range dirs {
		for _, file := range files {
			f, err := os.Open(filepath.Join(dir, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			defer f.Close()
			body, err := io.ReadAll(io.LimitReader(f, maxLoader+1))
			if err != nil {
				return nil, err
			}
			if len(body) > maxLoader {
				return nil, fault.New(fault.Invalid, "%s has more than %d bytes: that is no boot program", filepath.Join(dir, file), maxLoader)
			}
			return body, nil
		}
	}
	return nil, nil
}

// Loader returns a boot program. Nobody may change it.
func (l *Loaders) Loader(name string) ([]byte, bool) {
	b, ok := l.byName[name]
	return b, ok
}

// Has tells whether there is a boot program of that name.
func (l *Loaders) Has(name string) bool { return l.byName[name] != nil }
