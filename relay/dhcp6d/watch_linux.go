package dhcp6d

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/guard"
)

// watchEvery is how often the interfaces of this computer are looked at. An IPv6 address comes late: it is looked first
// whether anybody has it.
const watchEvery = 2 * time.Second

// wish is an interface that is to be served.
type wish struct {
	ifi   net.Interface
	addrs []netip.Addr
}

func (w wish) same(v wish) bool {
	return w.ifi.Index == v.ifi.Index && w.ifi.Name == v.ifi.Name && slices.Equal(w.addrs, v.addrs)
}

// watch serves every interface of this computer that reaches a served network, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	type serving struct {
		wish
		stop func() // and wait until the port is free
	}
	open := map[string]serving{}
	defer func() {
		for _, o := range open {
			o.stop()
		}
	}()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		news := s.cfg.Changed() // before the first look at what is served: what comes after it is seen
		if wishes, err := s.wanting(); err != nil {
			s.cfg.Log.Warn("cannot list the network interfaces", "relay", s.cfg.Relay, "err", err)
		} else {
			for name, o := range open {
				if w, ok := wishes[name]; !ok || !w.same(o.wish) {
					o.stop()
					delete(open, name)
				}
			}
			s.trouble.Keep(func(link string) bool { _, ok := wishes[link]; return ok })
			for name, w := range wishes {
				if _, ok := open[name]; ok {
					continue
				}
				conn, err := listenUDP(&w.ifi)
				if err != nil {
					s.trouble.Set(guard.Topic{What: "open", Link: name}, fmt.Sprintf("cannot serve DHCPv6 on %s: %v", name, err))
					s.cfg.Log.Warn("cannot serve DHCPv6", "relay", s.cfg.Relay, "link", name, "err", err)
					continue
				}
				s.trouble.Set(guard.Topic{What: "open", Link: name}, "")
				s.cfg.Log.Info("serving DHCPv6", "relay", s.cfg.Relay, "link", name, "addresses", w.addrs)
				serveCtx, cancel := context.WithCancel(ctx)
				var reader sync.WaitGroup
				open[name] = serving{w, func() { cancel(); reader.Wait() }}
				reader.Go(func() { s.listen(serveCtx, &Link{Name: name, Addrs: w.addrs, Conn: conn}) })
			}
		}
		if len(open) > 0 { // a relay whose catalog has just come makes nobody wait; later changes have time
			news = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-news:
		}
	}
}

// wanting lists the interfaces that speak IPv6 and on which a served network is reached, or which have an address of the
// relay: packets of relay agents come in there.
func (s *Server) wanting() (map[string]wish, error) {
	c := s.cfg.Catalog()
	networks := served(c, s.cfg.Relay)
	self, ok := c.Relay(s.cfg.Relay)
	if !ok || len(networks) == 0 {
		return nil, nil
	}
	ifis, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	wishes := map[string]wish{}
	for _, ifi := range ifis {
		if ifi.Flags&net.FlagUp == 0 || ifi.Flags&net.FlagLoopback != 0 || ifi.Flags&net.FlagMulticast == 0 {
			continue
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away this moment
		}
		w, six, reaches := wish{ifi: ifi}, false, false
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			at := p.Addr().Unmap()
			w.addrs = append(w.addrs, at)
			six = six || at.Is6()
			reaches = reaches || slices.Contains(self.Addresses, at) || slices.ContainsFunc(networks, func(n *catalog.Network) bool { return n.Holds(at) })
		}
		if six && reaches {
			wishes[ifi.Name] = w
		}
	}
	return wishes, nil
}

// servers is where clients ask: all servers and agents of a link.
var servers = net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers}

// listenUDP binds the servers' port on an interface, and refuses to share it: then the kernel itself says whether another
// server is there.
func listenUDP(ifi *net.Interface) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, ifi.Name)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp6", fmt.Sprintf("[::]:%d", dhcpv6.DefaultServerPort))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fault.Wrap(fault.Conflict, err, "another program holds UDP port %d", dhcpv6.DefaultServerPort).
			WithFix("see who has it: ss -ulnp 'sport = :547'; stop it, or run the relay with --no-ipv6")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return nil, fault.Wrap(fault.Denied, err, "UDP port %d", dhcpv6.DefaultServerPort).WithFix("run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW")
	case err != nil:
		return nil, err
	}
	if err := ipv6.NewPacketConn(conn).JoinGroup(ifi, &servers); err != nil {
		conn.Close()
		return nil, fmt.Errorf("joining %s: %w", servers.IP, err)
	}
	return conn, nil
}
