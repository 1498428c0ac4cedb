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
	maxHandshakes = 512    // at once; more wait to be accepted
	maxConns      = 20_000 // open at once; more are closed
	acceptPause   = 50 * time.Millisecond
)

// front is the controller's one port. It does the TLS handshakes and hands each connection to whom its protocol is:
// the replicated log, or HTTP.
type front struct {
	raw  net.Listener
	conf *tls.Config
	slog *slog.Logger
	open atomic.Int64

	log  *handoff
	http *handoff
}

func newFront(l net.Listener, conf *tls.Config, log *slog.Logger) *front {
	return &front{raw: l, conf: conf, slog: log, log: newHandoff(l.Addr()), http: newHandoff(l.Addr())}
}

// run accepts connections until ctx ends, and then ends the handshakes under way.
func (f *front) run(ctx context.Context) error {
	defer f.log.Close()
	defer f.http.Close()
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
	if f.open.Add(1) > maxConns {
		f.open.Add(-1)
		raw.Close()
		return
	}
	conn := tls.Server(&counted{Conn: raw, open: &f.open}, f.conf)
	shake, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(shake); err != nil {
		f.slog.Debug("a connection was refused", "from", raw.RemoteAddr().String(), "err", err)
		conn.NetConn().Close()
		return
	}
	to := f.http
	if conn.ConnectionState().NegotiatedProtocol == api.ALPNRaft {
		to = f.log
	}
	to.give(ctx, conn)
}

// counted is a connection that counts among the open ones until it is closed.
type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

// Close closes the connection.
func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
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
