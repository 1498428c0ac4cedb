package stageone

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
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
	t := newTree(src)
	var all []Kernel
	seen := map[string]bool{}
	consider := func(version, modules string, paths ...string) error {
		for _, p := range paths {
			e := t.resolve(p)
			if version == "" || seen[version] || e == nil || e.Type != segment.File || e.Size == 0 {
				continue
			}
			arch, err := t.arch(e)
			if err != nil {
				return err
			}
			seen[version] = true
			all = append(all, Kernel{Version: version, Path: e.Path, Arch: arch, Modules: modules})
		}
		return nil
	}
	for _, e := range t.list("lib/modules") {
		if e.Type != segment.Dir {
			continue
		}
		v := path.Base(e.Path)
		if err := consider(v, e.Path, "boot/vmlinuz-"+v, "lib/modules/"+v+"/vmlinuz", "boot/Image-"+v, "boot/vmlinux-"+v, "boot/Image.gz-"+v); err != nil {
			return nil, err
		}
	}
	for _, e := range t.list("boot") {
		name := path.Base(e.Path)
		for _, prefix := range []string{"vmlinuz-", "Image-"} {
			// Red Hat's rescue kernel is one of the others once more.
			if v, ok := strings.CutPrefix(name, prefix); ok && !strings.HasPrefix(v, "0-rescue-") {
				if err := consider(v, "", e.Path); err != nil {
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

// arch tells for which processors a kernel is, by its header.
func (t *tree) arch(e *segment.Entry) (string, error) {
	if e.Size > MaxKernel {
		return "", fault.New(fault.Invalid, "the image's /%s has %d bytes: that is no kernel", e.Path, e.Size)
	}
	f, err := t.src.Open(e.Path)
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
