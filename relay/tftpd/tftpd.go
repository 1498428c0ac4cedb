// Package tftpd serves boot programs to firmware, by TFTP (RFC 1350, 2347 to 2349), and nothing else: it reads a fixed
// table in memory, so no name can reach a file, and it takes no writes.
//
// It sends nothing to addresses outside of the networks that the relay serves, and gives a client that does not
// acknowledge up after a few blocks, so it is of no use to who wants to flood somebody else.
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
	blockTime    = time.Second
	retries      = 5
)

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
}

// New makes a server; Run starts it.
func New(cfg Config) *Server { return &Server{cfg: cfg, clients: map[netip.Addr]int{}} }

// Run serves until ctx ends. Transfers that go on then are broken off: another relay serves who asks again.
func (s *Server) Run(ctx context.Context) error {
	t := tftp.NewServer(s.read, nil)
	t.SetTimeout(blockTime)
	t.SetRetries(retries)
	t.SetBlockSize(blockSize)
	if s.cfg.SinglePort {
		t.EnableSinglePort()
	}
	served := make(chan error, 1)
	go func() { served <- t.Serve(s.cfg.Conn) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving TFTP: %w", err)
	case <-ctx.Done():
	}
	// Shutdown waits for transfers, whose clients may be gone: no longer than their retries take, which are bounded.
	s.cfg.Conn.Close()
	t.Shutdown()
	<-served
	return nil
}

// read is called for each request, in a goroutine of its own. An error is sent to the client as one. It runs inside the
// library's transfer, so a panic in it would end the relay.
func (s *Server) read(name string, out io.ReaderFrom) (err error) {
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
	// Firmware asks for what DHCP told it; some put a slash before it, and some have a NUL or 0xff after the name.
	name = strings.TrimLeft(strings.TrimRight(name, "\x00\xff"), "/")
	body, ok := s.cfg.Loader(name)
	if !ok {
		s.cfg.Record(boot.Event{Stage: boot.StageDHCP, Node: node, Hardware: hw, Address: addr.String(), Error: fmt.Sprintf("asked by TFTP for %.80q, which is no boot program of this relay", name)})
		return errors.New("file not found")
	}
	if !s.enter(addr) {
		return errors.New("busy, try again")
	}
	defer s.leave(addr)
	began := time.Now()
	transfer.SetSize(int64(len(body)))
	n, err := out.ReadFrom(bytes.NewReader(body))
	if err != nil {
		s.cfg.Log.Info("a boot program was not taken", "node", node, "peer", addr, "bytes", n, "err", err)
		return err
	}
	s.cfg.Record(boot.Event{Stage: boot.StageLoader, Node: node, Hardware: hw, Address: addr.String(), Bytes: n, Took: time.Since(began), Message: name})
	return nil
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
