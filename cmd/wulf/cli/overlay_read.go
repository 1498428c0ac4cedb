package cli

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// overlayRoot is where the files of an overlay's directory are: in rootfs, as Warewulf has them, or in itself.
func overlayRoot(dir string) string {
	if info, err := os.Stat(filepath.Join(dir, "rootfs")); err == nil && info.IsDir() {
		return filepath.Join(dir, "rootfs")
	}
	return dir
}

// readFiles makes files of an overlay of a directory's, below a path.
func readFiles(dir, below string, keepOwner bool) ([]overlay.File, error) {
	tree, err := segment.OpenDir(dir, segment.Limits{Entries: overlay.MaxFiles, Bytes: overlay.MaxBundle})
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	var files []overlay.File
	for _, e := range tree.Entries() {
		f := overlay.File{Path: path.Join(below, e.Path), Mode: e.Mode}
		if keepOwner {
			f.UID, f.GID = int(e.UID), int(e.GID)
		}
		switch e.Type {
		case segment.Dir:
			f.Type = overlay.TypeDir
		case segment.Symlink:
			f.Type, f.Target, f.Mode = overlay.TypeLink, e.Link, 0
		case segment.File:
			f.Type = overlay.TypeFile
			f.Path, f.Template = strings.CutSuffix(f.Path, overlay.TemplateSuffix)
			if f.Content, err = readAll(tree, e); err != nil {
				return nil, err
			}
		default:
			return nil, fault.New(fault.Invalid, "%s is a %s, which overlays cannot hold", filepath.Join(dir, e.Path), e.Type)
		}
		files = append(files, f)
	}
	return files, nil
}

// readBundle makes the content of an overlay of a directory.
func readBundle(dir string, keepOwner bool) (*overlay.Bundle, error) {
	files, err := readFiles(overlayRoot(dir), "", keepOwner)
	if err != nil {
		return nil, err
	}
	return overlay.NewBundle(files)
}

func readAll(tree segment.Source, e segment.Entry) ([]byte, error) {
	f, err := tree.Open(e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, overlay.MaxBundle))
}

// readFile makes a file of an overlay of one that is here: a directory of which only that one is read.
func readFile(name, to string, keepOwner bool) (overlay.File, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return overlay.File{}, fault.Wrap(fault.NotFound, err, "reading what is to be imported")
	}
	f := overlay.File{Type: overlay.TypeFile}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Mode = st.Mode & 0o7777
		if keepOwner {
			f.UID, f.GID = int(st.Uid), int(st.Gid)
		}
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		f.Type, f.Mode, f.Path = overlay.TypeLink, 0, to
		f.Target, err = os.Readlink(name)
		return f, err
	case !info.Mode().IsRegular():
		return f, fault.New(fault.Invalid, "%s is neither a file nor a link nor a directory", name)
	case info.Size() > overlay.MaxBundle:
		return f, fault.New(fault.Invalid, "%s has %d bytes, more than the %d that an overlay holds", name, info.Size(), overlay.MaxBundle).WithFix("put large files into an image")
	}
	f.Path, f.Template = strings.CutSuffix(to, overlay.TemplateSuffix)
	f.Content, err = os.ReadFile(name)
	return f, err
}
