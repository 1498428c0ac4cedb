package files

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// maxLinks bounds the links on the way to a file, as the kernel does.
const maxLinks = 40

// resolve is where a path is: no component of it is a link any more, but for the last one where that is not followed. The
// root is the / of absolute links, as it is the node's.
func resolve(root *os.Root, name string, follow bool) (string, error) {
	todo, done := strings.Split(name, "/"), "."
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done) // of the root it is the root
			continue
		}
		next := path.Join(done, part)
		target, err := "", error(nil)
		if len(todo) > 0 || follow {
			target, err = root.Readlink(next)
		}
		if err != nil || target == "" { // no link; what is wrong with it shows when it is used
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fault.New(fault.Invalid, "there are more than %d links on the way to it", maxLinks)
		}
		if path.IsAbs(target) {
			done = "."
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// right tells whether a path is as listed already. It notes that in the record.
func (x *applying) right(f *overlay.Listed) (bool, error) {
	root := x.tree.Root
	at, err := resolve(root, f.Path, f.Type == overlay.TypeDir)
	if err != nil {
		return false, err
	}
	i, err := root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	had := x.before[f.Path]
	if !x.sameKind(f, i) || !x.sameOwner(f, i) || f.Type != overlay.TypeLink && modeOf(i) != f.Mode {
		return false, nil
	}
	if had.Stamp == "" || had.Stamp != stamp(i) || had.mark() != markOf(f) {
		if mark, err := markAt(root, at, i); err != nil || mark != markOf(f) {
			return false, err
		}
	}
	same, err := x.sameAttrs(f, at, had)
	if err != nil || !same || f.Type == overlay.TypeDir {
		return same, err // of a directory it matters who made it, and that is in the record already
	}
	return true, x.written(f, at)
}

func (x *applying) sameKind(f *overlay.Listed, i fs.FileInfo) bool {
	switch f.Type {
	case overlay.TypeDir:
		return i.IsDir()
	case overlay.TypeLink:
		return i.Mode()&fs.ModeSymlink != 0
	}
	return i.Mode().IsRegular() && i.Size() == f.Size
}

// sameOwner is always true for who could not change it.
func (x *applying) sameOwner(f *overlay.Listed, i fs.FileInfo) bool {
	s, ok := i.Sys().(*syscall.Stat_t)
	return !ok || os.Geteuid() != 0 || int(s.Uid) == f.UID && int(s.Gid) == f.GID
}

// sameAttrs tells whether a file has the extended attributes that it should, and none that an overlay gave it before, nor
// capabilities that nobody declares.
func (x *applying) sameAttrs(f *overlay.Listed, at string, had Written) (bool, error) {
	unwanted := slices.DeleteFunc(append([]string{attrCapability}, had.Attrs...), func(name string) bool { _, ok := f.Xattrs[name]; return ok })
	if len(f.Xattrs) == 0 && f.Type != overlay.TypeFile && len(had.Attrs) == 0 {
		return true, nil
	}
	a, err := attrsOf(x.tree.Root, at)
	if err != nil {
		return false, err
	}
	defer a.close()
	for name, value := range f.Xattrs {
		if now, ok := a.get(name); !ok || !bytes.Equal(now, value) {
			return false, nil
		}
	}
	return !slices.ContainsFunc(unwanted, func(name string) bool { _, ok := a.get(name); return ok }), nil
}

// modeOf is a mode as chmod(2) takes it.
func modeOf(i fs.FileInfo) uint32 {
	m := uint32(i.Mode().Perm())
	for _, b := range specialBits {
		if i.Mode()&b.mode != 0 {
			m |= b.bit
		}
	}
	return m
}

// fileMode is a mode as package os takes it.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode).Perm()
	for _, b := range specialBits {
		if mode&b.bit != 0 {
			m |= b.mode
		}
	}
	return m
}

var specialBits = []struct {
	bit  uint32
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}
