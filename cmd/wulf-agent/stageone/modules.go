package stageone

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/modules"
)

// drivers loads the kernel modules that stage one brought along, as devices turn up.
type drivers struct {
	dir     string
	index   *modules.Index
	tried   map[string]bool
	aliases map[string]bool
	log     *slog.Logger
}

// newDrivers opens the modules of the running kernel. A kernel with everything built in has none.
func newDrivers(log *slog.Logger) (*drivers, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	d := &drivers{dir: filepath.Join(home, "modules", unix.ByteSliceToString(u.Release[:])), tried: map[string]bool{}, aliases: map[string]bool{}, log: log}
	index, err := modules.Load(os.DirFS(d.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	d.index = index
	// Firmware lies beside the modules, not where the kernel looks for it.
	if err := os.WriteFile("/sys/module/firmware_class/parameters/path", []byte(home+"/firmware"), 0); err != nil {
		log.Info("firmware cannot be loaded", "err", err)
	}
	return d, err
}

// byName loads modules that no device asks for: packet sockets, by which DHCP is spoken before there is an address.
func (d *drivers) byName(names ...string) {
	if d.index == nil {
		return
	}
	for _, n := range names {
		d.load(d.index.ForName(n))
	}
}

// coldplug loads the modules of all devices that there are now. Buses show more devices once their own drivers run,
// so it goes on until nothing new turns up.
func (d *drivers) coldplug() {
	if d.index == nil {
		return
	}
	for again := true; again; {
		again = false
		filepath.WalkDir("/sys/devices", func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() != "modalias" {
				return nil
			}
			b, err := os.ReadFile(path)
			alias := strings.TrimSpace(string(b))
			if err != nil || alias == "" || d.aliases[alias] {
				return nil
			}
			d.aliases[alias] = true
			again = d.load(d.index.ForAlias(alias)) || again
			return nil
		})
	}
}

// load loads modules in order and reports whether any was loaded now.
func (d *drivers) load(paths []string) bool {
	loaded := false
	for _, p := range paths {
		if d.tried[p] {
			continue
		}
		d.tried[p] = true
		f, err := os.Open(filepath.Join(d.dir, p))
		if err != nil {
			continue // built in, or left out as nothing that a boot needs
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		switch {
		case err == nil:
			loaded = true
		case !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV):
			d.log.Info("module cannot be loaded", "module", filepath.Base(p), "err", err)
		}
	}
	return loaded
}

// cmdline reads the kernel's command line.
func cmdline() (string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	line, _, _ := bufio.NewReader(bytes.NewReader(b)).ReadLine()
	return string(line), nil
}
