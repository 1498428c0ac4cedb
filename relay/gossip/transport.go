package gossip

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	// memberlist reads up to 20 MiB from a stranger before it finds that the key is wrong. A thousand relays' state is
	// under 1 MiB, so streams are limited in size and number.
	maxStream  = 4 << 20
	maxStreams = 32

	packetBuffer = 64 << 10
	socketBuffer = 1 << 20
)

// transport carries memberlist over a listener and a packet socket that were made elsewhere. It is the only transport,
// in production and in tests; memberlist's own mock blocks on a peer that has stopped.
type transport struct {
	listener  net.Listener
	packets   net.PacketConn
	dial      func(context.Context, string, string) (net.Conn, error)
	advertise netip.AddrPort
	allowed   []netip.Prefix

	packetCh chan *memberlist.Packet
	streamCh chan net.Conn
	failed   chan error // one slot: why a listener ended by itself
	dialling context.Context
	hangUp   context.CancelFunc // ends dials under way and refuses new ones
	done     chan struct{}
	loops    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	inbound int
	open    map[*stream]struct{}
}

func newTransport(cfg Config, advertise netip.AddrPort) *transport {
	t := &transport{
		listener: cfg.Listener, packets: cfg.Packets, dial: cfg.Dial, advertise: advertise, allowed: cfg.Allowed,
		packetCh: make(chan *memberlist.Packet), streamCh: make(chan net.Conn),
		failed: make(chan error, 1), done: make(chan struct{}), open: map[*stream]struct{}{},
	}
	t.dialling, t.hangUp = context.WithCancel(context.Background())
	if b, ok := t.packets.(interface{ SetReadBuffer(int) error }); ok {
		b.SetReadBuffer(socketBuffer) // a wish: the kernel may give less
	}
	return t
}

// start begins to listen; Shutdown ends it.
func (t *transport) start() {
	t.loops.Go(t.hear)
	t.loops.Go(t.accept)
}

// hear hands packets to memberlist, which keeps the bytes.
func (t *transport) hear() {
	buf := make([]byte, packetBuffer)
	for {
		n, from, err := t.packets.ReadFrom(buf)
		if err != nil {
			if t.endedBy("packets", err) {
				return
			}
			continue
		}
		if n == 0 || !t.allows(from) {
			continue
		}
		p := &memberlist.Packet{Buf: slices.Clone(buf[:n]), From: from, Timestamp: time.Now()}
		select {
		case t.packetCh <- p:
		case <-t.done:
			return
		}
	}
}

func (t *transport) accept() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			if t.endedBy("streams", err) {
				return
			}
			continue
		}
		if !t.allows(c.RemoteAddr()) {
			c.Close()
			continue
		}
		s := t.track(c, true)
		if s == nil {
			continue
		}
		select {
		case t.streamCh <- s:
		case <-t.done:
			s.Close()
			return
		}
	}
}

// endedBy tells whether an error ends a loop; after others, such as too many open files, it waits a little.
func (t *transport) endedBy(what string, err error) bool {
	if errors.Is(err, net.ErrClosed) {
		select {
		case <-t.done:
		default:
			t.report(fault.Wrap(fault.Internal, err, "listening for gossip %s", what))
		}
		return true
	}
	select {
	case <-t.done:
		return true
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

func (t *transport) report(err error) {
	select {
	case t.failed <- err:
	default:
	}
}

func (t *transport) allows(from net.Addr) bool {
	if len(t.allowed) == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(from.String())
	return err == nil && slices.ContainsFunc(t.allowed, func(p netip.Prefix) bool { return p.Contains(ap.Addr().Unmap()) })
}

// FinalAdvertiseAddr, and what follows, is memberlist.NodeAwareTransport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo sends one packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fault.Wrap(fault.Invalid, err, "gossip address")
	}
	_, err = t.packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress is WriteTo.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialTimeout opens a stream; it fails at once when gossip is ending.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.dialling, timeout)
	defer cancel()
	c, err := t.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := t.track(c, false)
	if s == nil {
		return nil, net.ErrClosed
	}
	return s, nil
}

// DialAddressTimeout is DialTimeout.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// PacketCh returns where packets come from.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }

// StreamCh returns where streams come from.
func (t *transport) StreamCh() <-chan net.Conn { return t.streamCh }

// Shutdown closes everything and waits for the loops.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	var open []*stream
	for s := range t.open {
		open = append(open, s)
	}
	t.mu.Unlock()
	if !first {
		return nil
	}
	close(t.done)
	t.hangUp()
	err := errors.Join(t.listener.Close(), t.packets.Close())
	for _, s := range open {
		s.Close()
	}
	t.loops.Wait()
	return err
}

// track wraps a stream so that Shutdown can close it. It closes the stream and returns nil when gossip has ended, or
// when there are too many inbound ones.
func (t *transport) track(c net.Conn, inbound bool) *stream {
	s := &stream{Conn: c, t: t, inbound: inbound, left: maxStream}
	t.mu.Lock()
	ok := !t.closed && (!inbound || t.inbound < maxStreams)
	if ok {
		t.open[s] = struct{}{}
		if inbound {
			t.inbound++
		}
	}
	t.mu.Unlock()
	if !ok {
		c.Close()
		return nil
	}
	return s
}

// stream is a connection that may be read up to a limit. memberlist reads a stream from one goroutine.
type stream struct {
	net.Conn
	t       *transport
	inbound bool
	left    int
	once    sync.Once
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(func() {
		s.t.mu.Lock()
		defer s.t.mu.Unlock()
		delete(s.t.open, s)
		if s.inbound {
			s.t.inbound--
		}
	})
	return s.Conn.Close()
}
