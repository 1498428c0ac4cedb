// Package tftpd serves boot programs to firmware, by TFTP (RFC 1350, 2347 to 2349), and nothing else: it reads a fixed
// table in memory, so no name can reach a file, and it takes no writes.
//
// Who is not known gets one short error, and a client that acknowledges nothing the same packet seven times in nine
// seconds: the server is of little use to who wants to flood somebody else. At most so many transfers go on at once,
// and so many of one client.
//
// The library's quirks are met here. SetAnticipate crashes the process when a source fails, and is never called. Each
// transfer has a socket of its own, on a port that the system chooses; the only other way, single-port mode, is several
// times slower and spins on a closed socket (see single.go), but it is the one that works on any net.PacketConn, and so
// in virtual time.
package tftpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bounds and times. The block size is the client's choice up to what fits into an Ethernet frame: 1500 less the
// headers of IP, UDP and TFTP.
const (
	maxTransfers = 512
	maxOfClient  = 4
	blockSize    = 1468
	blockTime    = 400 * time.Millisecond // until an acknowledgement is overdue
	retries      = 6
	tellEvery    = time.Second // at most, of requests for what there is not
)

// pause is for how long a sender rests before it repeats a block, on top of blockTime: not at all at first, because a
// lost packet is the usual reason and half a second a block is what makes a transfer slow; longer and longer then,
// because a ROM that paints its screen may not look at its card for seconds.
func pause(attempt int) time.Duration {
	if attempt < 2 {
		return 0
	}
	return min(blockTime<<(attempt-2), 4*time.Second)
}

// Config is what a Server needs.
type Config struct {
	Conn net.PacketConn // where requests come in; Run closes it

	// SinglePort answers from Conn itself. Otherwise each transfer has a socket of its own, as RFC 1350 §4 has it,
	// which is many times faster but needs the system's network.
	SinglePort bool

	// Loader returns a boot program by its name: one of boot.Loaders, and nothing else.
	Loader func(name string) (body []byte, ok bool)
	// Machine says whose an address is; for others nothing is served.
	Machine func(netip.Addr) (node catalog.NodeName, hw catalog.HardwareAddr, ok bool)
	Record  func(boot.Event)
	Log     *slog.Logger
}

// Server serves until it is stopped.
type Server struct {
	cfg Config

	mu      sync.Mutex
	clients map[netip.Addr]int // transfers that go on
	total   int
	told    time.Time // when a request for what there is not was recorded last
}

// New makes a server; Run starts it.
func New(cfg Config) *Server { return &Server{cfg: cfg, clients: map[netip.Addr]int{}} }

// Run serves until ctx ends, and closes Conn. Transfers that go on then are broken off: another relay serves who asks
// again. It takes up to three seconds to return while a client keeps silent, and seven in the middle of a pause.
func (s *Server) Run(ctx context.Context) error {
	defer s.cfg.Conn.Close()
	t := tftp.NewServer(func(name string, out io.ReaderFrom) error { return s.read(ctx, name, out) }, nil)
	t.SetTimeout(blockTime)
	t.SetRetries(retries)
	t.SetBackoff(func(attempt int) time.Duration {
		if ctx.Err() != nil {
			return 0 // to come to the end soon
		}
		return pause(attempt)
	})
	t.SetBlockSize(blockSize)
	conn := s.cfg.Conn
	if s.cfg.SinglePort {
		t.EnableSinglePort()
		if _, kernel := conn.(*net.UDPConn); !kernel {
			t.SetBlockSizeNegotiation(false) // there is no interface to ask for its MTU; else every block had 512 bytes
			conn = steady{conn}
		}
	}
	served := make(chan error, 1)
	go func() { served <- s.serve(t, conn) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving TFTP: %w", err)
	case <-ctx.Done():
	}
	t.Shutdown()
	<-served
	return nil
}

// serve goes on serving when the library panics: in single-port mode a packet that comes in the moment in which its
// transfer ends is sent on a closed channel.
func (s *Server) serve(t *tftp.Server, conn net.PacketConn) error {
	for {
		err, failed := s.serveOnce(t, conn)
		if !failed {
			return err
		}
	}
}

func (s *Server) serveOnce(t *tftp.Server, conn net.PacketConn) (err error, failed bool) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Warn("serving boot programs failed inside, and goes on", "err", p)
			failed = true
		}
	}()
	return t.Serve(conn), false
}

// read is called for each request, in a goroutine of its own. An error is sent to the client as one. It runs inside the
// library's transfer, so a panic in it would end the relay.
func (s *Server) read(ctx context.Context, name string, out io.ReaderFrom) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("serving a boot program failed inside", "err", p)
			err = errors.New("internal error")
		}
	}()
	transfer, ok := out.(tftp.OutgoingTransfer)
	if !ok {
		return errors.New("internal error")
	}
	peer := transfer.RemoteAddr()
	addr, _ := netip.AddrFromSlice(peer.IP)
	addr = addr.Unmap()
	node, hw, ok := s.cfg.Machine(addr)
	if !ok {
		return errors.New("not served here")
	}
	name = clean(name)
	body, ok := s.cfg.Loader(name)
	if !ok {
		s.tell(boot.Event{Stage: boot.StageDHCP, Node: node, Hardware: hw, Address: addr.String(), Error: fmt.Sprintf("asked by TFTP for %.80q, which is no boot program of this relay", name)})
		return errors.New("file not found")
	}
	if !s.enter(addr) {
		return errors.New("busy, try again")
	}
	defer s.leave(addr)
	began := time.Now()
	transfer.SetSize(int64(len(body)))
	n, err := out.ReadFrom(&program{ctx, bytes.NewReader(body)})
	if err != nil {
		s.cfg.Log.Info("a boot program was not taken", "node", node, "peer", addr, "bytes", n, "err", err)
		return err
	}
	s.cfg.Record(boot.Event{Stage: boot.StageLoader, Node: node, Hardware: hw, Address: addr.String(), Bytes: n, Took: time.Since(began), Message: name})
	return nil
}

// clean is the name without what firmware puts around it. It asks for what DHCP told it; some put a slash before that, and
// some have a NUL or 0xff after it.
func clean(name string) string {
	for name != "" && (name[len(name)-1] == 0 || name[len(name)-1] == 0xff) {
		name = name[:len(name)-1]
	}
	return strings.TrimLeft(name, "/")
}

// program is a boot program on its way; it ends with the server.
type program struct {
	ctx  context.Context
	body *bytes.Reader
}

// Read is called for a block when the one before was acknowledged.
func (p *program) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, errors.New("the relay is going away")
	}
	return p.body.Read(b)
}

// tell records an event, but not a flood of them.
func (s *Server) tell(e boot.Event) {
	now := time.Now()
	s.mu.Lock()
	quiet := now.Sub(s.told) < tellEvery
	if !quiet {
		s.told = now
	}
	s.mu.Unlock()
	if !quiet {
		s.cfg.Record(e)
	}
}

// enter counts a transfer in, if there is room for it.
func (s *Server) enter(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxTransfers || s.clients[a] >= maxOfClient {
		return false
	}
	s.total++
	s.clients[a]++
	return true
}

func (s *Server) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.clients[a]--; s.clients[a] == 0 {
		delete(s.clients, a)
	}
}
