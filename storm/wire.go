package storm

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Wire carries the DHCP of all machines. It is a relay agent's socket: requests go from its address to the relays with
// giaddr set, and the answers come back to it. Or it is a network interface, on which machines broadcast.
type Wire struct {
	conn  *net.UDPConn
	agent netip.Addr // giaddr; invalid on an interface
	out   chan request

	mu      sync.Mutex
	waiting map[dhcpv4.TransactionID]chan *dhcpv4.DHCPv4
}

// Ports of DHCP.
const (
	dhcpServer = 67
	dhcpClient = 68
)

// backlog is how many packets wait for a slow reader in the kernel, in bytes: an answer for each of ten thousand machines.
const backlog = 8 << 20

// request is a packet on its way to a server.
type request struct {
	body []byte
	to   netip.AddrPort
}

// Bounds of what waits to be sent, after which packets are lost, and of what one system call takes. One goroutine sends: ten
// thousand that take turns at one socket wait for each other's turns, and not for the network.
const (
	maxOut = 1 << 15
	batch  = 64
)

// maxAnswers is how many answers one request keeps: more servers than that say nothing new.
const maxAnswers = 4

// NewAgentWire makes a wire of a relay agent at an address of this host, in the machines' network: by it relays find out
// which network that is.
func NewAgentWire(agent netip.Addr) (*Wire, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: agent.AsSlice(), Port: dhcpServer})
	if err != nil {
		return nil, fault.Wrap(fault.Denied, err, "being a relay agent at %s", agent).WithFix("as root, at an address of this host where nobody else answers DHCP")
	}
	return newWire(conn, agent), nil
}

// NewSegmentWire makes a wire of a network interface. Machines on it ask for answers by broadcast, as most firmware does.
func NewSegmentWire(ctx context.Context, device string) (*Wire, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if control := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err == nil {
				err = unix.BindToDevice(int(fd), device)
			}
		}); control != nil {
			return control
		}
		return err
	}}
	conn, err := lc.ListenPacket(ctx, "udp4", ":68")
	if err != nil {
		return nil, fault.Wrap(fault.Denied, err, "asking DHCP on %s", device).WithFix("as root, on an interface of this host where no DHCP client runs")
	}
	return newWire(conn.(*net.UDPConn), netip.Addr{}), nil
}

func newWire(conn *net.UDPConn, agent netip.Addr) *Wire {
	_ = conn.SetReadBuffer(backlog) // the kernel may give less
	_ = conn.SetWriteBuffer(backlog)
	return &Wire{conn: conn, agent: agent, out: make(chan request, maxOut), waiting: map[dhcpv4.TransactionID]chan *dhcpv4.DHCPv4{}}
}

// Close lets go of a wire on which no storm ran.
func (w *Wire) Close() error { return w.conn.Close() }

// run sends requests and hands answers to who asked, until ctx ends; then it closes the socket.
func (w *Wire) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { w.conn.Close() })()
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() { w.sendAll(ctx) })
	in := ipv4.NewPacketConn(w.conn)
	packets := make([]ipv4.Message, batch)
	for i := range packets {
		packets[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	for {
		n, err := in.ReadBatch(packets, 0)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			continue // an ICMP error of some relay that is dead
		}
		for _, p := range packets[:n] {
			w.hear(p.Buffers[0][:p.N])
		}
	}
}

// hear hands one answer on.
func (w *Wire) hear(b []byte) {
	a, err := dhcpv4.FromBytes(b)
	if err != nil || a.OpCode != dhcpv4.OpcodeBootReply {
		return
	}
	w.mu.Lock()
	c := w.waiting[a.TransactionID]
	w.mu.Unlock()
	select {
	case c <- a: // never, if c is nil
	default:
	}
}

// sendAll sends what is to be sent. What the network refuses is lost, as packets are.
func (w *Wire) sendAll(ctx context.Context) {
	out := ipv4.NewPacketConn(w.conn)
	var packets []ipv4.Message
	for ctx.Err() == nil {
		packets = packets[:0]
		select {
		case r := <-w.out:
			packets = append(packets, r.message())
		case <-ctx.Done():
			return
		}
		for more := true; more && len(packets) < batch; {
			select {
			case r := <-w.out:
				packets = append(packets, r.message())
			default:
				more = false
			}
		}
		for rest := packets; len(rest) > 0; {
			n, err := out.WriteBatch(rest, 0)
			if err != nil {
				n = 1 // that one
			}
			rest = rest[n:]
		}
	}
}

func (r request) message() ipv4.Message {
	return ipv4.Message{Buffers: [][]byte{r.body}, Addr: net.UDPAddrFromAddrPort(r.to)}
}

// listen has the answers to a transaction go into a channel, until the function that comes with it is called. False means
// that somebody uses its number already.
func (w *Wire) listen(id dhcpv4.TransactionID) (<-chan *dhcpv4.DHCPv4, func(), bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, taken := w.waiting[id]; taken {
		return nil, nil, false
	}
	c := make(chan *dhcpv4.DHCPv4, maxAnswers)
	w.waiting[id] = c
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, id)
	}, true
}

// send sends a request on its way, and does not wait.
func (w *Wire) send(q *dhcpv4.DHCPv4, helpers []netip.Addr) {
	if w.agent.IsValid() {
		q.GatewayIPAddr, q.HopCount = w.agent.AsSlice(), 1
	} else {
		helpers = []netip.Addr{netip.AddrFrom4([4]byte{255, 255, 255, 255})}
	}
	b := q.ToBytes()
	for _, h := range helpers {
		select {
		case w.out <- request{b, netip.AddrPortFrom(h, dhcpServer)}:
		default:
		}
	}
}
