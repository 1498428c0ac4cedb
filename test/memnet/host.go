package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	firstEphemeral = 32768
	lastEphemeral  = 60999
	synRetry       = time.Second // after which a dial knocks again at a full backlog
)

// Host is a machine on a Network. Its Dial has the shape of net.Dialer.DialContext.
type Host struct {
	net     *Network
	name    string
	in, out pacer
	mtu     atomic.Int64 // see SetMTU

	// The rest is guarded by net.mu.
	addrs    []netip.Addr
	segments []string
	streams  map[netip.AddrPort]*listener
	packets  []*packetConn
	nextPort uint16
}

// Name returns the host's name, which Dial and the Network's methods also take for an address.
func (h *Host) Name() string { return h.name }

// Addr returns the host's first address, the zero Addr if it has none.
func (h *Host) Addr() netip.Addr {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if len(h.addrs) == 0 {
		return netip.Addr{}
	}
	return h.addrs[0]
}

// SetAddrs replaces the host's IPv4 addresses, as a machine does that got or lost a lease; open sockets stay. An
// address that is not IPv4, or another host's, is an error and changes nothing.
func (h *Host) SetAddrs(addrs ...string) error {
	parsed := make([]netip.Addr, len(addrs))
	for i, s := range addrs {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return err
		}
		if !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return fmt.Errorf("%s cannot be the address of host %s", a, h.name)
		}
		parsed[i] = a
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, a := range parsed {
		if other := h.net.addrs[a]; other != nil && other != h {
			return fmt.Errorf("address %s of host %s is in use by host %s", a, h.name, other.name)
		}
	}
	for _, a := range h.addrs {
		delete(h.net.addrs, a)
	}
	for _, a := range parsed {
		h.net.addrs[a] = h
	}
	h.addrs = parsed
	h.net.stir()
	return nil
}

// Join makes the host a member of declared segments and returns it.
func (h *Host) Join(segments ...string) *Host {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, s := range segments {
		if _, ok := h.net.segments[s]; !ok {
			panic(fmt.Sprintf("memnet: there is no segment %q", s))
		}
		if !slices.Contains(h.segments, s) {
			h.segments = append(h.segments, s)
		}
	}
	return h
}

// SetBandwidth limits what the host sends and receives, each to so many bytes per second; 0 removes the limit.
func (h *Host) SetBandwidth(bytesPerSecond int64) {
	for _, p := range []*pacer{&h.in, &h.out} {
		p.mu.Lock()
		p.rate = bytesPerSecond
		p.mu.Unlock()
	}
}

// Listen opens a stream listener on "ip:port" or ":port"; port 0 takes a free one.
func (h *Host) Listen(addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.bind("tcp", addr, func(a netip.AddrPort) bool {
		_, taken := h.streams[a]
		return taken
	})
	if err != nil {
		return nil, err
	}
	l := newListener(h, at)
	h.streams[at] = l
	return l, nil
}

// bind parses the address of a socket and chooses its port. net.mu is held.
func (h *Host) bind(network, addr string, taken func(netip.AddrPort) bool) (netip.AddrPort, error) {
	fail := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fail(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fail(err)
	}
	ip := netip.IPv4Unspecified()
	if host != "" {
		if ip, err = netip.ParseAddr(host); err != nil {
			return fail(err)
		}
	}
	if !ip.IsUnspecified() && !ip.IsLoopback() && !slices.Contains(h.addrs, ip) {
		return fail(os.NewSyscallError("bind", syscall.EADDRNOTAVAIL))
	}
	if number != 0 {
		at := netip.AddrPortFrom(ip, uint16(number))
		if taken(at) {
			return fail(os.NewSyscallError("bind", syscall.EADDRINUSE))
		}
		return at, nil
	}
	for range lastEphemeral - firstEphemeral {
		if at := netip.AddrPortFrom(ip, h.ephemeral()); !taken(at) {
			return at, nil
		}
	}
	return fail(os.NewSyscallError("bind", syscall.EADDRINUSE))
}

// ephemeral returns the next port for a socket that does not care. net.mu is held.
func (h *Host) ephemeral() uint16 {
	p := h.nextPort
	if h.nextPort++; h.nextPort > lastEphemeral {
		h.nextPort = firstEphemeral
	}
	return p
}

// Dial connects to "ip:port" or "host:port", network "tcp" or "udp" (with or without the 4). It is refused where
// nobody listens; where the address is cut off or nobody's, it waits for the context or the network's DialTimeout, and
// succeeds if the network heals before. A "udp" dial sends nothing and gives a socket for one peer.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := h.resolve(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	switch network {
	case "tcp", "tcp4":
		c, err := h.dialStream(ctx, to)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
		}
		return c, nil
	case "udp", "udp4":
		c, err := h.dialPacket(to)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "udp", Addr: net.UDPAddrFromAddrPort(to), Err: err}
		}
		return c, nil
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
}

// resolve turns the address of a dial into numbers; names of hosts stand for their first address.
func (h *Host) resolve(address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, &net.AddrError{Err: "invalid port", Addr: address}
	}
	if host == "" || host == "localhost" {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(number)), nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if other := h.net.hosts[host]; other != nil && len(other.addrs) > 0 {
		return netip.AddrPortFrom(other.addrs[0], uint16(number)), nil
	}
	return netip.AddrPort{}, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (h *Host) dialStream(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.net.cfg.DialTimeout)
	defer cancel()
	for {
		changed, far := h.route(to)
		if far != nil {
			// The handshake takes one round trip, also to be told that nobody listens.
			if err := pause(ctx, 2*h.net.links.between(h, far).Latency); err != nil {
				return nil, err
			}
			c, err := h.connect(far, to)
			if c != nil || err != nil {
				return c, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, dialError(ctx.Err())
		case <-changed:
		case <-time.After(synRetry):
		}
	}
}

// route finds the host that holds an address, nil where there is none or none that is reached, and the channel that
// closes when the answer may be another.
func (h *Host) route(to netip.AddrPort) (<-chan struct{}, *Host) {
	n, ip := h.net, to.Addr()
	n.mu.Lock()
	defer n.mu.Unlock()
	far := n.addrs[ip]
	if ip.IsLoopback() {
		far = h
	}
	if far == nil || !n.joined(h, far) || !n.lets(h, far, "tcp", to.Port()) {
		return n.changed, nil
	}
	return n.changed, far
}

// connect puts a new stream into the backlog of far's listener. It returns nothing at all when there is no room, or
// when the way was cut meanwhile.
func (h *Host) connect(far *Host, to netip.AddrPort) (net.Conn, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.joined(h, far) || far != h && n.addrs[to.Addr()] != far {
		return nil, nil
	}
	from, ok := h.source(to.Addr())
	if !ok {
		return nil, os.NewSyscallError("connect", syscall.ENETUNREACH)
	}
	l := far.streams[to]
	if l == nil {
		l = far.streams[netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())]
	}
	if l == nil {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	if !l.hasRoom() {
		return nil, nil
	}
	c, s := n.newPair(h, far, netip.AddrPortFrom(from, h.ephemeral()), to)
	l.offer(s)
	return c, nil
}

// source chooses the address that packets to an address come from: the one on the same segment, else the first.
// net.mu is held.
func (h *Host) source(to netip.Addr) (netip.Addr, bool) {
	if to.IsLoopback() {
		return to, true
	}
	if slices.Contains(h.addrs, to) {
		return to, true
	}
	for _, s := range h.segments {
		if p := h.net.segments[s]; p.Contains(to) {
			for _, a := range h.addrs {
				if p.Contains(a) {
					return a, true
				}
			}
		}
	}
	if len(h.addrs) == 0 {
		return netip.Addr{}, false
	}
	return h.addrs[0], true
}

// pause waits, or ends early with the error of the dial.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return dialError(ctx.Err())
	}
}

// dialError is what the net package says when a dial's context ends.
func dialError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return timeout{}
	}
	return err
}

type timeout struct{}

func (timeout) Error() string   { return "i/o timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }
func (timeout) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}
