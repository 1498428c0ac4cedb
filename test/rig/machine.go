package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// MachineConfig describes a virtual machine.
type MachineConfig struct {
	Name     string   // also of its tap (at most 12 characters) and its console's file
	MAC      string   // aa:bb:cc:dd:ee:ff
	Firmware Firmware // what it starts with
	Memory   int      // MiB; 0 means 512
	Disks    []Disk   // in this order; /dev/vda and so on, unless their bus has other names
	Port     string   // a file that takes what the machine writes to its second serial port, if it shall have one
	Serial   string   // its serial number (SMBIOS), if it shall have one
	UUID     string   // likewise

	// Of a Direct machine only: files on this computer, and the kernel's command line.
	Kernel, Initrd, Append string
}

// Disk is a disk of a virtual machine, a file on this computer.
type Disk struct {
	File     string
	ReadOnly bool
	Fail     string // "read" or "write": what it answers with an I/O error; "" for one that works
	Serial   string
	Bus      string // "virtio" or "", "nvme", "scsi"
}

// A Machine is a virtual machine with one network card on a segment and a serial console. Its methods may be called
// concurrently.
type Machine struct {
	config  MachineConfig
	segment *Segment

	mu      sync.Mutex
	process *Process // of the present or the last run; nil before the first
	monitor *monitor
}

// Machine adds a machine, switched off, to the segment.
func (s *Segment) Machine(config MachineConfig) (*Machine, error) {
	config.Memory = cmp.Or(config.Memory, 512)
	m := &Machine{config: config, segment: s}
	if config.Firmware.uefi() {
		// Its own variables, kept from one start to the next as a real machine keeps its own.
		_, vars := ovmf()
		data, err := os.ReadFile(vars)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(m.vars(), data, 0o644); err != nil {
			return nil, err
		}
	}
	return m, s.tap(m.tap())
}

func (m *Machine) vars() string { return m.segment.rig.file(m.config.Name + ".vars") }
func (m *Machine) tap() string  { return "t-" + m.config.Name }

// Name is the name that the machine was made with.
func (m *Machine) Name() string { return m.config.Name }

// MAC is the hardware address of its network card.
func (m *Machine) MAC() string { return m.config.MAC }

// PowerOn switches the machine on; it must be off.
func (m *Machine) PowerOn() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil && m.process.Running() {
		return fmt.Errorf("%s is on already", m.config.Name)
	}
	m.closeMonitor() // of a run that ended by itself
	// The monitor is a socket that QEMU inherits: no path to collide, nothing to clean up.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "qmp"), os.NewFile(uintptr(pair[1]), "qmp")
	r := m.segment.rig
	m.process, err = r.start(m.segment.space, m.config.Name, r.file(m.config.Name+".console"),
		[]*os.File{theirs}, append([]string{emulator()}, m.arguments(accel())...))
	if err != nil {
		ours.Close()
		return err
	}
	if m.monitor, err = newMonitor(ours); err != nil {
		m.process.Kill()
		return fmt.Errorf("%s: QEMU did not start: %w\n%s", m.config.Name, err, m.process.output.Tail(5))
	}
	return nil
}

// PowerOff takes the current away: nothing in the machine hears of it.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		m.process.Kill()
	}
	m.closeMonitor()
}

func (m *Machine) closeMonitor() {
	if m.monitor != nil {
		m.monitor.close()
		m.monitor = nil
	}
}

// PowerCycle switches the machine off and on.
func (m *Machine) PowerCycle() error {
	m.PowerOff()
	return m.PowerOn()
}

// Reset presses the reset button: the machine starts anew, with the same console and the same clock on it.
func (m *Machine) Reset() error { return m.command("system_reset") }

// PressPower presses the power button for a moment: a running system shuts down.
func (m *Machine) PressPower() error { return m.command("system_powerdown") }

func (m *Machine) command(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.monitor == nil {
		return fmt.Errorf("%s is off", m.config.Name)
	}
	return m.monitor.execute(name)
}

// Console is what the present run of the machine, or the last one, has written to its serial port. It is nil before the
// first.
func (m *Machine) Console() *Output {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	return m.process.output
}

// WaitOff blocks until the machine has switched itself off.
func (m *Machine) WaitOff(ctx context.Context) error {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p == nil {
		return errors.New("it was never on")
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s is still on: %w; its last lines:\n%s", m.config.Name, context.Cause(ctx), p.output.Tail(15))
	}
}

// accel is how QEMU runs the machine's instructions. Software emulation works everywhere and is the default, because a
// /dev/kvm that exists may still not be usable; WULF_E2E_ACCEL=kvm asks for the fast way.
func accel() string { return cmp.Or(os.Getenv("WULF_E2E_ACCEL"), "tcg") }

// arguments is QEMU's command line.
func (m *Machine) arguments(accel string) []string {
	c := m.config
	cpu := "host"
	if accel != "kvm" {
		// The plainest 64-bit processor is the fastest to emulate; these features make it one of the "x86-64-v2" level that
		// Enterprise Linux 9 asks for, with a source of random numbers, without which key making waits.
		cpu = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+lahf-lm,+rdrand"
	}
	card := "virtio-net-pci,netdev=n0,mac=" + c.MAC + ",bootindex=1"
	machine := "q35"
	args := []string{
		"-name", c.Name, "-accel", accel, "-cpu", cmp.Or(os.Getenv("WULF_E2E_CPU"), cpu), "-m", fmt.Sprint(c.Memory),
		"-nodefaults", "-display", "none", "-serial", "stdio",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-netdev", "tap,id=n0,ifname=" + m.tap() + ",script=no,downscript=no",
		"-device", "virtio-rng-pci",
		// A BIOS that found nothing to boot from tries again, as servers do.
		"-boot", "reboot-timeout=2000",
	}
	if c.Port != "" {
		args = append(args, "-serial", "file:"+c.Port)
	}
	if c.Serial != "" {
		args = append(args, "-smbios", "type=1,serial="+strings.ReplaceAll(c.Serial, ",", ",,"))
	}
	if c.UUID != "" {
		args = append(args, "-uuid", c.UUID)
	}
	for i, d := range c.Disks {
		args = append(args, d.arguments(i)...)
	}
	switch {
	case c.Firmware == BIOS:
		machine += ",graphics=off" // SeaBIOS and iPXE write to the serial port instead
	case c.Firmware.uefi():
		code, _ := ovmf()
		card += ",romfile=" // no iPXE in the card: the firmware's own network stack is what is tested
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code,
			"-drive", "if=pflash,unit=1,format=raw,file="+m.vars())
		// One way to boot is on. Older firmware knows no switch for HTTP, which it then has off or last.
		for way, only := range map[string]Firmware{"IPv4PXE": UEFI, "IPv4HTTP": UEFIHTTP, "IPv6PXE": UEFI6, "IPv6HTTP": UEFIHTTP6} {
			if c.Firmware != only {
				args = append(args, "-fw_cfg", "name=opt/org.tianocore/"+way+"Support,string=n")
			}
		}
	case c.Firmware == Direct:
		card += ",romfile="
		args = append(args, "-kernel", c.Kernel, "-append", strings.TrimSpace("console=ttyS0 "+c.Append))
		if c.Initrd != "" {
			args = append(args, "-initrd", c.Initrd)
		}
	}
	return append(args, "-machine", machine, "-device", card)
}

// arguments are those of the i-th disk. A comma in the name of its file is written twice.
func (d Disk) arguments(i int) []string {
	node := fmt.Sprintf("disk%d", i)
	readOnly := map[bool]string{true: "on", false: "off"}[d.ReadOnly]
	args := []string{"-blockdev", "driver=file,node-name=" + node + ",read-only=" + readOnly + ",filename=" + strings.ReplaceAll(d.File, ",", ",,")}
	if d.Fail != "" {
		args = append(args, "-blockdev", "driver=blkdebug,node-name=bad"+node+",image="+node+
			",inject-error.0.event=none,inject-error.0.iotype="+d.Fail+",inject-error.0.errno=5,inject-error.0.immediately=on")
		node = "bad" + node
	}
	device := "virtio-blk-pci,werror=report,rerror=report"
	switch d.Bus {
	case "nvme":
		device = "nvme"
	case "scsi":
		args = append(args, "-device", "virtio-scsi-pci,id=hba"+node)
		device = "scsi-hd,bus=hba" + node + ".0"
	}
	if d.Serial != "" {
		device += ",serial=" + d.Serial
	}
	return append(args, "-device", device+",drive="+node)
}

// monitorPatience bounds an answer of QEMU's monitor: it comes from the same computer, but with many machines on few
// cores it may be slow.
const monitorPatience = 30 * time.Second
