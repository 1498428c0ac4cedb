package stageone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Times. Drivers load firmware and switches negotiate and learn: a port with spanning tree takes 30 s to forward.
const (
	deviceTime  = 60 * time.Second
	carrierTime = 45 * time.Second
	dhcpTime    = 120 * time.Second
)

// findDevice waits for the network device with the hardware address, or for the first Ethernet one if none is asked
// for. Probe is called each time round, to load the drivers of what has turned up.
func findDevice(ctx context.Context, hw catalog.HardwareAddr, probe func()) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	for {
		probe()
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("listing network devices: %w", err)
		}
		for _, l := range links {
			a := l.Attrs()
			physical := l.Type() == "device" && a.Flags&net.FlagLoopback == 0
			if hw != "" && strings.EqualFold(a.HardwareAddr.String(), string(hw)) || hw == "" && physical {
				return l, nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, fault.New(fault.NotFound, "no network device has the hardware address %s (there are: %s)", hw, names(links)).
				WithFix("the image's kernel has no driver for the card, or its module is missing in the image")
		}
	}
}

func names(links []netlink.Link) string {
	var all []string
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			all = append(all, l.Attrs().Name+" "+l.Attrs().HardwareAddr.String())
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// configure brings the device up and gives it the address that the relays' DHCP has for it.
func configure(ctx context.Context, l netlink.Link) (*dhcpv4.DHCPv4, error) {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		netlink.LinkSetUp(lo) // nothing needs it before the node's init
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return nil, fmt.Errorf("bringing %s up: %w", l.Attrs().Name, err)
	}
	if err := awaitCarrier(ctx, l.Attrs().Name); err != nil {
		return nil, err
	}
	ack, err := askDHCP(ctx, l.Attrs().Name)
	if err != nil {
		return nil, err
	}
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask()
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 576 {
		if err := netlink.LinkSetMTU(l, int(mtu)); err != nil {
			return nil, fmt.Errorf("setting MTU %d on %s: %w", mtu, l.Attrs().Name, err)
		}
	}
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: ack.YourIPAddr, Mask: mask}}); err != nil {
		return nil, fmt.Errorf("setting address %s: %w", ack.YourIPAddr, err)
	}
	if gw := ack.Router(); len(gw) > 0 { // the first is the preferred one (RFC 2132 §3.5)
		err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw[0], Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}})
		if err != nil && !errors.Is(err, unix.ENETUNREACH) {
			return nil, fmt.Errorf("setting route by %s: %w", gw[0], err)
		}
	}
	return ack, nil
}

func awaitCarrier(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, carrierTime)
	defer cancel()
	for {
		b, err := os.ReadFile(filepath.Join("/sys/class/net", name, "carrier"))
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "network device %s has no link", name).WithFix("check its cable and the switch's port")
		}
	}
}

// askDHCP asks until it is answered: a relay may be taking over from another one just now.
func askDHCP(ctx context.Context, device string) (*dhcpv4.DHCPv4, error) {
	ctx, cancel := context.WithTimeout(ctx, dhcpTime)
	defer cancel()
	c, err := nclient4.New(device, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
	if err != nil {
		return nil, fmt.Errorf("opening a DHCP socket on %s: %w", device, err)
	}
	defer c.Close()
	for {
		lease, err := c.Request(ctx, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(boot.AgentClass)))
		if err == nil {
			return lease.ACK, nil
		}
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Timeout, err, "no DHCP server answers on %s", device).WithFix("is a relay of this network alive? wulf relay list")
		}
	}
}

// release hands the device over as the kernel first gave it: networkd and others wait for ever for a device that is
// configured already, by nobody they know.
func release(l netlink.Link) error {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("removing address %s: %w", a.IPNet, err)
		}
	}
	return netlink.LinkSetDown(l)
}
