package dhcpd

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// Vendor classes (option 60) that ask for a boot program.
const (
	classPXE  = "PXEClient"  // PXE 2.1 §2.2.1: PXEClient:Arch:00000:UNDI:002001
	classHTTP = "HTTPClient" // UEFI §24.7.3.1: HTTPClient:Arch:00016:UNDI:003001
)

// classify tells what kind of firmware sent the packet.
func classify(o *options) boot.Firmware {
	class := o.get(optClass)
	arch, told := architecture(o.get(optArchitecture), class)
	if isIPXE(o) {
		// A card's ROM may be an iPXE that cannot fetch over HTTP; ours can, so such a machine gets ours first. An
		// iPXE that says nothing of what it can is taken at its name.
		if http, any := features(o.get(optEtherboot)); http || !any || !told {
			return boot.FirmwareIPXE
		}
	}
	switch {
	case bytes.HasPrefix(class, []byte(classHTTP)):
		return httpFirmware(arch)
	case bytes.HasPrefix(class, []byte(classPXE)), told:
		return pxeFirmware(arch)
	}
	return boot.FirmwareNone
}

// featureHTTP is the sub-option of iPXE's option 175 that says: HTTP is built in.
const featureHTTP = 0x13

// isIPXE: iPXE names itself in the user class, bare, as it has always done, or in a list as RFC 3004 has it. Some builds
// have only their option 175.
func isIPXE(o *options) bool {
	user := o.get(optUserClass)
	if string(user) == "iPXE" {
		return true
	}
	for b := user; len(b) >= 1 && len(b) >= 1+int(b[0]); b = b[1+int(b[0]):] {
		if string(b[1:1+int(b[0])]) == "iPXE" {
			return true
		}
	}
	return len(user) == 0 && len(o.get(optEtherboot)) > 0
}

// features reads iPXE's option up to the first part that is cut short: whether it has HTTP, and whether it says anything.
func features(b []byte) (http, any bool) {
	for len(b) >= 2 && b[0] != optEnd {
		if b[0] == optPad {
			b = b[1:]
			continue
		}
		if len(b) < 2+int(b[1]) {
			break
		}
		http, any = http || b[0] == featureHTTP, true
		b = b[2+int(b[1]):]
	}
	return http, any
}

// architecture is the first in option 93, or else the number in the vendor class: there are ROMs that leave the option
// out.
func architecture(option, class []byte) (arch int, told bool) {
	if len(option) >= 2 {
		return int(binary.BigEndian.Uint16(option)), true
	}
	if _, after, ok := bytes.Cut(class, []byte(":Arch:")); ok && len(after) >= 5 {
		if n, err := strconv.Atoi(string(after[:5])); err == nil && n >= 0 {
			return n, true
		}
	}
	return 0, false
}

// pxeFirmware: the numbers of RFC 4578 §2.1 as IANA's registry continues them. The RFC has 7 for EFI BC and 9 for
// x86-64, the registry the other way round, and firmware both.
func pxeFirmware(arch int) boot.Firmware {
	switch arch {
	case 0:
		return boot.FirmwareBIOS
	case 7, 9:
		return boot.FirmwareEFI64
	case 11:
		return boot.FirmwareEFIArm64
	}
	return boot.FirmwareOther
}

// httpFirmware: the same for UEFI HTTP boot; some firmware sends its PXE number along with the HTTP class.
func httpFirmware(arch int) boot.Firmware {
	switch arch {
	case 16, 7, 9:
		return boot.FirmwareHTTP64
	case 19, 11:
		return boot.FirmwareHTTPArm64
	}
	return boot.FirmwareOther
}
