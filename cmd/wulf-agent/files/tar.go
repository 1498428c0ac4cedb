package files

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ApplyTar writes the files of a tar below root and returns their paths, those of directories not among them. Nothing
// outside of the root can be reached, whatever the names and links in it say. Each file is replaced at once: a
// reader sees the old one or the new one. A file that is as it should be already is not touched.
func ApplyTar(root *os.Root, archive io.Reader) ([]string, error) {
	var paths []string
	for t := tar.NewReader(archive); ; {
		h, err := t.Next()
		if err == io.EOF {
			return paths, nil
		}
		if err != nil {
			return paths, fault.Wrap(fault.Corrupt, err, "reading overlays")
		}
		name := strings.TrimSuffix(h.Name, "/")
		if name == "" || name != path.Clean(name) || path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
			return paths, fault.New(fault.Corrupt, "overlays hold the path %.200q", h.Name)
		}
		if err := put(root, name, h, t); err != nil {
			return paths, fmt.Errorf("overlay file %s: %w", name, err)
		}
		if h.Typeflag != tar.TypeDir {
			paths = append(paths, name)
		}
	}
}

func put(root *os.Root, name string, h *tar.Header, body io.Reader) error {
	mode := fs.FileMode(h.Mode).Perm()
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if h.Mode&bit != 0 {
			mode |= flag
		}
	}
	if h.Typeflag == tar.TypeDir {
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		return ownAs(root, name, h, mode)
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	tmp := path.Join(path.Dir(name), ".wulf-"+path.Base(name))
	root.Remove(tmp) // left by a crash
	switch h.Typeflag {
	case tar.TypeSymlink:
		if t, err := root.Readlink(name); err == nil && t == h.Linkname {
			return nil
		}
		if err := root.Symlink(h.Linkname, tmp); err != nil {
			return err
		}
	case tar.TypeReg:
		content, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if same(root, name, content, mode) {
			return ownAs(root, name, h, mode)
		}
		if err := root.WriteFile(tmp, content, 0o600); err != nil {
			return errors.Join(err, root.Remove(tmp))
		}
		if err := ownAs(root, tmp, h, mode); err != nil {
			return errors.Join(err, root.Remove(tmp))
		}
	default:
		return fault.New(fault.Corrupt, "type %q is not one that overlays hold", h.Typeflag)
	}
	if err := root.Rename(tmp, name); err != nil {
		return errors.Join(err, root.Remove(tmp))
	}
	return nil
}

// same tells whether a regular file holds the content already.
func same(root *os.Root, name string, content []byte, mode fs.FileMode) bool {
	i, err := root.Lstat(name)
	if err != nil || !i.Mode().IsRegular() || i.Size() != int64(len(content)) || i.Mode()&^fs.ModeType != mode {
		return false
	}
	old, err := root.ReadFile(name)
	return err == nil && bytes.Equal(old, content)
}

// own sets owner, then mode: a change of owner clears setuid.
func ownAs(root *os.Root, name string, h *tar.Header, mode fs.FileMode) error {
	if os.Geteuid() == 0 {
		if err := root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	return root.Chmod(name, mode)
}

// Remove removes those of the paths written before that are not written now, and returns them.
func Remove(root *os.Root, before, now []string) ([]string, error) {
	var gone []string
	for _, p := range before {
		if slices.Contains(now, p) {
			continue
		}
		if err := root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return gone, fmt.Errorf("removing %s, which is in no overlay any more: %w", p, err)
		}
		gone = append(gone, p)
	}
	return gone, nil
}
