package replication

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// testNet is an in-memory network of pipes. A dial to or from somebody who is cut off waits until its context ends;
// cutting somebody off ends the connections there are.
type testNet struct {
	mu        sync.Mutex
	listeners map[string]*testListener
	side      map[string]int // members on different sides do not reach one another
	conns     []testLink
}

type testLink struct {
	from, to string
	conn     net.Conn // one end; closing it ends both
}

func newTestNet() *testNet {
	return &testNet{listeners: make(map[string]*testListener), side: make(map[string]int)}
}

type testListener struct {
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *testListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *testListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *testListener) Addr() net.Addr { return layerAddr(l.addr) }

func (n *testNet) listen(addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &testListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[addr] = l
	return l
}

// dialer returns the Config.Dial of whoever is at an address.
func (n *testNet) dialer(from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, to string) (net.Conn, error) {
		n.mu.Lock()
		l, apart := n.listeners[to], n.side[from] != n.side[to]
		n.mu.Unlock()
		if apart {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if l == nil {
			return nil, syscall.ECONNREFUSED
		}
		a, b := net.Pipe()
		if name, ok := ctx.Value(nameKey{}).(string); ok {
			b = &namedConn{b, name}
		}
		select {
		case l.conns <- b:
		case <-l.done:
			return nil, syscall.ECONNREFUSED
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		n.mu.Lock()
		n.conns = append(n.conns, testLink{from, to, a})
		n.mu.Unlock()
		return a, nil
	}
}

// part moves addresses to a side and ends the connections that are across now.
func (n *testNet) part(side int, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.side[a] = side
	}
	kept := n.conns[:0]
	for _, c := range n.conns {
		if n.side[c.from] != n.side[c.to] {
			c.conn.Close()
		} else {
			kept = append(kept, c)
		}
	}
	n.conns = kept
}

// heal puts everybody on one side.
func (n *testNet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.side)
}

// namedConn is a connection whose other end has shown a name, as a certificate does.
type namedConn struct {
	net.Conn
	peer string
}

// namedDial makes both ends of a connection know the other's name; whoever is in liar shows another.
func namedDial(dial func(context.Context, string, string) (net.Conn, error), n *testNet, self string, liar map[string]string) func(context.Context, string, string) (net.Conn, error) {
	name := func(id string) string {
		if other, ok := liar[id]; ok {
			return other
		}
		return id
	}
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		conn, err := dial(context.WithValue(ctx, nameKey{}, name(self)), network, to)
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(to)
		return &namedConn{conn, name(host)}, nil
	}
}

type nameKey struct{}
