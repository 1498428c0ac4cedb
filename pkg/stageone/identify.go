package stageone

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// headSize holds an x86 kernel's header and the version to which 16 bits in it point.
const headSize = 0x200 + 1<<16 + 256

// identity is what a kernel's file says of itself.
type identity struct {
	arch    string
	version string // "" if it does not say
}

// identify reads what a kernel's file says of itself. What is no kernel for a processor that is known is
// fault.Invalid.
func identify(src segment.Source, e *segment.Entry) (identity, error) {
	if e.Size > MaxKernel {
		return identity{}, fault.New(fault.Invalid, "the image's /%s has %d bytes: that is no kernel", e.Path, e.Size)
	}
	f, err := src.Open(e.Path)
	if err != nil {
		return identity{}, err
	}
	defer f.Close()
	id, err := readIdentity(f)
	if err != nil {
		return id, unreadable(err, "the image's /%s is no kernel that can be read", e.Path)
	}
	if id.arch == "" {
		return id, fault.New(fault.Invalid, "the image's /%s is no kernel for amd64 or arm64", e.Path)
	}
	return id, nil
}

func readIdentity(r io.Reader) (identity, error) {
	plain, _, err := segment.Decompress(r) // an arm64 Image may be compressed as a whole
	if err != nil {
		return identity{}, err
	}
	defer plain.Close()
	in := io.LimitReader(plain, MaxKernel)
	head, err := io.ReadAll(io.LimitReader(in, headSize))
	if err != nil {
		return identity{}, err
	}
	id := identity{arch: headerArch(head)}
	rest := io.MultiReader(bytes.NewReader(head), in)
	switch {
	case id.arch == "amd64":
		id.version = x86Version(head)
	case id.arch == "arm64" && at(head, 4, "zimg"):
		id.version = zbootVersion(head, rest)
	case id.arch == "arm64":
		id.version, err = bannerVersion(rest)
	}
	return id, err
}

// at tells whether a kernel has a magic number somewhere.
func at(b []byte, off int, magic string) bool {
	return len(b) >= off+len(magic) && string(b[off:off+len(magic)]) == magic
}

// headerArch knows the boot protocol of x86 (Documentation/arch/x86/boot.rst: "HdrS" at 0x202), the header of an
// arm64 Image (Documentation/arch/arm64/booting.rst: "ARM\x64" at 56), and the machine of a PE file.
func headerArch(b []byte) string {
	switch {
	case at(b, 0x202, "HdrS"):
		return "amd64"
	case at(b, 56, "ARM\x64"):
		return "arm64"
	case at(b, 0, "MZ") && len(b) >= 64:
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

// x86Version follows the pointer at 0x20e of the boot protocol, which counts from 0x200, to what the kernel says of
// itself: the version, then who built it.
func x86Version(head []byte) string {
	if len(head) < 0x210 {
		return ""
	}
	off := int(binary.LittleEndian.Uint16(head[0x20e:]))
	if off == 0 || off+0x200 > len(head) {
		return ""
	}
	text, _, ok := bytes.Cut(head[off+0x200:], []byte{0})
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(string(text), " ")
	return checked(v)
}

// zbootVersion looks into an EFI program that carries a compressed Image (drivers/firmware/efi/libstub/zboot-header.S:
// where it begins is at 8, its size at 12). It is "" for a compression that is not read here.
func zbootVersion(head []byte, r io.Reader) string {
	off, size := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	if _, err := io.CopyN(io.Discard, r, int64(off)); err != nil {
		return ""
	}
	plain, _, err := segment.Decompress(io.LimitReader(r, int64(size)))
	if err != nil {
		return ""
	}
	defer plain.Close()
	v, err := bannerVersion(io.LimitReader(plain, MaxKernel))
	if err != nil {
		return ""
	}
	return v
}

// banner begins the line that a kernel greets with: "Linux version 6.6.30 (builder@host) …".
const banner = "Linux version "

// bannerVersion looks for the line that a kernel greets with. It is "" if there is none.
func bannerVersion(r io.Reader) (string, error) {
	const keep = len(banner) + 65 + 1 // a version, and the space behind it
	buf := make([]byte, 0, 256<<10)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for rest := buf; ; {
			i := bytes.Index(rest, []byte(banner))
			if i < 0 {
				break
			}
			rest = rest[i+len(banner):]
			if v, _, ok := bytes.Cut(rest[:min(len(rest), keep-len(banner))], []byte(" ")); ok && checked(string(v)) != "" {
				return string(v), nil
			}
		}
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		buf = buf[:copy(buf, buf[max(0, len(buf)-keep):])]
	}
}

// checked is a version that a kernel may say it is, or "".
func checked(v string) string {
	if v == "" || !isDigit(v[0]) || !version.MatchString(v) {
		return ""
	}
	return v
}
