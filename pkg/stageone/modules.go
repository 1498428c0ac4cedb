package stageone

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/modules"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// fileBuiltin lists the modules that are part of the kernel itself.
const fileBuiltin = "modules.builtin"

// modules adds the modules chosen, what depmod says of them, and their firmware.
func (b *builder) modules(k Kernel, extra []string) error {
	dir, err := fs.Sub(b.image, k.Modules)
	if err != nil {
		return err
	}
	s := &shelf{dir: dir, bodies: make(map[string][]byte)}
	x, err := modules.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		x, err = b.scan(s, k, extra)
	}
	if err != nil || x == nil {
		return err
	}
	keep := b.choose(dir, x, extra)
	b.missing(dir, x, k, extra)
	files := slices.DeleteFunc(slices.Clone(x.Files()), func(f string) bool { return !keep[f] })
	gone, err := s.read(b.ctx, files)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		b.warn(fmt.Sprintf("modules.dep of kernel %s lists modules that are not in the image: %d, such as %s (run depmod in the image)", k.Version, len(gone), gone[0]))
	}
	home := path.Join(Home, "modules", k.Version)
	wanted := make(map[string]bool)
	for _, f := range files {
		module, ok := s.bodies[f]
		if !ok {
			delete(keep, f)
			continue
		}
		b.add(path.Join(home, plainName(f)), 0o644, module)
		b.result.Modules++
		for _, name := range modules.ReadInfo(module).Firmware {
			wanted[name] = true
		}
	}
	err = x.Write(func(f string) bool { return keep[f] }, plainName, func(name string) io.Writer {
		return writerFunc(func(p []byte) { b.add(path.Join(home, name), 0o644, bytes.Clone(p)) })
	})
	if err != nil {
		return err
	}
	return b.firmware(k, wanted)
}

// writerFunc takes the one write that each of depmod's files is written with.
type writerFunc func(p []byte)

func (w writerFunc) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// missing warns of modules that were asked for and that the kernel has neither as a file nor built in.
func (b *builder) missing(dir fs.FS, x *modules.Index, k Kernel, extra []string) {
	var builtin []byte
	for _, name := range extra {
		if x.ForName(name) != nil {
			continue
		}
		if builtin == nil {
			builtin, _ = readFile(dir, fileBuiltin, 4<<20) // without it there is no telling
		}
		if !slices.ContainsFunc(strings.Fields(string(builtin)), func(f string) bool { return modules.Name(f) == modules.Name(name) }) {
			b.warn("kernel " + k.Version + " has no module " + name + ", which stage one shall have")
		}
	}
}

// scan does depmod's work where nobody ran it: which modules there are their files' names say, and what each needs it
// says itself. Only those that stage one takes are read. There is no index for a directory without modules.
func (b *builder) scan(s *shelf, k Kernel, extra []string) (*modules.Index, error) {
	files, err := moduleFiles(s.dir)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		b.warn("kernel " + k.Version + " has no modules: stage one gets no drivers")
		return nil, nil
	}
	b.warn("kernel " + k.Version + " has no modules.dep: stage one has its drivers, but a node will load no others (run depmod in the image)")
	paths := make(map[string]string, len(files)) // by name, of those not taken yet
	var next []string
	for _, f := range files {
		n := modules.Name(f)
		if _, again := paths[n]; again {
			continue
		}
		paths[n] = f
		if b.wants(s.dir, f, extra) {
			next = append(next, f)
			paths[n] = ""
		}
	}
	var all []modules.File
	for len(next) > 0 {
		if _, err := s.read(b.ctx, next); err != nil {
			return nil, err
		}
		var more []string
		for _, f := range next {
			if s.bodies[f] == nil {
				continue // a link that leads nowhere
			}
			info := modules.ReadInfo(s.bodies[f])
			all = append(all, modules.File{Path: f, Info: info})
			for _, need := range slices.Concat(info.Depends, info.Before) {
				if p := paths[modules.Name(need)]; p != "" {
					more = append(more, p)
					paths[modules.Name(need)] = ""
				}
			}
		}
		next = more
	}
	return modules.Make(all), nil
}

// moduleFiles lists the files of modules, those first that depmod prefers of several with one name: what a site
// installed itself before what came with the kernel.
func moduleFiles(dir fs.FS) ([]string, error) {
	var all []string
	err := fs.WalkDir(dir, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && modules.IsFile(p) {
			all = append(all, p)
		}
		return err
	})
	first := func(p string) int {
		top, _, _ := strings.Cut(p, "/")
		return (slices.Index([]string{"updates", "extra", "kernel", "weak-updates"}, top) + 5) % 5 // others come last
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a, b)) })
	return all, err
}

// shelf holds the modules that were read.
type shelf struct {
	dir fs.FS

	mu     sync.Mutex
	bodies map[string][]byte // by file
	size   int
}

// read reads those of the files that are not there yet, several at once, as undoing xz takes the time, and in the order
// of their paths, as files of one segment lie beside each other. It returns those that are not in the image.
func (s *shelf) read(ctx context.Context, files []string) (gone []string, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range slices.SortedFunc(slices.Values(files), segment.ComparePaths) {
		s.mu.Lock()
		_, have := s.bodies[f]
		s.mu.Unlock()
		if have {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			module, err := readModule(s.dir, f)
			s.mu.Lock()
			defer s.mu.Unlock()
			if errors.Is(err, fs.ErrNotExist) {
				gone = append(gone, f)
				return nil
			}
			if err != nil {
				return err
			}
			if s.size += len(module); s.size > maxModules {
				return fault.New(fault.Invalid, "the modules of the kernel have more than %d bytes", maxModules)
			}
			s.bodies[f] = module
			return nil
		})
	}
	err = g.Wait()
	slices.Sort(gone)
	return gone, err
}

// readModule reads a module and undoes its compression: the archive is compressed as a whole, and better so.
func readModule(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, _, err := segment.Decompress(f)
	if err != nil {
		return nil, unreadable(err, "module %s cannot be decompressed", name)
	}
	defer plain.Close()
	b, err := readAll(plain, "module "+name, maxModule)
	if err == nil && !at(b, 0, elf.ELFMAG) {
		return nil, fault.New(fault.Invalid, "module %s is no module", name).WithFix("install the kernel's package in the image anew")
	}
	return b, err
}

// plainName is the name of a module's file without the suffix of its compression: stage one has no use for it.
func plainName(file string) string {
	if ext := path.Ext(file); ext != ".ko" && modules.IsFile(file) {
		return strings.TrimSuffix(file, ext)
	}
	return file
}
