package stageone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/modules"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// Where things lie in stage one: all but /init are below Home.
const (
	Home      = ".wulf"
	TrustFile = ".wulf/trust.json"
)

// maxFirmware bounds the firmware of a stage one: a file that would pass it is left out, and said so.
const maxFirmware = 48 << 20

// Options say what goes into a stage one besides the kernel's own.
type Options struct {
	Agent   []byte   // the program wulf-agent for the kernel's architecture
	Trust   []byte   // trust.json: whom the node believes
	Modules []string // names of further modules to take along
}

// Result is a stage one.
type Result struct {
	Archive  []byte // a cpio archive in one zstd frame
	Modules  int
	Firmware int
	Warnings []string // what was left out
}

// Build makes the stage one of a kernel. Equal sources and options give equal bytes.
func Build(ctx context.Context, src segment.Source, k Kernel, o Options) (*Result, error) {
	if len(o.Agent) == 0 {
		return nil, fault.New(fault.NotFound, "there is no wulf-agent for %s", k.Arch).WithFix("install wulf-agent-%s beside wulf", k.Arch)
	}
	b := &builder{ctx: ctx, tree: newTree(src), dirs: map[string]bool{}}
	b.file("init", 0o755, o.Agent)
	b.file(TrustFile, 0o644, o.Trust)
	if k.Modules != "" {
		if err := b.modules(k, o.Modules); err != nil {
			return nil, err
		}
	}
	archive, err := b.archive()
	if err != nil {
		return nil, err
	}
	b.result.Archive = archive
	return &b.result, nil
}

type builder struct {
	ctx    context.Context
	tree   *tree
	dirs   map[string]bool
	files  []content
	result Result
}

type content struct {
	entry segment.Entry
	body  []byte
}

// file adds a file and the directories above it.
func (b *builder) file(p string, mode uint32, body []byte) {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		b.dirs[dir] = true
	}
	b.files = append(b.files, content{segment.Entry{Path: p, Type: segment.File, Mode: mode, Size: int64(len(body))}, body})
}

// modules adds the modules chosen, what depmod says of them, and their firmware.
func (b *builder) modules(k Kernel, extra []string) error {
	x, err := modules.Load(files{b.tree, k.Modules})
	if errors.Is(err, fs.ErrNotExist) {
		b.result.Warnings = append(b.result.Warnings, "kernel "+k.Version+" has no modules.dep: stage one gets no modules (run depmod in the image)")
		return nil
	}
	if err != nil {
		return err
	}
	home := path.Join(Home, "modules", k.Version)
	keep := choose(x, extra)
	wantedFirmware := map[string]bool{}
	for _, f := range x.Files() {
		if !keep[f] {
			continue
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
		raw, err := b.tree.read(path.Join(k.Modules, f), maxModule)
		if errors.Is(err, fs.ErrNotExist) {
			b.result.Warnings = append(b.result.Warnings, "module "+f+" is in modules.dep but not in the image")
			continue
		}
		if err != nil {
			return err
		}
		module, err := plain(f, raw)
		if err != nil {
			return err
		}
		b.file(path.Join(home, plainName(f)), 0o644, module)
		b.result.Modules++
		for _, name := range firmware(module) {
			wantedFirmware[name] = true
		}
	}
	tables := map[string]*bytes.Buffer{}
	err = x.Write(func(f string) bool { return keep[f] }, plainName, func(name string) io.Writer {
		tables[name] = &bytes.Buffer{}
		return tables[name]
	})
	if err != nil {
		return err
	}
	for name, t := range tables {
		b.file(path.Join(home, name), 0o644, t.Bytes())
	}
	return b.firmware(k, wantedFirmware)
}

// firmware adds those of the files that the image has. It is kept as it is: the kernel decompresses firmware itself.
func (b *builder) firmware(k Kernel, names map[string]bool) error {
	total := 0
	for _, name := range sorted(names) {
		if name != path.Clean(name) || strings.HasPrefix(name, "../") || path.IsAbs(name) {
			continue
		}
		for _, place := range []string{"lib/firmware/updates/" + k.Version, "lib/firmware/updates", "lib/firmware/" + k.Version, "lib/firmware"} {
			found := false
			for _, suffix := range []string{"", ".zst", ".xz"} {
				body, err := b.tree.read(path.Join(place, name+suffix), maxFirmware)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return err
				}
				found = true
				if total += len(body); total > maxFirmware {
					b.result.Warnings = append(b.result.Warnings, "firmware "+name+" is left out of stage one, which would get too large")
					total -= len(body)
					break
				}
				b.file(path.Join(Home, "firmware", name+suffix), 0o644, body)
				b.result.Firmware++
				break
			}
			if found {
				break
			}
		}
	}
	return nil
}

func sorted(set map[string]bool) []string {
	var all []string
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// archive writes everything: directories first, then the files, each in the order of their paths.
func (b *builder) archive() ([]byte, error) {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "compressing stage one")
	}
	w := segment.NewWriter(z)
	for _, d := range sorted(b.dirs) {
		if err := w.WriteEntry(&segment.Entry{Path: d, Type: segment.Dir, Mode: 0o755}, nil); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(b.files, func(a, c content) int { return segment.ComparePaths(a.entry.Path, c.entry.Path) })
	for _, f := range b.files {
		if err := w.WriteEntry(&f.entry, bytes.NewReader(f.body)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
