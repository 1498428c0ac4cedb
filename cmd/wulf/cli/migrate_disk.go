package cli

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// serverDisk is what the templates of a Warewulf server include: its own files, or those of a copy of it, and the files of
// its images. It looks at each file once.
type serverDisk struct {
	root    string            // the directory that stands for the server's /
	sysconf string            // where what templates call by a relative name lies, from the root
	images  map[string]string // name to directory

	mu   sync.Mutex
	seen map[string]seenFile
}

type seenFile struct {
	file overlay.SiteFile
	is   bool
	text []byte
}

func newServerDisk(root, sysconf string, images map[string]string) *serverDisk {
	return &serverDisk{root: root, sysconf: sysconf, images: images, seen: map[string]seenFile{}}
}

// SiteFile tells what there is under a path. A link on the way there is told as one of the path itself.
func (d *serverDisk) SiteFile(name string) (overlay.SiteFile, bool) {
	f := d.look(name)
	return f.file, f.is
}

// ReadSiteFile gives the content of a file that was looked at.
func (d *serverDisk) ReadSiteFile(_ context.Context, file overlay.SiteFile) ([]byte, error) {
	f := d.look(file.Path)
	if f.file.Content.Size > overlay.MaxOutput {
		return nil, fault.New(fault.Invalid, "%s is larger than %d bytes", filepath.Join(d.root, file.Path), overlay.MaxOutput)
	}
	return f.text, nil
}

func (d *serverDisk) look(name string) seenFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.seen[name]
	if !ok {
		f = d.lookAt(name)
		d.seen[name] = f
	}
	return f
}

func (d *serverDisk) lookAt(name string) seenFile {
	at := name
	if rest, ok := strings.CutPrefix(name, catalog.SiteDirectory+"/"); ok {
		at = path.Join(d.sysconf, rest)
	}
	target, info := step(d.root, at)
	if info == nil && target == "" {
		return seenFile{}
	}
	f := seenFile{file: overlay.SiteFile{Path: name, Target: target}, is: true}
	if target != "" || !info.Mode().IsRegular() {
		return f // there is nothing to read in a directory or a device, which Warewulf takes for empty
	}
	b, err := readUpTo(filepath.Join(d.root, at), overlay.MaxOutput+1)
	if err != nil {
		return seenFile{} // one that cannot be read is one that is not there, in Warewulf's eyes
	}
	f.text, f.file.Content = b, chunk.RefOf(b)
	return f
}

// step goes from a path below root towards what it names: up to the first link, of which it gives where the whole path
// goes on. Without any it gives what is there; nothing, if nothing is.
func step(root, name string) (target string, info fs.FileInfo) {
	parts := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	at := "/"
	for i, part := range parts {
		here := path.Join(at, part)
		is, err := os.Lstat(filepath.Join(root, here))
		if err != nil {
			return "", nil
		}
		if is.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(filepath.Join(root, here))
			if err != nil {
				return "", nil
			}
			if !path.IsAbs(to) {
				to = path.Join(at, to)
			}
			return path.Join(append([]string{"/", to}, parts[i+1:]...)...), nil
		}
		at, info = here, is
	}
	return "", info
}

// inside finds the regular file that a path names below root, whatever links lead to, as long as that is below root.
func inside(root, name string) (string, bool) {
	for range maxServerLinks {
		target, info := step(root, name)
		if target == "" {
			return filepath.Join(root, path.Clean("/"+name)), info != nil && info.Mode().IsRegular()
		}
		name = target
	}
	return "", false
}

// maxServerLinks bounds how many links lead to a file, as the kernel does.
const maxServerLinks = 40

// ImageID names an image: by its directory, for here it does not change.
func (d *serverDisk) ImageID(image string) (chunk.ID, bool) {
	dir, ok := d.images[image]
	return chunk.Of([]byte(dir)), ok
}

// ReadImageFile reads a file of an image.
func (d *serverDisk) ReadImageFile(_ context.Context, image, name string) ([]byte, error) {
	at, ok := inside(d.images[image], name)
	if d.images[image] == "" || !ok {
		return nil, fault.New(fault.NotFound, "there is no file %s in image %s", name, image)
	}
	b, err := readUpTo(at, overlay.MaxOutput+1)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "reading a file of image %s", image)
	}
	return b, nil
}

func readUpTo(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}
