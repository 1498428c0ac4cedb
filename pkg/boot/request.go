// Package boot answers the one question of a provisioner: what does this machine boot now?
//
// Resolve is a pure function of a catalog and a Request; DHCP, TFTP and HTTP are three mouths for its Plan.
// Nothing here opens a socket or reads a clock.
package boot

import (
	"net/netip"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Request is a machine's question, as far as it has told about itself.
type Request struct {
	Hardware catalog.HardwareAddr
	Firmware Firmware
	Network  catalog.NetworkName // where it asks: by the interface or relay agent; "" if that is not known
	Relay    catalog.RelayName   // the relay that answers
	Live     []catalog.RelayName // relays that are alive and well; the answering one need not be named
	Unwell   bool                // the answering relay steps back: it comes among the dead
}

// Firmware is what asks, as far as it decides which program it can run next.
type Firmware string

// The kinds of firmware, from DHCP option 93 (RFC 4578 §2.1, and the IANA list that grew from it), the vendor
// class, and the user class by which iPXE tells of itself.
const (
	FirmwareNone      Firmware = ""           // an operating system or the agent: it wants an address only
	FirmwareBIOS      Firmware = "bios"       // 0
	FirmwareEFI64     Firmware = "efi-x64"    // 7, and 9 from the firmware that counts otherwise
	FirmwareEFIArm64  Firmware = "efi-arm64"  // 11
	FirmwareHTTP64    Firmware = "http-x64"   // 16: UEFI HTTP boot
	FirmwareHTTPArm64 Firmware = "http-arm64" // 19
	FirmwareIPXE      Firmware = "ipxe"       // a boot loader of ours is running: it wants its script
	FirmwareOther     Firmware = "other"      // an architecture for which there is no program
)

// Relay is a relay as a machine sees it.
type Relay struct {
	Name     catalog.RelayName
	Addr     netip.Addr // where the machine reaches it
	BootPort uint16     // plain HTTP
	MeshPort uint16     // HTTPS

	Addr6 netip.Addr // where its boot loader reaches it, if it asks by IPv6; see Plan.Over6
}

// Boot returns host:port of plain HTTP.
func (r Relay) Boot() string { return netip.AddrPortFrom(r.Addr, r.BootPort).String() }

// Mesh returns host:port of HTTPS.
func (r Relay) Mesh() string { return netip.AddrPortFrom(r.Addr, r.MeshPort).String() }
