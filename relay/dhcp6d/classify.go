package dhcp6d

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// Vendor classes that ask for a boot program.
const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"
)

// classify tells what kind of firmware sent a message. Unlike in DHCPv4, iPXE says nothing of what it can; the one in a
// card's ROM is taken for one that can fetch by HTTP, as all that speak IPv6 do.
func classify(m *dhcpv6.Message) boot.Firmware {
	if slices.ContainsFunc(m.Options.UserClasses(), func(c []byte) bool { return string(c) == "iPXE" }) {
		return boot.FirmwareIPXE
	}
	class := classOf(m)
	arch, told := architecture(m, class)
	switch {
	case class != nil && bytes.HasPrefix(class.Data[0], []byte(classHTTP)):
		return firmwareOf(arch, true)
	case class != nil, told:
		return firmwareOf(arch, false)
	}
	return boot.FirmwareNone
}

// classOf is the vendor class by which firmware asks; nil if there is none of that kind.
func classOf(m *dhcpv6.Message) *dhcpv6.OptVendorClass {
	for _, c := range m.Options.VendorClasses() {
		if len(c.Data) > 0 && (bytes.HasPrefix(c.Data[0], []byte(classPXE)) || bytes.HasPrefix(c.Data[0], []byte(classHTTP))) {
			return c
		}
	}
	return nil
}

// architecture is the first of option 61 (RFC 5970 §3.3), or else the number in the vendor class.
func architecture(m *dhcpv6.Message, class *dhcpv6.OptVendorClass) (arch int, told bool) {
	if archs := m.Options.ArchTypes(); len(archs) > 0 {
		return int(archs[0]), true
	}
	if class == nil {
		return 0, false
	}
	if _, after, ok := bytes.Cut(class.Data[0], []byte(":Arch:")); ok && len(after) >= 5 {
		if n, err := strconv.Atoi(string(after[:5])); err == nil && n >= 0 {
			return n, true
		}
	}
	return 0, false
}

// firmwareOf goes by IANA's numbers. The BIOS has no IPv6. Some firmware sends its PXE number along with the HTTP class.
func firmwareOf(arch int, http bool) boot.Firmware {
	switch arch {
	case 7, 9:
		if http {
			return boot.FirmwareHTTP64
		}
		return boot.FirmwareEFI64
	case 11:
		if http {
			return boot.FirmwareHTTPArm64
		}
		return boot.FirmwareEFIArm64
	case 16:
		return boot.FirmwareHTTP64
	case 19:
		return boot.FirmwareHTTPArm64
	}
	return boot.FirmwareOther
}
