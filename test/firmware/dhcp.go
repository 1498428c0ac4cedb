package firmware

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// asker is a program that asks DHCP, with its habits.
type asker struct {
	name    string
	waits   []time.Duration // how long each DISCOVER waits for an offer; after the last it gives up
	options []dhcpv4.Modifier
	boots   bool // it takes only offers that say what to boot
}

// rom is the firmware: it waits 4, 8, 16 and 32 seconds (PXE 2.1 §2.2.3, table 2-1 as ROMs follow it).
func (m *Machine) rom() asker {
	class, arch := m.arch()
	return asker{
		name: "firmware", boots: true,
		waits:   []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second},
		options: append(m.pxeOptions(class, iana.Arch(arch)), dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1260))),
	}
}

// loaded is iPXE: it begins with one second, and ten are its longest wait.
func (m *Machine) loaded() asker {
	class, arch := "PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC
	if m.cfg.Firmware != boot.FirmwareBIOS {
		class, arch = "PXEClient:Arch:00007:UNDI:003010", iana.EFI_X86_64
	}
	if m.cfg.Firmware == boot.FirmwareEFIArm64 {
		class, arch = "PXEClient:Arch:00011:UNDI:003010", iana.EFI_ARM64
	}
	return asker{
		name: "iPXE", boots: true,
		waits: []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second},
		options: append(m.pxeOptions(class, arch),
			dhcpv4.WithUserClass("iPXE", false),
			dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{0x13, 1, 1, 0x12, 1, 1, 0xeb, 3, 1, 21, 1}), // HTTP, DNS, version
			dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1464))),
	}
}

// stageOne is the agent: two seconds, for as long as it takes.
func (m *Machine) stageOne() asker {
	a := asker{name: "agent", options: []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier(boot.AgentClass))}}
	for range 150 {
		a.waits = append(a.waits, 2*time.Second)
	}
	return a
}

// pxeOptions are what RFC 4578 wants a network boot client to say.
func (m *Machine) pxeOptions(class string, arch iana.Arch) []dhcpv4.Modifier {
	uuid := make([]byte, 17) // type 0, then the machine's UUID
	copy(uuid[1:], "wulfmesh")
	copy(uuid[11:], m.mac())
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, uuid),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName, dhcpv4.OptionVendorSpecificInformation),
	}
}

func (m *Machine) mac() net.HardwareAddr {
	mac, err := net.ParseMAC(string(m.cfg.Hardware))
	if err != nil {
		panic("firmware: " + err.Error()) // a mistake in the test
	}
	return mac
}

// dhcp gets a lease, gives the card its address, and returns the acknowledgement.
func (m *Machine) dhcp(ctx context.Context, who asker) (*dhcpv4.DHCPv4, error) {
	_ = m.host.SetAddrs()
	conn, err := m.host.ListenPacketOn(m.cfg.Segment, ":68")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	began := time.Now()
	for _, wait := range who.waits {
		offer, err := m.exchange(ctx, conn, who, began, wait, dhcpv4.MessageTypeDiscover, nil)
		if err != nil {
			return nil, err
		}
		if offer == nil {
			continue
		}
		ack, err := m.request(ctx, conn, who, began, offer)
		if err != nil {
			return nil, err
		}
		if ack == nil {
			continue
		}
		a, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
		if m.flawed().Declines {
			m.note("%s finds another machine at %s", who.name, a)
			if _, err := m.exchange(ctx, conn, who, began, 10*time.Second, dhcpv4.MessageTypeDecline, ack); err != nil {
				return nil, err
			}
			continue
		}
		if err := m.host.SetAddrs(a.String()); err != nil {
			return nil, fmt.Errorf("the %s was given an address that it cannot use: %w", who.name, err)
		}
		m.note("%s has address %s from %s after %s, boots %q", who.name, a, ack.ServerIdentifier(), time.Since(began).Round(time.Millisecond), ack.BootFileNameOption())
		return ack, nil
	}
	return nil, fmt.Errorf("no DHCP server answers the %s", who.name)
}

// request asks for what an offer says, three times at most. It returns nothing where the server refuses, or is gone.
func (m *Machine) request(ctx context.Context, conn net.PacketConn, who asker, began time.Time, offer *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	for _, wait := range []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second} {
		answer, err := m.exchange(ctx, conn, who, began, wait, dhcpv4.MessageTypeRequest, offer)
		switch {
		case err != nil:
			return nil, err
		case answer == nil:
		case answer.MessageType() == dhcpv4.MessageTypeNak:
			m.note("%s is refused %s by %s: %s", who.name, offer.YourIPAddr, answer.ServerIdentifier(), answer.Message())
			return nil, sleep(ctx, time.Second)
		default:
			return answer, nil
		}
	}
	m.note("%s hears no more of %s", who.name, offer.ServerIdentifier())
	return nil, nil
}

// exchange sends one message and waits for the answer to it; nil if none comes.
func (m *Machine) exchange(ctx context.Context, conn net.PacketConn, who asker, began time.Time, wait time.Duration,
	kind dhcpv4.MessageType, offer *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	q, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(m.mac()), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(kind),
	}, who.options...)...)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	binary.BigEndian.PutUint32(q.TransactionID[:], m.dice.Uint32())
	m.mu.Unlock()
	q.NumSeconds = uint16(time.Since(began) / time.Second)
	if offer != nil {
		q.TransactionID = offer.TransactionID
		q.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
		q.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	}
	if _, err := conn.WriteTo(q.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 1500)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, _, err := conn.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		a, err := dhcpv4.FromBytes(b[:n])
		if err != nil {
			m.note("%s was sent what is no DHCP: %v", who.name, err)
			continue
		}
		if a.OpCode == dhcpv4.OpcodeBootReply && a.TransactionID == q.TransactionID && who.takes(a, q, offer) {
			return a, nil
		}
	}
}

// takes tells whether an answer is one that the asker acts upon.
func (who asker) takes(a, q, offer *dhcpv4.DHCPv4) bool {
	switch a.MessageType() {
	case dhcpv4.MessageTypeOffer:
		return offer == nil && (!who.boots || a.BootFileNameOption() != "" || a.BootFileName != "")
	case dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak:
		return offer != nil && a.ServerIdentifier().Equal(q.ServerIdentifier())
	}
	return false
}

// bootFile is what an acknowledgement says to boot, and where from.
func bootFile(ack *dhcpv4.DHCPv4) (file, server string) {
	file = ack.BootFileNameOption()
	if file == "" {
		file = ack.BootFileName
	}
	server = ack.ServerIPAddr.String()
	if ack.ServerIPAddr.IsUnspecified() || ack.ServerIPAddr == nil {
		server = ack.TFTPServerName()
	}
	return file, server
}
