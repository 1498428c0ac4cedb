package files

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Attributes that are looked after without being declared.
const (
	attrCapability = "security.capability"
	attrLabel      = "security.selinux"
)

// maxAttr is the kernel's XATTR_SIZE_MAX.
const maxAttr = 64 << 10

// attrs reaches the extended attributes of a file, whatever it is, without following it: by its directory, and the name
// there. No system call before Linux 6.13 takes the two.
type attrs struct {
	dir  *os.File
	path string
}

func attrsOf(root *os.Root, at string) (*attrs, error) {
	dir, err := root.Open(path.Dir(at))
	if err != nil {
		return nil, err
	}
	return &attrs{dir, fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), path.Base(at))}, nil
}

func (a *attrs) close() { a.dir.Close() }

func (a *attrs) get(name string) ([]byte, bool) {
	b := make([]byte, 256)
	n, err := unix.Lgetxattr(a.path, name, b)
	if errors.Is(err, unix.ERANGE) {
		b = make([]byte, maxAttr)
		n, err = unix.Lgetxattr(a.path, name, b)
	}
	if err != nil {
		return nil, false
	}
	return b[:n], true
}

func (a *attrs) set(name string, value []byte) error {
	if err := unix.Lsetxattr(a.path, name, value, 0); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "the extended attribute %s cannot be set here", name)
	}
	return nil
}

// names lists the attributes that there are.
func (a *attrs) names() []string {
	b := make([]byte, maxAttr)
	n, err := unix.Llistxattr(a.path, b)
	if err != nil {
		return nil
	}
	var all []string
	for len(b[:n]) > 0 {
		name := unix.ByteSliceToString(b[:n])
		all = append(all, name)
		b, n = b[len(name)+1:], n-len(name)-1
	}
	return all
}

// dress gives a file that is not in its place yet its attributes: the declared ones, and if none of them is a label, that
// of the file which it replaces. Without one the policy of the node gives it its own.
func dress(root *os.Root, tmp, at string, f *overlay.Listed) error {
	_, labelled := f.Xattrs[attrLabel]
	var label []byte
	if !labelled {
		if old, err := attrsOf(root, at); err == nil {
			label, _ = old.get(attrLabel)
			old.close()
		}
	}
	if len(f.Xattrs) == 0 && label == nil {
		return nil
	}
	a, err := attrsOf(root, tmp)
	if err != nil {
		return err
	}
	defer a.close()
	if label != nil {
		if err := a.set(attrLabel, label); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		if err := a.set(name, f.Xattrs[name]); err != nil {
			return err
		}
	}
	return nil
}

// copyAttrs copies what extended attributes can be in the other place: that of what is kept may hold fewer.
func copyAttrs(to *os.Root, name string, from *os.Root, source string) error {
	old, err := attrsOf(from, source)
	if err != nil {
		return err
	}
	defer old.close()
	names := old.names()
	if len(names) == 0 {
		return nil
	}
	a, err := attrsOf(to, name)
	if err != nil {
		return err
	}
	defer a.close()
	for _, key := range names {
		if value, ok := old.get(key); ok {
			_ = a.set(key, value)
		}
	}
	return nil
}
