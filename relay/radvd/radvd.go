// Package radvd answers the router solicitations of machines that boot, with an advertisement of no router.
//
// iPXE waits long for a router on a segment that has none, each time that it opens the card. An advertisement with a
// lifetime of 0 says that the sender is no router (RFC 4861 §4.2), and one without options configures nothing, so
// iPXE goes on at once and no other machine of the segment changes anything. It goes to the asker alone.
//
// Where the relay serves DHCPv6 it says that too (the flags M and O), and which prefixes are on the link, for a machine
// takes an address of DHCPv6 for one without neighbours. It leaves nobody to make addresses of its own of them.
package radvd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv6"
)

// The messages of RFC 4861 §4.1 and §4.2.
const (
	typeSolicitation = 133
	hopLimit         = 255 // §6.1.1: anything less has passed a router, and is none of this segment's business
)

// Interface is where to answer, and what to say there.
type Interface struct {
	Name     string
	Prefixes []netip.Prefix // in which the relay serves DHCPv6
}

// Equal tells whether two are the same.
func (i Interface) Equal(j Interface) bool {
	return i.Name == j.Name && slices.Equal(i.Prefixes, j.Prefixes)
}

// Config says where to answer.
type Config struct {
	Interfaces []Interface
	Log        *slog.Logger
}

// onLink is for how long a prefix is on the link, in seconds: until the machine boots again.
const onLink = 24 * 60 * 60

// advertisement is type 134, code 0, checksum (the kernel's part), hop limit 64, flags, lifetime 0, reachable and
// retransmission times unspecified; then an option for each prefix (§4.6.2), with the flag L and not the flag A.
func advertisement(prefixes []netip.Prefix) []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, p := range prefixes {
		b[5] = 0x80 | 0x40 // M: addresses by DHCPv6; O: the rest too
		b = append(b, 3, 4, byte(p.Bits()), 0x80)
		b = binary.BigEndian.AppendUint32(b, onLink)
		b = binary.BigEndian.AppendUint32(b, onLink)
		b = append(b, 0, 0, 0, 0)
		b = append(b, p.Masked().Addr().AsSlice()...)
	}
	return b
}

// Server answers on some interfaces.
type Server struct{ cfg Config }

// New makes a server; Run opens its sockets.
func New(cfg Config) *Server { return &Server{cfg} }

// Run answers until ctx ends. Without the right to open raw sockets, or without IPv6, it says so and waits: machines
// boot all the same, only slower.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, i := range s.cfg.Interfaces {
		c, err := listen(i.Name)
		if err != nil {
			s.cfg.Log.Warn("router solicitations are not answered; iPXE will wait for a router", "interface", i.Name, "err", err)
			continue
		}
		defer context.AfterFunc(ctx, func() { c.Close() })()
		wg.Go(func() { s.serve(ctx, c, i) })
	}
	<-ctx.Done()
	return nil
}

func listen(name string) (*ipv6.PacketConn, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	raw, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	c := ipv6.NewPacketConn(raw)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	err = errors.Join(
		c.SetICMPFilter(&only),
		c.JoinGroup(i, &net.IPAddr{IP: net.ParseIP("ff02::2")}),
		c.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		c.SetHopLimit(hopLimit), c.SetMulticastHopLimit(hopLimit), c.SetMulticastInterface(i),
	)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("preparing the socket: %w", err)
	}
	return c, nil
}

func (s *Server) serve(ctx context.Context, c *ipv6.PacketConn, at Interface) {
	i, err := net.InterfaceByName(at.Name)
	if err != nil {
		return
	}
	say := advertisement(at.Prefixes)
	b := make([]byte, 1500)
	for ctx.Err() == nil {
		n, cm, from, err := c.ReadFrom(b)
		if err != nil {
			if ctx.Err() == nil {
				// An interface that is down for a while comes back; an error at each read must not be a busy loop.
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
			continue
		}
		if to := answerTo(b[:n], cm, from, i.Index); to != nil {
			if _, err := c.WriteTo(say, &ipv6.ControlMessage{IfIndex: i.Index, HopLimit: hopLimit}, to); err != nil {
				s.cfg.Log.Debug("router advertisement is not sent", "interface", at.Name, "err", err)
			}
		}
	}
}

// answerTo is who gets an answer to a message, or nil for one that gets none. A machine without an address yet is
// answered at the address of all nodes (RFC 4861 §6.2.6).
func answerTo(b []byte, cm *ipv6.ControlMessage, from net.Addr, index int) net.Addr {
	if len(b) < 8 || b[0] != typeSolicitation || b[1] != 0 || cm == nil || cm.HopLimit != hopLimit || cm.IfIndex != index {
		return nil
	}
	a, ok := from.(*net.IPAddr)
	if !ok {
		return nil
	}
	if a.IP.IsUnspecified() {
		return &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: a.Zone}
	}
	return a
}
