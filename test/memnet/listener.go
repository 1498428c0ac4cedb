package memnet

import (
	"net"
	"net/netip"
	"sync"
)

// listener is a stream listener with a bounded backlog.
type listener struct {
	host *Host
	addr netip.AddrPort

	mu     sync.Mutex // locked after net.mu
	cond   *sync.Cond
	queue  []*conn
	closed bool
}

func newListener(h *Host, at netip.AddrPort) *listener {
	l := &listener{host: h, addr: at}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, l.wrap("accept")
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

// Close frees the address and resets the connections that nobody accepted.
func (l *listener) Close() error {
	n := l.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	queue, ok := l.shut()
	if !ok {
		return l.wrap("close")
	}
	for _, c := range queue {
		c.kill(n.joined(c.host, c.peer.host))
		delete(n.conns, c)
	}
	if l.host.streams[l.addr] == l {
		delete(l.host.streams, l.addr)
	}
	return nil
}

// shut ends Accept and hands over the connections that waited for it.
func (l *listener) shut() ([]*conn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, false
	}
	l.closed = true
	queue := l.queue
	l.queue = nil
	l.cond.Broadcast()
	return queue, true
}

func (l *listener) hasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && len(l.queue) < l.host.net.cfg.Backlog
}

func (l *listener) offer(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, c)
	l.cond.Signal()
}

func (l *listener) wrap(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}
