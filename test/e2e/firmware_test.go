//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// A real kernel starts the tiny image's init on an emulated machine: what every boot test stands on.
func TestKernelStartsTheTinyImage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	kernel, err := rig.Kernel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	initrd := cpio(t, script(t, ctx, "make-image-busybox"))
	segment, err := newRig(t).Segment("rack")
	if err != nil {
		t.Fatal(err)
	}
	m, err := segment.Machine(rig.MachineConfig{Name: "n1", MAC: "52:54:00:77:00:01", Firmware: rig.Direct,
		Kernel: kernel, Initrd: initrd, Append: "rdinit=/sbin/init"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	up, err := m.Console().Wait(ctx, "up: host busybox")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %.1f s: %s", up.After.Seconds(), up.Text)
	m.PowerOff()
}

// Each kind of firmware asks for an address on the rack's wire, as the machine that it belongs to.
func TestFirmwareAsksForAnAddress(t *testing.T) {
	// The architectures of RFC 4578 §2.1 and the registry that continues it.
	for i, want := range []struct {
		firmware rig.Firmware
		arch     uint16
	}{{rig.BIOS, 0}, {rig.UEFI, 7}, {rig.UEFIHTTP, 16}} {
		t.Run(string(want.firmware), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			r := newRig(t)
			segment, err := r.Segment("rack")
			if err != nil {
				t.Fatal(err)
			}
			listener, err := r.Host("listener")
			if err != nil {
				t.Fatal(err)
			}
			if err := listener.Connect(segment, rig.RackDev, rig.RackNetwork()); err != nil {
				t.Fatal(err)
			}
			conn := listenDHCP(t, ctx, listener)
			mac := net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, byte(i + 1)}
			m, err := segment.Machine(rig.MachineConfig{Name: "n1", MAC: mac.String(), Firmware: want.firmware})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.PowerOn(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			deadline, _ := ctx.Deadline()
			if err := conn.SetReadDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			packet, got := make([]byte, 1500), net.HardwareAddr(nil)
			for got.String() != mac.String() {
				n, _, err := conn.ReadFrom(packet)
				if err != nil {
					t.Fatalf("no DHCP request: %v\n%s", err, m.Console().Tail(20))
				}
				if n >= 240 && packet[0] == 1 { // RFC 2131 §2: op at 0, chaddr at 28, options from 240 on
					got, packet = packet[28:34], packet[:n]
				}
			}
			if arch := option(packet[240:], 93); len(arch) != 2 || binary.BigEndian.Uint16(arch) != want.arch {
				t.Errorf("client architecture %v, want %d", arch, want.arch)
			}
			t.Logf("first DHCP request %.1f s after power-on", time.Since(start).Seconds())
		})
	}
}

// listenDHCP opens the DHCP server's port on a host.
func listenDHCP(t *testing.T, ctx context.Context, host *rig.Host) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	if err := host.Do(func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(ctx, "udp4", ":67")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// option is the value of a DHCP option, or nil (RFC 2132 §2).
func option(options []byte, code byte) []byte {
	for len(options) >= 2 && options[0] != 255 {
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		end := 2 + int(options[1])
		if end > len(options) {
			return nil
		}
		if options[0] == code {
			return options[2:end]
		}
		options = options[end:]
	}
	return nil
}

// cpio turns an image's tar into an initramfs.
func cpio(t *testing.T, tar string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "initrd")
	cmd := exec.Command("sh", "-ec", `mkdir root; tar -C root -xf "$0"; cd root; find . | cpio -o -H newc --quiet >"$1"`, tar, out)
	cmd.Dir = t.TempDir()
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, msg)
	}
	return out
}
