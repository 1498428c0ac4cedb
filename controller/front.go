package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// Bounds of the one listener.
const (
	handshakeTime = 10 * time.Second
	maxHandshakes = 1024   // at once; more wait to be accepted
	maxOfOne      = 64     // of those, from one address; more are closed
	maxConns      = 20_000 // open at once; more are closed
	maxNameless   = 512    // of those, by clients without a certificate
	acceptPause   = 50 * time.Millisecond
)

// front is the controller's one port. It does the TLS handshakes and hands each connection to whom its protocol is:
// the replicated log, or HTTP.
type front struct {
	raw  net.Listener
	conf *tls.Config
	slog *slog.Logger

	open     atomic.Int64 // connections
	nameless atomic.Int64 // of those, by clients without a certificate

	mu      sync.Mutex
	shaking map[string]int // handshakes under way, by address

	log  *handoff
	http *handoff
}

func newFront(l net.Listener, conf *tls.Config, log *slog.Logger) *front {
	return &front{raw: l, conf: conf, slog: log, shaking: map[string]int{}, log: newHandoff(l.Addr()), http: newHandoff(l.Addr())}
}

// run accepts connections until ctx ends, and then ends the handshakes under way. The two listeners that it feeds are
// closed by those who accept from them: the log takes it for a failure if somebody else does.
func (f *front) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { f.raw.Close() })()
	var shaking sync.WaitGroup
	defer shaking.Wait()
	slots := make(chan struct{}, maxHandshakes)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		raw, err := f.raw.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, or a connection that was gone before it was accepted
			f.slog.Warn("cannot accept a connection", "err", err)
			<-slots
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		shaking.Go(func() {
			defer func() { <-slots }()
			f.welcome(ctx, raw)
		})
	}
}

// welcome does the handshake of one connection and hands it on.
func (f *front) welcome(ctx context.Context, raw net.Conn) {
	under := &counted{Conn: raw}
	conn := tls.Server(under, f.conf)
	if err := f.shake(ctx, conn, under); err != nil {
		f.slog.Debug("a connection was refused", "from", raw.RemoteAddr().String(), "err", err)
		under.Close()
		return
	}
	to := f.http
	if conn.ConnectionState().NegotiatedProtocol == api.ALPNRaft {
		to = f.log
	}
	to.give(ctx, conn)
}

// shake does a handshake, unless there are too many connections already, of all or of such.
func (f *front) shake(ctx context.Context, conn *tls.Conn, under *counted) error {
	if !under.countIn(&f.open, maxConns) {
		return errors.New("too many connections")
	}
	leave, ok := f.enter(under.RemoteAddr())
	if !ok {
		return errors.New("too many handshakes with this address")
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if len(conn.ConnectionState().PeerCertificates) == 0 && !under.countIn(&f.nameless, maxNameless) {
		return errors.New("too many connections by clients without a certificate")
	}
	return nil
}

// enter counts the handshakes with an address, so that one client alone cannot keep all others waiting.
func (f *front) enter(addr net.Addr) (leave func(), ok bool) {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		host = addr.String()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shaking[host] >= maxOfOne {
		return nil, false
	}
	f.shaking[host]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.shaking[host]--; f.shaking[host] == 0 {
			delete(f.shaking, host)
		}
	}, true
}

// counted is a connection that counts among others until it is closed.
type counted struct {
	net.Conn
	mu     sync.Mutex
	among  []*atomic.Int64
	closed bool
}

// countIn counts the connection, unless there are too many of its sort.
func (c *counted) countIn(n *atomic.Int64, most int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if n.Add(1) > most {
		n.Add(-1)
		return false
	}
	c.among = append(c.among, n)
	return true
}

// Close closes the connection.
func (c *counted) Close() error {
	c.mu.Lock()
	for _, n := range c.among {
		n.Add(-1)
	}
	c.among, c.closed = nil, true
	c.mu.Unlock()
	return c.Conn.Close()
}

// handoff is a listener of connections that somebody else accepts.
type handoff struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection over, or closes it if nobody takes it any more.
func (h *handoff) give(ctx context.Context, c net.Conn) {
	select {
	case h.conns <- c:
		return
	case <-h.done:
	case <-ctx.Done():
	}
	c.Close()
}

// Accept waits for the next connection; after Close it is net.ErrClosed.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. The port itself stays open.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is the address of the port.
func (h *handoff) Addr() net.Addr { return h.addr }
