package dhcpd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// watchEvery is how often the interfaces of this computer are looked at. One that gets its address late, as a VLAN or a
// bond does at start, is served that much later.
const watchEvery = 2 * time.Second

// wish is an interface that is to be served.
type wish struct {
	ifi   net.Interface
	addrs []netip.Addr
	proxy bool // another server gives the addresses in one of its networks
	probe bool // one of its networks wants addresses to be asked for
}

func (w wish) same(v wish) bool {
	return w.ifi.Index == v.ifi.Index && w.ifi.Name == v.ifi.Name && w.proxy == v.proxy && w.probe == v.probe && slices.Equal(w.addrs, v.addrs) &&
		slices.Equal(w.ifi.HardwareAddr, v.ifi.HardwareAddr)
}

// watch serves every interface of this computer that reaches a served network, until ctx ends. It fails where the
// first look finds an interface that another DHCP server holds; one that is taken later is a problem that is told.
func (s *Server) watch(ctx context.Context) error {
	type serving struct {
		wish
		stop func() // and wait until the ports are free
	}
	open := map[string]serving{}
	var links sync.WaitGroup
	defer links.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // before it waits for all that was opened
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		var news <-chan struct{} // before the first look at what is served: what comes after it is seen
		if s.cfg.Changed != nil {
			news = s.cfg.Changed()
		}
		sc := s.cfg.Scope()
		s.reachFar(ctx, sc, &links)
		wishes, err := wanting(sc)
		if err != nil {
			s.cfg.Log.Warn("cannot list the network interfaces", "relay", s.cfg.Relay, "err", err)
		}
		for name, o := range open {
			if w, ok := wishes[name]; err == nil && (!ok || !w.same(o.wish)) {
				o.stop()
				delete(open, name)
			}
		}
		if err == nil {
			s.trouble.Keep(func(link string) bool { _, ok := wishes[link]; return ok })
		}
		for name, w := range wishes {
			if _, ok := open[name]; ok {
				continue
			}
			l, err := openLink(w)
			s.opening(name, err)
			if err != nil {
				if first && errors.Is(err, fault.Conflict) {
					return err
				}
				s.cfg.Log.Warn("cannot serve DHCP", "relay", s.cfg.Relay, "link", name, "err", err)
				continue
			}
			serveCtx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			open[name] = serving{w, func() { cancel(); <-done }}
			s.cfg.Log.Info("serving DHCP", "relay", s.cfg.Relay, "link", name, "addresses", w.addrs)
			links.Go(func() {
				defer close(done)
				s.listen(serveCtx, l)
			})
		}
		s.serving.Store(len(open) > 0 || !sc.wantsDHCP())
		if len(open) > 0 { // a relay whose catalog has just come makes nobody wait; later changes have time
			news = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-news:
		}
	}
}

// reachFar opens what asks for addresses behind relay agents, once a network wants that.
func (s *Server) reachFar(ctx context.Context, sc Scope, readers *sync.WaitGroup) {
	if !slices.ContainsFunc(sc.Networks, func(n *catalog.Network) bool { return n.Probe }) {
		s.trouble.Set(topicProbe, "")
		s.trouble.Set(topicEcho, "")
		return
	}
	if s.far.Load() != nil {
		return
	}
	e, err := listenEcho()
	if err != nil {
		s.trouble.Set(topicEcho, fmt.Sprintf("cannot ask whether addresses behind relay agents are in use: %v", err))
		return
	}
	s.trouble.Set(topicEcho, "")
	far := Prober(e)
	s.far.Store(&far)
	stop := context.AfterFunc(ctx, func() { e.Close() })
	readers.Go(func() {
		defer stop()
		e.Hear(s.probes.heard)
	})
}

// wanting lists the interfaces on which a served network is reached, or which have an address of the relay: packets of
// relay agents come in there.
func wanting(sc Scope) (map[string]wish, error) {
	if !sc.wantsDHCP() {
		return nil, nil
	}
	ifis, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	wishes := map[string]wish{}
	for _, ifi := range ifis {
		if ifi.Flags&net.FlagUp == 0 || ifi.Flags&net.FlagLoopback != 0 || ifi.Flags&net.FlagBroadcast == 0 {
			continue
		}
		w := wish{ifi: ifi}
		serve := false
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away this moment
		}
		for _, a := range addrs {
			p, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			at := ip(p.IP)
			if !at.Is4() {
				continue
			}
			w.addrs = append(w.addrs, at)
			serve = serve || slices.Contains(sc.Addresses, at)
			for _, n := range sc.Networks {
				if n.DHCP != catalog.DHCPOff && n.Prefix.Contains(at) {
					serve = true
					w.proxy = w.proxy || n.DHCP == catalog.DHCPProxy
					w.probe = w.probe || n.Probe
				}
			}
		}
		if serve {
			wishes[ifi.Name] = w
		}
	}
	return wishes, nil
}

// openLink opens the sockets of an interface.
func openLink(w wish) (*Link, error) {
	conn, err := listenUDP(w.ifi.Name, serverPort)
	if err != nil {
		return nil, err
	}
	l := &Link{Name: w.ifi.Name, Addrs: w.addrs, Conn: conn}
	if w.proxy {
		pxe, err := listenUDP(w.ifi.Name, pxePort)
		if err != nil {
			l.close()
			return nil, err
		}
		l.PXE = pxe
	}
	r, err := listenRaw(&w.ifi)
	if err != nil {
		l.close()
		return nil, err
	}
	l.Raw, l.Snoop = r, r
	if w.probe {
		a, err := listenARP(&w.ifi)
		if err != nil {
			l.close()
			return nil, err
		}
		l.ARP = a
	}
	return l, nil
}

// listenUDP binds a port on an interface, and refuses to share it. Most DHCP servers set SO_REUSEADDR and SO_REUSEPORT;
// a second one then binds without an error and takes half of the packets, and nobody understands why every other machine
// boots. Without these options the kernel itself is the probe: the bind fails while anybody holds the port there, or on
// all interfaces.
func listenUDP(device string, port int) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device); err != nil {
				return
			}
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
				return
			}
			// A rack that is switched on asks all at once; the usual 208 KiB hold some hundred packets of the kernel's
			// accounting. It is no error if the system allows less: to have more than net.core.rmem_max takes CAP_NET_ADMIN.
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
			}
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fault.Wrap(fault.Conflict, err, "another program serves DHCP on %s: %s", device, holder(port)).
			WithFix("stop it, or let it give the addresses: wulf network set NAME --dhcp proxy")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return nil, fault.Wrap(fault.Denied, err, "UDP port %d on %s", port, device).WithFix("run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW")
	case err != nil:
		return nil, fmt.Errorf("UDP port %d on %s: %w", port, device, err)
	}
	udp := conn.(*net.UDPConn)
	if err := ipv4.NewPacketConn(udp).SetControlMessage(ipv4.FlagDst, true); err != nil {
		udp.Close()
		return nil, fmt.Errorf("UDP port %d on %s: %w", port, device, err)
	}
	return udp, nil
}

// toUsAlone tells from a packet's control messages whether it was sent to a single address.
func toUsAlone(oob []byte) bool {
	// The one message that we asked for is IP_PKTINFO; cmsghdr is 16 bytes, in_pktinfo has the address at 8. Parsing it
	// by hand saves three allocations a packet.
	for len(oob) >= unix.CmsgLen(12) {
		length := int(binary.NativeEndian.Uint64(oob))
		if length < unix.CmsgLen(0) || length > len(oob) {
			return false
		}
		if binary.NativeEndian.Uint32(oob[8:]) == unix.IPPROTO_IP && binary.NativeEndian.Uint32(oob[12:]) == unix.IP_PKTINFO && length >= unix.CmsgLen(12) {
			a := netip.AddrFrom4([4]byte(oob[24:28]))
			return a != broadcastAddr && !a.IsMulticast()
		}
		oob = oob[min(len(oob), (length+7)&^7):]
	}
	return false
}
