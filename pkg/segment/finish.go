package segment

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxExtras bounds the extras of an image after decompression.
const maxExtras = 1 << 30

// Finish restores what had to wait until all segments were unpacked: the extended attributes in the extras chunk,
// whose digest was verified and which is nil for an image without one, and modes and times of directories.
//
// Attributes that the file system cannot hold are lost without an error, with one exception: a program without its
// capabilities does not work, and nobody would know why.
func (u *Unpacker) Finish(extras io.Reader) error {
	d := &dirs{root: int(u.root.Fd())}
	defer d.close()
	if extras != nil {
		for x, err := range readExtras(extras, maxExtras) {
			if err != nil {
				return err
			}
			// What an image keeps from nodes is in the extras, but not here.
			if err := u.attach(d, &x); err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
	}
	u.mu.Lock()
	later := u.later
	u.later = nil
	u.mu.Unlock()
	for i := range slices.Backward(later) { // what is below first: a directory may shut us out
		if err := u.shut(d, &later[i]); err != nil {
			return err
		}
	}
	return nil
}

// shut gives a directory its final mode and time.
func (u *Unpacker) shut(d *dirs, a *dirAttr) error {
	at, name := d.root, "."
	if a.path != "." {
		var err error
		if at, name, err = d.parent(a.path); err != nil {
			return err
		}
	}
	if a.mode&0o700 != 0o700 {
		if err := unix.Fchmodat(at, name, a.mode, 0); err != nil {
			return fault.Wrap(kindOf(err), err, "setting the mode of %q", a.path)
		}
	}
	t := unix.Timespec{Sec: a.mtime}
	if err := unix.UtimesNanoAt(at, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fault.Wrap(kindOf(err), err, "setting the time of %q", a.path)
	}
	return nil
}

// attach sets the extended attributes of one file or directory.
func (u *Unpacker) attach(d *dirs, x *extra) error {
	at, name, err := d.parent(x.Path)
	if err != nil {
		return err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fault.Wrap(kindOf(err), err, "opening %q", x.Path)
	}
	defer unix.Close(fd)
	for _, key := range slices.Sorted(maps.Keys(x.Xattrs)) {
		if !u.o.Owners && !strings.HasPrefix(key, "user.") {
			continue
		}
		err := unix.Fsetxattr(fd, key, x.Xattrs[key], 0)
		if errors.Is(err, unix.ENOTSUP) && key != "security.capability" {
			if u.o.Lost != nil {
				u.o.Lost(x.Path, key)
			}
			continue
		}
		if err != nil {
			return fault.Wrap(kindOf(err), err, "setting attribute %q of %q", key, x.Path)
		}
	}
	return nil
}
