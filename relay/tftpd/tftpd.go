// Package tftpd serves boot programs to firmware, by TFTP (RFC 1350, 2347 to 2349 and 7440), and nothing else: it reads a
// fixed table in memory, so no name can reach a file, and it takes no writes.
//
// A few workers, each with a socket on a port that the system chose, share the clients among themselves; a client's
// address says which one is its. With one socket alone, on the port for requests (SinglePort), the same worker does it,
// and as quickly. See docs/adr/0032.
//
// Who is not known gets one short error. A client that acknowledges nothing gets three packets in all: the server is of
// little use to who wants to flood somebody else.
package tftpd

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

const (
	maxWorkers = 4           // one sends gigabytes a second, and the more clients it has, the more it does with each system call
	tellEvery  = time.Second // at most, of requests that lead to nothing
)

// Config is what a Server needs. Its functions are called by the goroutines that serve, and should not block.
type Config struct {
	Conn net.PacketConn // where requests come in; Run closes it

	// SinglePort answers from Conn itself, for firewalls that let nothing but its port through. Otherwise the answer
	// comes from another port, as RFC 1350 §4 has it. A Conn that is not the system's, or speaks IPv6, is always so.
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
	cfg      Config
	counters counters

	mu   sync.Mutex
	told time.Time // when a request that led to nothing was recorded last
}

// Stats counts what the server did since it was made.
type Stats struct {
	Requests uint64 // that a transfer was begun for
	Served   uint64 // programs that arrived whole
	Bytes    uint64 // of those
	Repeated uint64 // packets or windows that were sent again because nothing came
	Refused  uint64 // requests of who is not known, or for what there is not
	Lost     uint64 // requests that were not answered because there were too many
	Panics   uint64 // packets on which the code failed
}

type counters struct {
	requests, served, bytes, repeated, refused, lost, panics atomic.Uint64
}

// New makes a server; Run starts it.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	c := &s.counters
	return Stats{
		Requests: c.requests.Load(), Served: c.served.Load(), Bytes: c.bytes.Load(), Repeated: c.repeated.Load(),
		Refused: c.refused.Load(), Lost: c.lost.Load(), Panics: c.panics.Load(),
	}
}

// Run serves until ctx ends, and closes Conn. Transfers that go on then are broken off: another relay serves who asks
// again. It ends by itself, with an error, when Conn fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.cfg.Conn.Close()
	kernel, fast := newKernelPort(s.cfg.Conn)
	g, running := errgroup.WithContext(ctx)
	if !fast || s.cfg.SinglePort {
		var p port = kernel
		if !fast {
			p = newAnyPort(s.cfg.Conn)
		}
		s.serve(g, running, newWorker(s, p, 1))
	} else {
		workers := make([]*worker, max(1, min(runtime.GOMAXPROCS(0)/2, maxWorkers)))
		for i := range workers {
			p, err := kernel.sibling()
			if err != nil {
				return fmt.Errorf("serving TFTP: %w", err)
			}
			defer p.Close()
			workers[i] = newWorker(s, p, len(workers))
		}
		for _, w := range workers {
			s.serve(g, running, w)
		}
		g.Go(func() error { return divide(kernel, workers) })
		defer context.AfterFunc(running, func() { kernel.Close() })()
	}
	if err := g.Wait(); ctx.Err() == nil {
		return fmt.Errorf("serving TFTP: %w", err)
	}
	return nil
}

// serve starts a worker, and stops it when ctx ends.
func (s *Server) serve(g *errgroup.Group, ctx context.Context, w *worker) {
	stop := context.AfterFunc(ctx, w.stop)
	g.Go(func() error {
		defer stop()
		return w.run()
	})
}

// divide hands requests to the workers, those of one client to one of them, until the port is closed.
func divide(p port, workers []*worker) error {
	seed := maphash.MakeSeed()
	for {
		in, err := p.receive()
		if err != nil {
			return err
		}
		for _, c := range in {
			if len(c.data) < 2 || c.data[1] != opRead && c.data[1] != opWrite {
				continue // transfers have ports of their own
			}
			c.data = slices.Clone(c.data)
			workers[maphash.Comparable(seed, c.from.Addr())%uint64(len(workers))].put(c)
		}
	}
}

// tell records an event, but not a flood of them.
func (s *Server) tell(now time.Time, e boot.Event) {
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
