package dhcpd

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// raw is a packet socket on an interface: it sends frames to machines without an address, and hears what servers answer
// there. It is the FrameSender and the Snoop of a Link.
type raw struct {
	*packet.Conn
	ifi *net.Interface
}

func listenRaw(ifi *net.Interface) (*raw, error) {
	filter, err := bpf.Assemble(answersOnly)
	if err != nil {
		return nil, fmt.Errorf("assembling the packet filter: %w", err)
	}
	// A protocol of its own, not ETH_P_ALL: then the kernel does not show us what we send.
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_IP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket on %s: %w", ifi.Name, err)
	}
	return &raw{c, ifi}, nil
}

// answersOnly lets through what is UDP over IPv4 to the port of DHCP clients; the rest never leaves the kernel.
var answersOnly = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0800, SkipTrue: 8},
	bpf.LoadAbsolute{Off: 23, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 17, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 20, Size: 2}, // flags and fragment offset
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 4},
	bpf.LoadMemShift{Off: etherLen}, // length of the IP header
	bpf.LoadIndirect{Off: etherLen + 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 2048},
	bpf.RetConstant{Val: 0},
}

// ReadFrom returns the payload of the next answer.
func (r *raw) ReadFrom(b []byte) (int, net.Addr, error) {
	var buf [2048]byte
	for {
		n, _, err := r.Conn.ReadFrom(buf[:])
		if err != nil {
			return 0, nil, err
		}
		if payload, from, ok := unframe(buf[:n], clientPort); ok {
			return copy(b, payload), net.UDPAddrFromAddrPort(from), nil
		}
	}
}

// SendFrame sends a datagram to a hardware address.
func (r *raw) SendFrame(to net.HardwareAddr, src, dst netip.AddrPort, payload []byte) error {
	_, err := r.Conn.WriteTo(frame(r.ifi.HardwareAddr, to, src, dst, payload), &packet.Addr{HardwareAddr: to})
	return err
}
