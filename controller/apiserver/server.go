// Package apiserver is a controller's API: the paths of pkg/api over HTTP, for operators, relays and the other
// controllers.
//
// Who may ask for what is one table (see table); what is not in it is refused. What each route takes and answers is
// described beside it (see descriptions), and the tests hold every answer to that. Everybody is known by a certificate
// or, on the machine's own socket, by the credentials of the process; relays and controllers must be in the catalog
// with that key at every request, so that a removed one is out at once, whatever its certificate says. Only joining
// needs neither, but a token.
//
// Reads are linearizable unless ?consistency=stale is asked for. Writes may go to any controller: one that does not
// lead passes them on to the one that does.
package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/replication"
)

// Log is what the API asks of the replicated log beyond what the state does. *replication.Node is one.
type Log interface {
	// Status returns what this member knows of the log; it does not block.
	Status() replication.Status
	// ReadIndex returns a revision at or after everything acknowledged; it must be asked of the leader.
	ReadIndex(ctx context.Context) (uint64, error)
	// Remove takes a member out of the log; it must be asked of the leader.
	Remove(ctx context.Context, id string) error
	// TransferLeadership makes another member lead; it must be asked of the leader.
	TransferLeadership(ctx context.Context, id string) error
}

// Config is what a Server serves. All fields must be set.
type Config struct {
	Name     catalog.ControllerName
	State    *state.State
	Log      Log
	Journal  *journal.Journal
	Chunks   *chunks.Keeper
	Importer Importer
	CA       *pki.CA
	Mesh     pki.MeshSecret
	Keys     func() (map[string][]byte, error) // the files of the secrets directory, for a joining controller
	Peers    *api.Client                       // to the other controllers, with this one's certificate
	Status   func() api.ControllerStatus       // without the counters, which are the Server's
	Logger   *slog.Logger
}

// Server answers the API. Serve may run on several listeners at once; the other methods may be called by any number
// of goroutines.
type Server struct {
	cfg     Config
	handler http.Handler

	feed     feed
	served   served
	relays   relays
	messages messages
	egress   egress
	joins    limiter
	imports  imports
	fetching singleflight.Group

	description func() []byte // of the API
	confidence  catalog.Confidence

	drainOnce sync.Once
	draining  chan struct{} // closed when requests that wait for news should end
	inFlight  flights
	localUID  int // besides root, who may use the socket: the user that this process runs as
}

// New makes a Server. It starts nothing.
func New(cfg Config) *Server {
	s := &Server{
		cfg:      cfg,
		served:   served{by: map[string]int64{}},
		relays:   relays{seen: map[catalog.RelayName]relaySeen{}},
		joins:    newLimiter(),
		draining: make(chan struct{}),
		localUID: ownUID(),

		description: sync.OnceValue(OpenAPI),
	}
	s.feed.state = cfg.State
	s.handler = s.routes(table)
	return s
}

// Time-outs of a connection. What a request may take by itself is in the table of routes.
const (
	headerTime = 10 * time.Second // for the header of a request to arrive
	idleTime   = 2 * time.Minute  // between two requests
	drainTime  = 5 * time.Second  // for requests under way when the server stops
	maxHeader  = 32 << 10
)

// Serve answers the requests of a listener until ctx ends, then lets those under way end for a few seconds, and
// returns nil when all have. Its connections are *tls.Conn made with ServerTLS of pkg/pki, or of a unix socket;
// others are served, too, and nothing is allowed on them.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withProcess,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	s.drainOnce.Do(func() { close(s.draining) })
	patience, stop := context.WithTimeout(base, drainTime)
	defer stop()
	err := srv.Shutdown(patience)
	cancel() // what is left is given up
	if err != nil {
		srv.Close()
	}
	if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	s.inFlight.wait()
	return nil
}

// ChunksServed tells how often each chunk was sent to relays since the start; the keys are chunk IDs as text.
func (s *Server) ChunksServed() map[string]int64 { return s.served.each() }

// Access says who may speak to the API, for the listener's TLS configuration: everybody who has a certificate of
// the cluster, and whoever has none yet and comes to join. What they may do is decided at each request.
func Access() pki.Access {
	return pki.Access{
		Protocols: []string{api.ALPNH2, api.ALPNHTTP},
		Roles:     []pki.Role{pki.Controller, pki.Relay, pki.Operator},
		Anonymous: true,
	}
}
