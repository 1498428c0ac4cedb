package storm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// rom is the firmware: it waits 4, 8, 16 and 32 seconds (PXE 2.1 §2.2.3).
func (m *machine) rom() asker {
	class, arch := "PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC
	switch m.storm.cfg.Firmware {
	case boot.FirmwareEFI64:
		class, arch = "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64
	case boot.FirmwareHTTP64:
		class, arch = "HTTPClient:Arch:00016:UNDI:003016", iana.EFI_X86_64_HTTP
	}
	return asker{
		name: "firmware", boots: true, options: m.pxe(class, arch, 1260),
		waits: []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second},
	}
}

// loaded is iPXE: it begins with one second, and ten are its longest wait. Option 175 says HTTP, DNS and its version.
func (m *machine) loaded() asker {
	class, arch := "PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC
	if m.storm.cfg.Firmware != boot.FirmwareBIOS {
		class, arch = "PXEClient:Arch:00007:UNDI:003010", iana.EFI_X86_64
	}
	return asker{
		name: "iPXE", boots: true,
		options: append(m.pxe(class, arch, 1464), dhcpv4.WithUserClass("iPXE", false),
			dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{0x13, 1, 1, 0x12, 1, 1, 0xeb, 3, 1, 21, 1})),
		waits: []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second},
	}
}

// stageOne is the agent: two seconds, for as long as it takes.
func (m *machine) stageOne() asker {
	a := asker{name: "agent", options: []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("wulf-agent"))}}
	for range 150 {
		a.waits = append(a.waits, 2*time.Second)
	}
	return a
}

// pxe are what RFC 4578 wants a network boot client to say.
func (m *machine) pxe(class string, arch iana.Arch, size uint16) []dhcpv4.Modifier {
	uuid := make([]byte, 17) // type 0, then the machine's UUID
	copy(uuid[1:], "wulf storm")
	copy(uuid[11:], m.mac)
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(size)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, uuid),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName, dhcpv4.OptionVendorSpecificInformation),
	}
}

// talk is what an asker says in one go: all under one number, as ROMs and iPXE do, so that an answer to the first question
// is one to the second as well, if it comes late.
type talk struct {
	asker
	began   time.Time
	id      dhcpv4.TransactionID
	answers <-chan *dhcpv4.DHCPv4
}

// dhcp gets the machine its lease, and returns the acknowledgement.
func (m *machine) dhcp(ctx context.Context, a asker) (*dhcpv4.DHCPv4, error) {
	who := &talk{asker: a, began: time.Now()}
	for {
		binary.BigEndian.PutUint32(who.id[:], m.dice.Uint32())
		answers, hush, ok := m.storm.cfg.Wire.listen(who.id)
		if ok {
			defer hush()
			who.answers = answers
			break
		} // another machine's dice fell the same way
	}
	for i, wait := range who.waits {
		if i > 0 {
			m.storm.tally.retry("dhcp")
		}
		offer, err := m.exchange(ctx, who, wait, dhcpv4.MessageTypeDiscover, nil)
		if err != nil {
			return nil, err
		}
		if offer == nil {
			continue
		}
		ack, err := m.request(ctx, who, offer)
		if err != nil {
			return nil, err
		}
		if ack == nil {
			continue
		}
		if a, _ := netip.AddrFromSlice(ack.YourIPAddr.To4()); a != m.Address {
			return nil, fmt.Errorf("the %s was given the address %s, and %s is declared", who.name, a, m.Address)
		}
		return ack, nil
	}
	return nil, fmt.Errorf("no DHCP server answers the %s", who.name)
}

// request asks for what an offer says, three times at most. It returns nothing where the server refuses, or is gone.
func (m *machine) request(ctx context.Context, who *talk, offer *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	for _, wait := range []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second} {
		a, err := m.exchange(ctx, who, wait, dhcpv4.MessageTypeRequest, offer)
		switch {
		case err != nil:
			return nil, err
		case a == nil:
			m.storm.tally.retry("dhcp")
		case a.MessageType() == dhcpv4.MessageTypeNak:
			m.storm.tally.fail(m.Name, errors.New("the "+who.name+" is refused its address: "+a.Message()), false)
			return nil, sleep(ctx, time.Second)
		default:
			return a, nil
		}
	}
	return nil, nil
}

// exchange sends one message and waits for the answer to it; nil if none comes.
func (m *machine) exchange(ctx context.Context, who *talk, wait time.Duration, kind dhcpv4.MessageType, offer *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	q, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(m.mac), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(kind),
	}, who.options...)...)
	if err != nil {
		return nil, err
	}
	q.TransactionID, q.NumSeconds = who.id, uint16(time.Since(who.began)/time.Second)
	if offer != nil {
		q.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
		q.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	}
	m.storm.cfg.Wire.send(q, m.Helpers)
	expired := time.NewTimer(wait)
	defer expired.Stop()
	for {
		select {
		case a := <-who.answers:
			if string(a.ClientHWAddr) == string(m.mac) && who.takes(a, q, offer) {
				return a, nil
			}
		case <-expired.C:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
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
	if file = ack.BootFileNameOption(); file == "" {
		file = ack.BootFileName
	}
	server = ack.ServerIPAddr.String()
	if ack.ServerIPAddr == nil || ack.ServerIPAddr.IsUnspecified() {
		server = ack.TFTPServerName()
	}
	return file, server
}
