package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// piece is how much a stream sends at once where bandwidth is limited, so that streams share it fairly.
const piece = 16 << 10

// conn is one end of a stream, a net.Conn with CloseWrite.
type conn struct {
	net           *Network
	host          *Host // whose end this is
	peer          *conn
	local, remote netip.AddrPort
	in, out       *half // what the peer wrote, and what this end writes
	sent          *counter
	closed        atomic.Bool
	stalled       bool // guarded by net.mu
	killed        bool // guarded by net.mu: closed by Kill, not by its owner
}

// newPair returns the two ends of a new stream, the client's first. n.mu is held.
func (n *Network) newPair(client, server *Host, from, to netip.AddrPort) (*conn, *conn) {
	up, down := newHalf(n.cfg.Window), newHalf(n.cfg.Window)
	c := &conn{net: n, host: client, local: from, remote: to, in: down, out: up,
		sent: n.counter(Flow{From: client.name, To: server.name, Net: "tcp", Port: to.Port()})}
	s := &conn{net: n, host: server, local: to, remote: from, in: up, out: down,
		sent: n.counter(Flow{From: server.name, To: client.name, Net: "tcp", Port: to.Port()})}
	c.peer, s.peer = s, c
	c.sent.conns.Add(1)
	n.conns[c] = struct{}{}
	n.conns[s] = struct{}{}
	return c, s
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	most := len(p)
	if swallows(c.host, c.peer.host, most) {
		c.out.hold(true)
	}
	if c.host != c.peer.host && (c.host.out.limited() || c.peer.host.in.limited()) {
		most = piece
	}
	n, err := c.out.write(p, most, func(size int) time.Time {
		c.sent.bytes.Add(int64(size))
		return c.net.arrival(c.host, c.peer.host, size)
	})
	return n, c.wrap("write", err)
}

// CloseWrite tells the peer that no more will come; reading goes on.
func (c *conn) CloseWrite() error {
	if c.closed.Load() {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.finish(c.net.arrival(c.host, c.peer.host, 0))
	return nil
}

func (c *conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.finish(c.net.arrival(c.host, c.peer.host, 0))
	c.out.failWriter(net.ErrClosed)
	c.in.failReader(net.ErrClosed)
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	delete(c.net.conns, c)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setDeadline(&c.in.readBy, t, &c.closed))
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setDeadline(&c.out.writeBy, t, &c.closed))
}

// reset ends this end of the connection with ECONNRESET.
func (c *conn) reset() {
	c.in.failReader(os.NewSyscallError("read", syscall.ECONNRESET))
	c.out.failWriter(os.NewSyscallError("write", syscall.ECONNRESET))
}

// kill closes this end at once and, where its host is joined to the peer's, resets the peer. net.mu is held.
func (c *conn) kill(joined bool) {
	c.closed.Store(true)
	c.killed = true
	c.in.failReader(net.ErrClosed)
	c.out.failWriter(net.ErrClosed)
	if joined {
		c.peer.reset()
		return
	}
	c.peer.stall() // the peer hears nothing until the network heals
}

// stall stops bytes in both directions until resume. net.mu is held, as for resume.
func (c *conn) stall() {
	c.stalled = true
	c.in.hold(true)
	c.out.hold(true)
}

func (c *conn) resume() {
	c.stalled = false
	c.in.hold(false)
	c.out.hold(false)
	if c.peer.killed {
		c.reset()
	}
}

// wrap gives errors the shape that the net package gives them.
func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
