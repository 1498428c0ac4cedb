package relay

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// LoaderDirs is where distributions put iPXE: Debian and Ubuntu, then Enterprise Linux and Fedora.
func LoaderDirs() []string { return []string{"/usr/lib/ipxe", "/usr/share/ipxe"} }

// loaderFiles are the files that may stand for a boot program of boot.Loaders, the best first. Where there is none
// that goes through the firmware's own driver, one that brings drivers along is better than nothing.
var loaderFiles = map[string][]string{
	"undionly.kpxe":     {"undionly.kpxe"},
	"snponly.efi":       {"snponly.efi", "ipxe-snponly-x86_64.efi", "ipxe.efi", "ipxe-x86_64.efi"},
	"snponly-arm64.efi": {"snponly-arm64.efi", "arm64-efi/snponly.efi", "ipxe-arm64.efi", "arm64-efi/ipxe.efi"},
}

const (
	maxLoader  = 16 << 20
	loaderLook = time.Minute // after which it is looked whether a file has changed
)

// loaders are the boot programs, read from their files when they are asked for. Nothing else can be asked for: the
// names are a table.
type loaders struct {
	dirs []string

	mu   sync.Mutex
	read map[string]loader
}

type loader struct {
	body []byte // nil: there is none
	at   time.Time
}

func newLoaders(dirs []string) *loaders {
	if dirs == nil {
		dirs = LoaderDirs()
	}
	return &loaders{dirs: dirs, read: map[string]loader{}}
}

// Loader returns a boot program by its name in boot.Loaders; false if there is none.
func (l *loaders) Loader(name string) ([]byte, bool) {
	files, ok := loaderFiles[name]
	if !ok {
		return nil, false
	}
	l.mu.Lock()
	have := l.read[name]
	l.mu.Unlock()
	if have.at.IsZero() || time.Since(have.at) > loaderLook {
		have = loader{l.find(files), time.Now()}
		l.mu.Lock()
		l.read[name] = have
		l.mu.Unlock()
	}
	return have.body, have.body != nil
}

// Has tells whether there is a boot program of that name.
func (l *loaders) Has(name string) bool {
	_, ok := l.Loader(name)
	return ok
}

func (l *loaders) find(files []string) []byte {
	for _, dir := range l.dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		defer root.Close()
		for _, name := range files {
			f, err := root.Open(name)
			if err != nil {
				continue
			}
			b, err := io.ReadAll(io.LimitReader(f, maxLoader+1))
			f.Close()
			if err == nil && len(b) > 0 && len(b) <= maxLoader {
				return b
			}
		}
	}
	return nil
}

// problem says which machines cannot boot for want of a program. arm64 is not missed: few sites have any.
func (l *loaders) problem() string {
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(loaderFiles)) {
		if !l.Has(name) && name != boot.Loaders[boot.FirmwareEFIArm64] {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("boot programs are missing: %s is not in %s; install iPXE (package ipxe, or ipxe-bootimgs)", strings.Join(missing, " and "), strings.Join(l.dirs, " or "))
}
