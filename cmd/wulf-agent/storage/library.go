package storage

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Bounds of what a program needs: mkfs.btrfs has some ten libraries of 5 MB together.
const (
	maxFile  = 64 << 20
	maxFiles = 64
	maxBytes = 128 << 20
)

// binDirs and libDirs are where programs and libraries are, by the conventions of the distributions. A loader is given its
// cache besides, which knows of others.
var (
	binDirs = []string{"usr/sbin", "sbin", "usr/bin", "bin", "usr/local/sbin", "usr/local/bin"}
	libDirs = []string{"lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib"}
)

// program is a program of an image with what it needs to run, by paths.
type program struct {
	path  string // absolute
	files map[string][]byte
}

// gather reads a program of an image and all that it needs to run: its loader, its libraries and theirs. Links are followed
// inside of the image, and each file comes to the path by which it is asked for. It is fault.NotFound if there is no such
// program.
func gather(image fs.FS, name string, extra ...string) (*program, error) {
	p := &program{files: map[string][]byte{}}
	for _, dir := range binDirs {
		if at := path.Join(dir, name); isFile(image, at) {
			p.path = "/" + at
			break
		}
	}
	if p.path == "" {
		return nil, fault.New(fault.NotFound, "the image has no program %s", name)
	}
	g := &gathering{image: image, p: p}
	if err := g.take(p.path[1:]); err != nil {
		return nil, err
	}
	for len(g.next) > 0 {
		from := g.next[0]
		g.next = g.next[1:]
		if err := g.needs(from); err != nil {
			return nil, err
		}
	}
	for _, at := range append(extra, "etc/ld.so.cache") {
		if isFile(image, at) {
			if err := g.take(at); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func isFile(image fs.FS, at string) bool {
	i, err := fs.Stat(image, at)
	return err == nil && i.Mode().IsRegular()
}

type gathering struct {
	image fs.FS
	p     *program
	bytes int
	next  []string // files whose needs are not looked at yet
	dirs  []string // where libraries of what was found so far are said to be
}

// take reads a file, once.
func (g *gathering) take(at string) error {
	if _, ok := g.p.files[at]; ok {
		return nil
	}
	if len(g.p.files) >= maxFiles {
		return fault.New(fault.Invalid, "the program %s needs more than %d files", g.p.path, maxFiles)
	}
	f, err := g.image.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if g.bytes += len(b); len(b) > maxFile || g.bytes > maxBytes {
		return fault.New(fault.Invalid, "the program %s and what it needs have more than %d bytes", g.p.path, maxBytes)
	}
	g.p.files[at] = b
	g.next = append(g.next, at)
	return nil
}

// needs takes what a program or a library says that it needs.
func (g *gathering) needs(at string) error {
	b := g.p.files[at]
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		if at == g.p.path[1:] {
			return fault.New(fault.Invalid, "the program %s of the image is not one that can be run alone", g.p.path)
		}
		return nil
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "reading %s of the image", at)
	}
	for _, s := range f.Progs {
		if s.Type != elf.PT_INTERP || s.Filesz > 4096 {
			continue
		}
		raw, err := io.ReadAll(io.LimitReader(s.Open(), 4096))
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "reading %s of the image", at)
		}
		loader := strings.TrimPrefix(path.Clean("/"+strings.TrimRight(string(raw), "\x00")), "/")
		if err := g.take(loader); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "the loader of %s", at)
		}
	}
	libraries, err := f.ImportedLibraries()
	if errors.Is(err, elf.ErrNoSymbols) || err == nil && len(libraries) == 0 {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "reading %s of the image", at)
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		said, _ := f.DynString(tag)
		for _, list := range said {
			for dir := range strings.SplitSeq(list, ":") {
				dir = strings.NewReplacer("$ORIGIN", "/"+path.Dir(at), "${ORIGIN}", "/"+path.Dir(at)).Replace(dir)
				if strings.HasPrefix(dir, "/") {
					g.dirs = append(g.dirs, strings.TrimPrefix(path.Clean(dir), "/"))
				}
			}
		}
	}
	for _, name := range libraries {
		if err := g.library(name, f.Machine); err != nil {
			return err
		}
	}
	return nil
}

// library finds a library by its name.
func (g *gathering) library(name string, machine elf.Machine) error {
	name = path.Base(name)
	for at := range g.p.files {
		if path.Base(at) == name {
			return nil
		}
	}
	dirs := slices.Clone(g.dirs)
	for _, dir := range libDirs {
		switch machine {
		case elf.EM_X86_64:
			dirs = append(dirs, dir+"/x86_64-linux-gnu")
		case elf.EM_AARCH64:
			dirs = append(dirs, dir+"/aarch64-linux-gnu")
		}
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		at := path.Join(dir, name)
		if !isFile(g.image, at) {
			continue
		}
		return g.take(at)
	}
	return fault.New(fault.NotFound, "the library %s, which %s needs, is not in the image", name, g.p.path)
}
