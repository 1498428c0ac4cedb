package rig

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A Segment is one Ethernet broadcast domain: a bridge in a namespace of its own that has no address, so that nobody
// on it is reachable but through the wire.
type Segment struct {
	rig   *Rig
	space string
}

// Segment makes a broadcast domain.
func (r *Rig) Segment(name string) (*Segment, error) {
	space, err := r.space(name)
	if err != nil {
		return nil, err
	}
	s := &Segment{rig: r, space: space}
	// Without this the kernel gives the bridge and every tap an IPv6 address and asks for routers.
	if err := sysctl(space, "net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
		return nil, err
	}
	// forward_delay 0: firmware gives up on DHCP before a bridge that learns first lets a packet through.
	return s, ipIn(space,
		"link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
		"link set br0 up")
}

// tap makes a port for a virtual machine.
func (s *Segment) tap(name string) error {
	return ipIn(s.space,
		"tuntap add dev "+name+" mode tap",
		"link set "+name+" master br0 up")
}

// A Host is a place for processes: a namespace with its own interfaces and addresses.
type Host struct {
	rig   *Rig
	name  string
	space string
}

// Host makes a host without any interface but the loopback.
func (r *Rig) Host(name string) (*Host, error) {
	space, err := r.space(name)
	if err != nil {
		return nil, err
	}
	for key, value := range map[string]string{
		"net/ipv4/ip_forward":              "0", // a relay is no router: machines must not reach controllers
		"net/ipv6/conf/default/accept_ra":  "0",
		"net/ipv6/conf/default/accept_dad": "0", // an address is usable at once
	} {
		if err := sysctl(space, key, value); err != nil {
			return nil, err
		}
	}
	return &Host{rig: r, name: name, space: space}, nil
}

// Name is the name that the host was made with.
func (h *Host) Name() string { return h.name }

// Connect gives the host an interface on a segment, with an address unless addr is the zero prefix.
func (h *Host) Connect(s *Segment, dev string, addr netip.Prefix) error {
	port := "p-" + h.name
	if err := ipIn(s.space, fmt.Sprintf("link add %s type veth peer name %s netns %s", port, dev, h.space),
		"link set "+port+" master br0 up"); err != nil {
		return err
	}
	commands := []string{"link set " + dev + " up"}
	if addr.IsValid() {
		commands = append(commands, fmt.Sprintf("addr add %s brd + dev %s", addr, dev))
	}
	return ipIn(h.space, commands...)
}

// Route makes the host a router, which passes packets on between its interfaces.
func (h *Host) Route() error { return sysctl(h.space, "net/ipv4/ip_forward", "1") }

// Behind gives the host an interface to a router, and an address that is reached through it alone. Many hosts on one segment
// know each other, and the kernel's table of neighbours, which all namespaces share, has room for a thousand; behind a
// router each knows only that.
func (h *Host) Behind(router *Host, dev string, addr, gateway netip.Addr) error {
	port := "p-" + h.name
	if err := ipIn(router.space, fmt.Sprintf("link add %s type veth peer name %s netns %s", port, dev, h.space),
		"link set "+port+" up"); err != nil {
		return err
	}
	if err := ipIn(h.space, "link set "+dev+" up", fmt.Sprintf("addr add %s/32 dev %s", addr, dev),
		fmt.Sprintf("route add %s dev %s scope link", gateway, dev), fmt.Sprintf("route add default via %s src %s", gateway, addr)); err != nil {
		return err
	}
	return ipIn(router.space, fmt.Sprintf("route add %s/32 dev %s", addr, port))
}

// Unplug takes the carrier from an interface of the host, as pulling its cable would; Plug gives it back.
func (h *Host) Unplug(s *Segment) error { return ipIn(s.space, "link set p-"+h.name+" down") }

// Plug undoes Unplug.
func (h *Host) Plug(s *Segment) error { return ipIn(s.space, "link set p-"+h.name+" up") }

// Do calls f inside the host's namespace: a socket that f opens stays there. f must start no process and no goroutine
// that needs the namespace.
func (h *Host) Do(f func() error) error { return InSpace(h.space, f) }

// InSpace runs f on a thread that has entered a network namespace of that name, and takes the thread back afterwards. f must
// start no process and no goroutine that needs the namespace. The thread must come back: were
// it the process's first thread, the whole process would seem to live in the namespace, and be killed with it.
func InSpace(space string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // unlocked only when back home: otherwise the runtime ends the thread with the goroutine
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		ns, err := os.Open("/run/netns/" + space)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering %s: %w", space, err)
			return
		}
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("leaving %s: %w", space, back))
		} else {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// sysctl sets a variable of a namespace, if this kernel has it.
func sysctl(space, key, value string) error {
	return InSpace(space, func() error {
		err := os.WriteFile("/proc/sys/"+key, []byte(value), 0)
		if os.IsNotExist(err) {
			return nil // a kernel without IPv6 has nothing to switch off
		}
		return err
	})
}
