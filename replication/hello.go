package replication

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Every connection begins with a hello from whoever dialled: length (2 bytes, big endian), then JSON. After a hello
// of kind raft the connection is raft's, if it was for this very store; after one of kind join the answer is one
// joinReply in the same framing. The ALPN name of the listener carries the version of all this.
type hello struct {
	Kind string `json:"kind"`
	From string `json:"from"`           // server ID of the caller
	To   string `json:"to,omitempty"`   // raft: server ID that the caller means to reach
	Addr string `json:"addr,omitempty"` // join: where the caller can be reached
}

// The kinds of hello.
const (
	helloRaft = "raft"
	helloJoin = "join"
)

const (
	maxMessage      = 4 << 10
	helloTimeout    = 5 * time.Second
	maxHandshakes   = 64 // connections that have not said hello yet; more are closed
	acceptRetryLow  = 5 * time.Millisecond
	acceptRetryHigh = time.Second
)

// writeMessage writes v as JSON with its length before it.
func writeMessage(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fault.New(fault.Invalid, "a message of %d bytes is too long", len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// readMessage reads what writeMessage wrote, and not a byte more.
func readMessage(r io.Reader, v any) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > maxMessage {
		return fault.New(fault.Invalid, "a message of %d bytes is too long", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.Wrap(fault.Invalid, err, "the message is not understood")
	}
	return nil
}

// dial connects to an address, makes sure who answers where the hello names somebody, and says hello.
func (n *Node) dial(ctx context.Context, addr string, h hello) (net.Conn, error) {
	conn, err := n.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// The hello must not outlast ctx either, not even against a peer that does not read.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	if h.To != "" {
		err = n.checkPeer(conn, h.To)
	}
	if err == nil {
		err = writeMessage(conn, h)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting %s: %w", addr, err)
	}
	return conn, nil
}

// checkPeer compares the certificate at the other end with the server that should be there.
func (n *Node) checkPeer(conn net.Conn, server string) error {
	if n.cfg.PeerName == nil {
		return nil
	}
	m, err := parseServerID(raft.ServerID(server))
	if err != nil {
		return err
	}
	name, err := n.cfg.PeerName(conn)
	if err != nil {
		return err
	}
	if name != m.ID {
		return fault.New(fault.Denied, "%s answers for %s", name, m.ID)
	}
	return nil
}

// accept gives every connection of the listener to whom its hello is for, until ctx ends and the listener is closed.
func (n *Node) accept(ctx, given context.Context) {
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	slots := make(chan struct{}, maxHandshakes)
	delay := acceptRetryLow
	for {
		conn, err := n.cfg.Listener.Accept()
		switch {
		case err == nil:
			delay = acceptRetryLow
		case ctx.Err() != nil, given.Err() != nil: // ctx ends a moment after the one that it comes from
			return
		case errors.Is(err, net.ErrClosed):
			n.fail(fault.Wrap(fault.Internal, err, "the log's listener was closed by somebody else"))
			return
		default:
			n.log.Warn("cannot accept connections of the log", "err", err)
			select {
			case <-time.After(delay):
				delay = min(2*delay, acceptRetryHigh)
			case <-ctx.Done():
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		handshakes.Go(func() {
			defer func() { <-slots }()
			n.welcome(ctx, conn)
		})
	}
}

// welcome reads the hello and passes the connection on.
func (n *Node) welcome(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	conn.SetDeadline(time.Now().Add(helloTimeout))
	var h hello
	err := readMessage(conn, &h)
	if err == nil {
		err = n.checkPeer(conn, h.From)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		n.log.Debug("a connection of the log said no proper hello", "err", err)
		return
	}
	conn.SetDeadline(time.Time{})
	switch h.Kind {
	case helloJoin:
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(n.cfg.joinTimeout()))
		if err := writeMessage(conn, n.answerJoin(ctx, h)); err != nil {
			n.log.Debug("a joining controller did not take its answer", "controller", h.From, "err", err)
		}
	case helloRaft:
		in := n.current.Load()
		if in == nil || h.To != in.layer.self {
			conn.Close()
			n.log.Debug("a connection was for another server", "from", h.From, "to", h.To)
			return
		}
		in.layer.deliver(conn)
	default:
		conn.Close()
	}
}
