package storage

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// flags are the options that are flags of mount(2); those that are not here take a flag away, or are what is so anyway.
var flags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS,
	"dirsync": unix.MS_DIRSYNC, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME, "lazytime": unix.MS_LAZYTIME, "silent": unix.MS_SILENT,
}

// HasRoot tells whether the root is on a device.
func (s *Storage) HasRoot() bool { return s.root != nil }

// Mounts tells whether there are other file systems to mount before the image is unpacked.
func (s *Storage) Mounts() bool { return len(s.toMount(false)) > 0 }

// MountRoot mounts the file system of the root, which is on a device, and tells how much room it has.
func (s *Storage) MountRoot(at string) (free int64, err error) {
	// Its options are those of a root that is complete; until then it is written to.
	if err := s.mountOne(s.root, at, s.root.flags()&^unix.MS_RDONLY); err != nil {
		return 0, within("file system "+s.root.name, err)
	}
	// The root holds the image and nothing else. Checking by hand makes it again.
	if err := unix.Rmdir(filepath.Join(at, "lost+found")); err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Mount mounts the other file systems below the root, before the image is unpacked there: what the image holds for their
// places comes to lie on them.
func (s *Storage) Mount(root string) error { return s.mountThose(root, s.toMount(false)) }

// Finish mounts what is to be read only, which nothing of the image goes to, and makes the root so if that is declared.
func (s *Storage) Finish(root string) error {
	if err := s.mountThose(root, s.toMount(true)); err != nil {
		return err
	}
	if s.root != nil && s.root.flags()&unix.MS_RDONLY != 0 {
		if err := unix.Mount("", root, "", unix.MS_REMOUNT|s.root.flags(), s.root.mount.Data); err != nil {
			return fault.Wrap(fault.Unavailable, err, "making the root read-only")
		}
	}
	return nil
}

// toMount lists the file systems that come late, or those that do not: what is to be read only, and what lies below.
func (s *Storage) toMount(late bool) []*filesystem {
	var those []*filesystem
	var above []string
	for _, f := range s.systems {
		if f == s.root || f.mount.Path == "" || f.mount.NoAuto || !f.ready || f.format == disks.Swap {
			continue
		}
		isLate := f.flags()&unix.MS_RDONLY != 0 || slices.ContainsFunc(above, func(dir string) bool { return strings.HasPrefix(f.mount.Path, dir+"/") })
		if isLate {
			above = append(above, f.mount.Path)
		}
		if isLate == late {
			those = append(those, f)
		}
	}
	return those
}

func (s *Storage) mountThose(root string, those []*filesystem) error {
	for _, f := range those {
		if err := s.mountBelow(f, root); err != nil {
			err = within("file system "+f.name, err)
			if !f.mount.NoFail {
				return err
			}
			s.lack(err)
		}
	}
	return nil
}

// mountBelow mounts a file system at its path below the root. The path is the node's: a link on the way is not followed
// out of it.
func (s *Storage) mountBelow(f *filesystem, root string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	rel := strings.TrimPrefix(f.mount.Path, "/")
	if err := r.MkdirAll(rel, 0o755); err != nil {
		return fault.Wrap(fault.Conflict, err, "making %s", f.mount.Path)
	}
	dir, err := r.Open(rel)
	if err != nil {
		return err
	}
	defer dir.Close()
	return s.mountOne(f, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), f.flags())
}

func (f *filesystem) flags() (all uintptr) {
	for _, word := range f.mount.Flags {
		all |= flags[word]
	}
	return all
}

func (s *Storage) mountOne(f *filesystem, at string, flags uintptr) error {
	if format, err := disks.FormatOf(f.format); err == nil && format.Module != "" {
		s.cfg.Load(format.Module)
	}
	if f.format == disks.VFAT { // which code pages the names are in the kernel's configuration says
		s.cfg.Load("nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8")
	}
	err := unix.Mount(f.device.path, at, f.format, flags, f.mount.Data)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return fault.New(fault.NotFound, "the kernel knows no file system %s", f.format).WithFix("install a kernel with the module %s in the image, and import it again", f.format)
	case errors.Is(err, unix.EINVAL) && f.mount.Data != "":
		return fault.Wrap(fault.Invalid, err, "mounting %s with the options %q", f.format, f.mount.Data).WithFix("look at the kernel's messages on the console: one of the options may be none of %s", f.format)
	}
	return fault.Wrap(fault.Unavailable, err, "mounting %s", f.format).WithFix("the file system may be damaged: look at the kernel's messages on the console, and check it by hand, or permit to make it anew: wipe_filesystem")
}

// swaps switches all swap spaces on.
func (s *Storage) swaps() error {
	for _, f := range s.systems {
		if f.format != disks.Swap || !f.ready || f.mount.NoAuto {
			continue
		}
		if err := swapOn(f); err != nil {
			err = within("swap "+f.name, err)
			if !f.mount.NoFail {
				return err
			}
			s.lack(err)
		}
	}
	return nil
}

func swapOn(f *filesystem) error {
	flags := uintptr(0)
	for word := range strings.SplitSeq(f.mount.Data, ",") {
		key, v, _ := strings.Cut(word, "=")
		switch key {
		case "pri":
			if n, err := strconv.ParseUint(v, 10, 15); err == nil {
				flags |= 0x8000 | uintptr(n) // SWAP_FLAG_PREFER
			}
		case "discard":
			flags |= 0x10000 // SWAP_FLAG_DISCARD
		}
	}
	path, err := unix.BytePtrFromString(f.device.path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), flags, 0); errno != 0 && errno != unix.EBUSY {
		return fault.Wrap(fault.Unavailable, errno, "switching it on")
	}
	return nil
}

// sum is a digest of texts, no two lists of which look alike.
func sum(texts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:%s", len(t), t)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
