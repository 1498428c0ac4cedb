package rig

import (
	"fmt"
	"os"
	"os/exec"
)

// Firmware is what a machine starts with when it is switched on.
type Firmware string

// The kinds of firmware.
const (
	BIOS      Firmware = "bios"           // SeaBIOS and the PXE option ROM of the network card (iPXE)
	UEFI      Firmware = "uefi"           // OVMF with its own PXE client: DHCP, then TFTP
	UEFIHTTP  Firmware = "uefi-http"      // OVMF with its own HTTP boot client
	UEFI6     Firmware = "uefi-ipv6"      // as UEFI, but by IPv6 alone
	UEFIHTTP6 Firmware = "uefi-http-ipv6" // as UEFIHTTP, likewise
	Direct    Firmware = "direct"         // none: QEMU itself loads Kernel and Initrd
)

// uefi tells whether it is one that keeps variables.
func (f Firmware) uefi() bool {
	return f == UEFI || f == UEFIHTTP || f == UEFI6 || f == UEFIHTTP6
}

// found is the first of the paths that exists, or "". Distributions put the same file into different places.
func found(paths ...string) string {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// emulator is the path of QEMU. Enterprise Linux keeps it out of PATH, under another name.
func emulator() string {
	if path, err := exec.LookPath("qemu-system-x86_64"); err == nil {
		return path
	}
	return found("/usr/libexec/qemu-kvm")
}

// ovmf are the code and the variables template of the UEFI firmware. The two must come from the same build.
func ovmf() (code, vars string) {
	for _, pair := range [][2]string{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},     // Debian, Ubuntu
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},           // their older releases
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"}, // Enterprise Linux, Fedora
	} {
		if found(pair[0]) != "" && found(pair[1]) != "" {
			return pair[0], pair[1]
		}
	}
	return "", ""
}

// Missing names what this computer lacks to hold a rig; nothing missing is nil.
func Missing() []string {
	var missing []string
	need := func(ok bool, what string) {
		if !ok {
			missing = append(missing, what)
		}
	}
	_, err := exec.LookPath("ip")
	need(err == nil, "iproute2 (ip)")
	need(os.Geteuid() == 0, "root")
	need(found("/dev/net/tun") != "", "/dev/net/tun")
	need(emulator() != "", "QEMU (qemu-system-x86_64)")
	code, _ := ovmf()
	need(code != "", "OVMF")
	if missing != nil {
		return missing
	}
	// A container may be root and yet not be allowed to make a namespace.
	probe := fmt.Sprintf("wmprobe%d", os.Getpid())
	if err := ip("netns add " + probe); err != nil {
		return []string{"permission to make network namespaces: " + err.Error()}
	}
	if err := ip("netns del " + probe); err != nil {
		return []string{"permission to remove network namespaces: " + err.Error()}
	}
	return nil
}
