package stageone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/image"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Where stage one has its own things. All is below one directory, for the archive is also laid over whole images.
const (
	home    = "/.wulf"
	newRoot = home + "/root"
)

// apiMounts are the file systems that stage one needs and moves to the node's root.
var apiMounts = []struct {
	source, target, kind string
	flags                uintptr
	data                 string
}{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
}

func mountAPI() error {
	for _, m := range apiMounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		// The kernel may have mounted devtmpfs itself (CONFIG_DEVTMPFS_MOUNT).
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// mountRoot mounts what becomes the node's root in memory, if the image fits; check is false if a part of the image goes
// elsewhere, and how much nobody knows.
func mountRoot(kind string, m *chunk.Manifest, check bool) error {
	free, total := image.Free()
	limit := total / 10 * 9
	if kind == catalog.RootRamfs { // it knows no limit
		limit = total
	}
	if err := image.CheckRoom(m, free, total, limit); check && err != nil {
		return err
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	data := "mode=0755"
	if kind != catalog.RootRamfs {
		kind = catalog.RootTmpfs
		data = fmt.Sprintf("mode=0755,size=%d", limit)
	}
	if err := unix.Mount("wulfmesh", newRoot, kind, 0, data); err != nil {
		return fmt.Errorf("mounting the root (%s): %w", kind, err)
	}
	return nil
}

// switchRoot makes the new root the root, frees the initial one, and becomes init. It returns only if it fails.
//
// The initial root is a file system that cannot be unmounted (Documentation/filesystems/ramfs-rootfs-initramfs.rst):
// its files must be deleted to free their memory, and the new root is moved over it.
func switchRoot(init string, args []string) error {
	for _, m := range apiMounts {
		to := filepath.Join(newRoot, m.target)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.target, to, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", m.target, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	emptyInitialRoot()
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return become(init, args)
}

// emptyInitialRoot deletes all files of the initial root, staying on its own file system. What cannot be deleted
// only costs memory.
func emptyInitialRoot() {
	var root unix.Stat_t
	if unix.Lstat("/", &root) != nil {
		return
	}
	var empty func(dir string)
	empty = func(dir string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			var st unix.Stat_t
			if unix.Lstat(path, &st) != nil || st.Dev != root.Dev {
				continue
			}
			if e.IsDir() {
				empty(path)
			}
			os.Remove(path)
		}
	}
	empty("/")
}

// hasInit looks for the node's init in its root, links and all as they will be there.
func (b *booter) hasInit() error {
	root, err := os.OpenRoot(newRoot)
	if err != nil {
		return err
	}
	defer root.Close()
	return findInit(root, b.params.Init)
}

// findInit fails if there is no program at a path of a root. A link out of the root, as an absolute one looks from here, is
// believed.
func findInit(root *os.Root, init string) error {
	at := strings.TrimPrefix(filepath.Clean("/"+init), "/")
	i, err := root.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "the image has no init at %s", init).WithFix("put an init there in the image, or set another: wulf node set NODE --init PATH")
	case err == nil && i.Mode().IsRegular() && i.Mode().Perm()&0o111 == 0:
		return fault.New(fault.Invalid, "the init %s may not be executed", init).WithFix("make it executable in the image: chmod +x %s", init)
	}
	return nil
}

// become replaces this process by the node's init, with the console for its input and output.
func become(init string, args []string) error {
	if c, err := os.OpenFile("/dev/console", os.O_RDWR, 0); err == nil {
		for fd := range 3 {
			unix.Dup2(int(c.Fd()), fd)
		}
		if c.Fd() > 2 {
			c.Close()
		}
	}
	if err := unix.Exec(init, append([]string{init}, args...), []string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}); err != nil {
		return fault.Wrap(fault.NotFound, err, "starting %s", init).WithFix("the image needs an init there; or set another: wulf node set NODE --init PATH")
	}
	return nil
}
