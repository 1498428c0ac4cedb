package stageone

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// MaxKernel bounds a kernel's file.
const MaxKernel = 256 << 20

// Kernel is a kernel of an image.
type Kernel struct {
	Version string // as uname -r says it, and as its directory of modules is called
	Path    string // of its file in the image
	Arch    string // amd64 or arm64
	Modules string // its directory of modules; "" for a kernel that has all built in
}

// FindKernels returns the kernels of an image, the newest first. It fails with fault.Invalid if there is none.
//
// A kernel lies where distributions put it: /boot/vmlinuz-VERSION (Debian, SUSE, older Red Hat), or beside its
// modules as /lib/modules/VERSION/vmlinuz (Fedora, Red Hat since 8); arm64 may call it Image.
func FindKernels(src segment.Source) ([]Kernel, error) {
	image := segment.FS(src)
	var all []Kernel
	consider := func(version, modules string, paths ...string) error {
		for _, p := range paths {
			e := file(image, p)
			if e == nil || e.Size == 0 || slices.ContainsFunc(all, func(k Kernel) bool { return k.Version == version }) {
				continue
			}
			arch, err := kernelArch(src, e)
			if err != nil {
				return err
			}
			all = append(all, Kernel{Version: version, Path: e.Path, Arch: arch, Modules: modules})
		}
		return nil
	}
	for _, e := range list(image, "lib/modules") {
		if v := path.Base(e.Path); e.Type == segment.Dir {
			err := consider(v, e.Path, "boot/vmlinuz-"+v, "lib/modules/"+v+"/vmlinuz", "boot/Image-"+v, "boot/vmlinux-"+v, "boot/Image.gz-"+v)
			if err != nil {
				return nil, err
			}
		}
	}
	for _, e := range list(image, "boot") {
		for _, prefix := range []string{"vmlinuz-", "Image-"} {
			// Red Hat's rescue kernel is one of the others once more.
			if v, ok := strings.CutPrefix(path.Base(e.Path), prefix); ok && v != "" && !strings.HasPrefix(v, "0-rescue-") {
				if err := consider(v, "", "boot/"+prefix+v); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, "the image has no kernel: there is no /boot/vmlinuz-VERSION and no /lib/modules/VERSION/vmlinuz").
			WithFix("install the distribution's kernel package in it (Debian: linux-image-cloud-amd64, EL: kernel-core)")
	}
	slices.SortFunc(all, func(a, b Kernel) int { return CompareVersions(b.Version, a.Version) })
	return all, nil
}

// file finds the regular file to which a path leads inside the image, or nil.
func file(image fs.FS, p string) *segment.Entry {
	fi, err := fs.Stat(image, p)
	if err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	return fi.Sys().(*segment.Entry)
}

// list returns what is in a directory, as it is there; nothing for none.
func list(image fs.FS, dir string) []*segment.Entry {
	entries, err := fs.ReadDir(image, dir)
	if err != nil {
		return nil
	}
	var all []*segment.Entry
	for _, d := range entries {
		if fi, err := d.Info(); err == nil {
			all = append(all, fi.Sys().(*segment.Entry))
		}
	}
	return all
}

// kernelArch tells for which processors a kernel is, by its header.
func kernelArch(src segment.Source, e *segment.Entry) (string, error) {
	if e.Size > MaxKernel {
		return "", fault.New(fault.Invalid, "the image's /%s has %d bytes: that is no kernel", e.Path, e.Size)
	}
	f, err := src.Open(e.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	plain, _, err := segment.Decompress(f) // an arm64 Image may be compressed as a whole
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "the image's /%s is no kernel that can be read", e.Path)
	}
	defer plain.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(plain, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return "", fault.Wrap(fault.Invalid, err, "the image's /%s is no kernel that can be read", e.Path)
	}
	if a := headerArch(head[:n]); a != "" {
		return a, nil
	}
	return "", fault.New(fault.Invalid, "the image's /%s is no kernel for amd64 or arm64", e.Path)
}

// headerArch knows the boot protocol of x86 (Documentation/arch/x86/boot.rst: "HdrS" at 0x202), the header of an
// arm64 Image (Documentation/arch/arm64/booting.rst: "ARM\x64" at 56), and the machine of a PE file.
func headerArch(b []byte) string {
	at := func(off int, magic string) bool {
		return len(b) >= off+len(magic) && string(b[off:off+len(magic)]) == magic
	}
	switch {
	case at(0x202, "HdrS"):
		return "amd64"
	case at(56, "ARM\x64"):
		return "arm64"
	case at(0, "MZ") && len(b) >= 64:
		pe := int(binary.LittleEndian.Uint32(b[60:]))
		if pe < 0 || pe > len(b)-6 || !bytes.Equal(b[pe:pe+4], []byte("PE\x00\x00")) {
			return ""
		}
		switch binary.LittleEndian.Uint16(b[pe+4:]) {
		case 0x8664:
			return "amd64"
		case 0xaa64:
			return "arm64"
		}
	}
	return ""
}

// CompareVersions orders kernel versions: runs of digits by their number, other runs by their letters, and a
// longer version after one that it begins with.
func CompareVersions(a, b string) int {
	for a != "" && b != "" {
		x, restA := run(a)
		y, restB := run(b)
		a, b = restA, restB
		digits := isDigit(x[0]) && isDigit(y[0])
		c := cmp.Compare(x, y)
		if digits {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			c = cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// run cuts off the longest beginning of digits only, or of none.
func run(s string) (first, rest string) {
	n := 1
	for n < len(s) && isDigit(s[n]) == isDigit(s[0]) {
		n++
	}
	return s[:n], s[n:]
}
