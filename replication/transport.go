package replication

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's network transport with four changes: heartbeats take the common way, answers are remembered,
// connections name whom they are for, and requests at the boundary of the log are settled (forward).
type transport struct {
	*raft.NetworkTransport
	acks     *acks
	requests chan raft.RPC
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

// SetHeartbeatHandler ignores the handler, which raft's Transport allows. With it, heartbeats change term and state
// on the transport's goroutine while raft's main loop works with the old ones, and logs can diverge (issue 695 of
// hashicorp/raft, open in 1.8). Without it they wait their turn in the main loop, behind its disk writes: the
// price is the long Config.Heartbeat.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries also carries the heartbeats; what their answers prove is kept in acks.
func (t *transport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	seq := t.acks.sent()
	err := t.NetworkTransport.AppendEntries(id, target(id, addr), args, resp)
	if err == nil && resp.Term <= args.Term {
		t.acks.received(id, ack{seq: seq, term: args.Term, at: time.Now(), last: resp.LastLog})
	}
	return err
}

// The methods below name the server that is meant beside its address, so that Dial can tell whoever answers there.

func (t *transport) AppendEntriesPipeline(id raft.ServerID, addr raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.NetworkTransport.AppendEntriesPipeline(id, target(id, addr))
}

func (t *transport) RequestVote(id raft.ServerID, addr raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, target(id, addr), args, resp)
}

func (t *transport) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, target(id, addr), args, resp)
}

func (t *transport) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, target(id, addr), args, resp, data)
}

func (t *transport) TimeoutNow(id raft.ServerID, addr raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, target(id, addr), args, resp)
}

// target packs a server and its address into the one word that the network transport hands to Dial.
func target(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + addr
}

// layer is the stream layer of one raft instance: it dials with a hello, takes the connections that the Node's
// acceptor found to be for it, and can end them all. The listener is the Node's and outlives it.
type layer struct {
	self string // server ID
	addr string
	dial func(ctx context.Context, addr string, h hello) (net.Conn, error)

	accepted chan net.Conn
	closed   chan struct{} // nothing is accepted any more
	ctx      context.Context
	cancel   context.CancelFunc // ends dials

	mu     sync.Mutex
	halted bool
	conns  map[*layerConn]bool // those that raft has not closed
	empty  chan struct{}       // closed when the layer is halted and conns is empty
}

var _ raft.StreamLayer = (*layer)(nil)

func newLayer(self Member, dial func(context.Context, string, hello) (net.Conn, error)) *layer {
	l := &layer{
		self: string(self.serverID()), addr: self.Addr, dial: dial,
		accepted: make(chan net.Conn), closed: make(chan struct{}),
		conns: make(map[*layerConn]bool), empty: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Addr is the address that this member tells the others.
func (l *layer) Addr() net.Addr { return layerAddr(l.addr) }

type layerAddr string

func (layerAddr) Network() string  { return "tcp" }
func (a layerAddr) String() string { return string(a) }

// Accept returns the next connection for this instance, and net.ErrClosed after Close.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// deliver hands over a connection whose hello was for this server; it closes it if the instance is ending.
func (l *layer) deliver(conn net.Conn) {
	c, err := l.track(conn)
	if err != nil {
		return
	}
	select {
	case l.accepted <- c:
	case <-l.ctx.Done():
		c.Close()
	}
}

// Dial connects to a target and says which server is meant.
func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, ok := strings.Cut(string(to), "@")
	if !ok {
		return nil, errors.New("a target without a server ID")
	}
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	conn, err := l.dial(ctx, addr, hello{Kind: helloRaft, From: l.self, To: id})
	if err != nil {
		return nil, err
	}
	return l.track(conn)
}

// halt ends every dial and connection, so that calls in flight return, and begins no other. Raft's transport closes
// only its listener, and would leave the goroutines behind that serve connections of peers that live on.
func (l *layer) halt() {
	l.cancel()
	l.mu.Lock()
	if !l.halted {
		l.halted = true
		if len(l.conns) == 0 {
			close(l.empty)
		}
	}
	conns := make([]net.Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c.Conn)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// Close is called by raft's transport, once.
func (l *layer) Close() error {
	close(l.closed)
	l.halt()
	return nil
}

// track registers a connection until its owner closes it.
func (l *layer) track(conn net.Conn) (net.Conn, error) {
	c := &layerConn{Conn: conn, layer: l}
	l.mu.Lock()
	halted := l.halted
	if !halted {
		l.conns[c] = true
	}
	l.mu.Unlock()
	if halted {
		conn.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// layerConn tells its layer when its owner is done with it.
type layerConn struct {
	net.Conn
	layer *layer
}

// Close closes the connection; a second call does nothing but say so.
func (c *layerConn) Close() error {
	l := c.layer
	l.mu.Lock()
	if l.conns[c] {
		delete(l.conns, c)
		if l.halted && len(l.conns) == 0 {
			close(l.empty)
		}
	}
	l.mu.Unlock()
	return c.Conn.Close()
}
