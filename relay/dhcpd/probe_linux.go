package dhcpd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// An ARP packet for IPv4 over Ethernet (RFC 826), behind the Ethernet header.
const (
	arpLen      = 28
	arpRequest  = 1
	arpReply    = 2
	offARPOp    = etherLen + 6
	offARPFrom  = etherLen + 8  // hardware address, then address, of the sender
	offARPWhose = etherLen + 24 // the address that is asked for
)

// arp asks on an interface who has an address, as RFC 5227 §2.1.1 has it: nobody's caches learn from the question.
type arp struct {
	conn *packet.Conn
	ifi  *net.Interface
}

// repliesOnly lets ARP replies through.
var repliesOnly = []bpf.Instruction{
	bpf.LoadAbsolute{Off: offARPOp, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: arpReply, SkipTrue: 1},
	bpf.RetConstant{Val: etherLen + arpLen},
	bpf.RetConstant{Val: 0},
}

func listenARP(ifi *net.Interface) (*arp, error) {
	filter, err := bpf.Assemble(repliesOnly)
	if err != nil {
		return nil, fmt.Errorf("assembling the packet filter: %w", err)
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("opening a socket for ARP on %s: %w", ifi.Name, err)
	}
	return &arp{c, ifi}, nil
}

// Probe sends the question.
func (a *arp) Probe(addr netip.Addr) error {
	all := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	_, err := a.conn.WriteTo(arpProbe(a.ifi.HardwareAddr, addr), &packet.Addr{HardwareAddr: all})
	return err
}

// Close ends Hear.
func (a *arp) Close() error { return a.conn.Close() }

func arpProbe(from net.HardwareAddr, whose netip.Addr) []byte {
	b := make([]byte, etherLen+arpLen)
	for i := range 6 {
		b[i] = 255
	}
	copy(b[6:12], from)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_ARP)
	copy(b[etherLen:], []byte{0, 1, 8, 0, 6, 4, 0, arpRequest}) // Ethernet, IPv4, lengths of both addresses
	copy(b[offARPFrom:], from)
	four := whose.As4()
	copy(b[offARPWhose:], four[:])
	return b
}

// arpOwner reads a reply: who has which address.
func arpOwner(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(b) < etherLen+arpLen || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_ARP || [8]byte(b[etherLen:]) != [8]byte{0, 1, 8, 0, 6, 4, 0, arpReply} {
		return netip.Addr{}, nil, false
	}
	return netip.AddrFrom4([4]byte(b[offARPFrom+6:])), net.HardwareAddr(b[offARPFrom : offARPFrom+6 : offARPFrom+6]), true
}

// Hear tells of all replies.
func (a *arp) Hear(heard func(netip.Addr, net.HardwareAddr)) {
	var b [128]byte
	for {
		n, _, err := a.conn.ReadFrom(b[:])
		if err != nil {
			if !bear(err) {
				return
			}
			continue
		}
		if addr, owner, ok := arpOwner(b[:n]); ok {
			heard(addr, append(net.HardwareAddr(nil), owner...))
		}
	}
}

// bear tells whether to go on hearing after an error, and waits a little: an interface that is down comes up again.
func bear(err error) bool {
	if isClosed(err) {
		return false
	}
	time.Sleep(errorRest)
	return true
}

// echo asks for addresses in networks behind relay agents, where ARP does not reach.
type echo struct{ conn *icmp.PacketConn }

func listenEcho() (*echo, error) {
	c, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("opening a socket for ICMP: %w", err)
	}
	return &echo{c}, nil
}

// Close ends Hear.
func (e *echo) Close() error { return e.conn.Close() }

func (e *echo) id() int { return os.Getpid() & 0xffff }

// Probe sends an echo request.
func (e *echo) Probe(addr netip.Addr) error {
	b, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id(), Data: []byte("wulfmesh")}}).Marshal(nil)
	if err != nil {
		return err
	}
	_, err = e.conn.WriteTo(b, &net.IPAddr{IP: addr.AsSlice()})
	return err
}

// Hear tells of all replies.
func (e *echo) Hear(heard func(netip.Addr, net.HardwareAddr)) {
	var b [512]byte
	for {
		n, from, err := e.conn.ReadFrom(b[:])
		if err != nil {
			if !bear(err) {
				return
			}
			continue
		}
		m, err := icmp.ParseMessage(1, b[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if body, ok := m.Body.(*icmp.Echo); ok && body.ID == e.id() {
			if at, ok := from.(*net.IPAddr); ok {
				heard(ip(at.IP.To4()), nil)
			}
		}
	}
}
