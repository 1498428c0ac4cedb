// Package httpd is a relay's HTTP: plain for firmware and boot loaders, which speak nothing else, and HTTPS for
// agents and other relays.
//
// Plain HTTP serves only what anybody may have: scripts, kernels, stage ones, images, boot programs; and for a
// one-stage boot, against its ticket, the node's overlays. Agents fetch images there too, and verify them. Everything
// else is on the HTTPS listener: sessions, overlays and events for nodes that hold a ticket or a session, chunks for
// relays that show a certificate.
package httpd

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/relay/cache"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// Feed is what the server asks of the declared state: relay/feed.
type Feed interface {
	Catalog() *catalog.Catalog
	Plan(boot.Request) (boot.Plan, error)
	Admitted() error // why this relay may serve nothing, or nil
	Secrets() *feed.Secrets
	SecretsChanged() <-chan struct{}
	Changed() <-chan struct{} // closes when Catalog no longer returns what it returns now
}

// Chunks is what the server asks of the relay's chunks: relay/cache.
type Chunks interface {
	Open(ctx context.Context, ref chunk.Ref, req cache.Request) (chunkstore.File, error)
	Held(ref chunk.Ref) (chunkstore.File, bool)
	ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error)
	Public(ctx context.Context, id chunk.ID) (chunk.Ref, error)
	Manifest(ctx context.Context, id chunk.ID) (*chunk.Manifest, error)
	Size(id chunk.ID) (int64, bool)
}

// Config is what a Server needs; all of it is required, but for Loader, Counters and Machine.
type Config struct {
	Name     catalog.RelayName
	Feed     Feed
	Chunks   Chunks
	Record   func(boot.Event)
	Live     func() []catalog.RelayName               // relays that are alive
	Now      func() time.Time                         // by which tickets and sessions are sealed and judged; nil: the system's
	Loader   func(name string) (body []byte, ok bool) // boot programs; nil: none
	Counters func() []Counter                         // what else /metrics shows; nil: nothing
	// Machine tells whose an address is, for what is said of machines that do not say who they are; nil: nobody knows.
	Machine func(netip.Addr) (node catalog.NodeName, hw catalog.HardwareAddr, ok bool)
	Log     *slog.Logger
}

// Times. Firmware may need minutes for an image, and while it takes what it is sent it is not cut off: see reply.
const (
	headerTime = 10 * time.Second
	idleTime   = 60 * time.Second
	drainTime  = 5 * time.Second
)

// Server serves both listeners.
type Server struct {
	cfg      Config
	turns    *turns
	conns    *conns
	meters   *meters
	counts   *counts
	booting  *booting
	claims   *claims
	troubles *troubles
	overlays *overlays
	waits    *waits

	strangers *strangers

	// For nodes with images of Warewulf.
	ww        *seen
	images    *images
	unpacking chan struct{} // of images, one each
}

// New makes a server; Run starts it.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	turns := newTurns()
	return &Server{
		cfg: cfg, turns: turns, conns: newConns(turns.away), meters: newMeters(), counts: newCounts(),
		booting: newBooting(), claims: newClaims(), troubles: newTroubles(), overlays: newOverlays(cfg), waits: newWaits(), strangers: newStrangers(),
		ww: newSeen(), images: &images{cfg: cfg}, unpacking: make(chan struct{}, maxUnpacking),
	}
}

// Run serves until ctx ends: firmware on plain, agents and relays on mesh, whose connections are TLS by
// pki.ServerTLS with relays and anonymous peers admitted. It closes both.
func (s *Server) Run(ctx context.Context, plain, mesh net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range []struct {
		net.Listener
		http.Handler
	}{{plain, s.plain()}, {mesh, s.mesh()}} {
		srv := &http.Server{
			Handler: l.Handler, ReadHeaderTimeout: headerTime, ReadTimeout: headerTime + bodyTime, IdleTimeout: idleTime, MaxHeaderBytes: 16 << 10,
			ConnState: s.conns.state, ErrorLog: log.New(&complaints{s}, "", 0),
		}
		srv.RegisterOnShutdown(s.waits.end)
		g.Go(func() error {
			if err := srv.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			if srv.Shutdown(drain) != nil {
				srv.Close() // somebody is still being sent an image; another relay will go on
			}
			return nil
		})
	}
	return g.Wait()
}

// handler answers a request; its error is turned into an answer.
type handler func(http.ResponseWriter, *http.Request) error

func (s *Server) plain() http.Handler {
	m := http.NewServeMux()
	s.route(m, "GET", api.PathScript, s.script)
	s.route(m, "GET", api.PathBootOverlay, s.bootOverlay)
	s.route(m, "GET", api.PathNodeChunk, s.plainChunk)
	s.route(m, "GET", api.PathFile, s.file)
	s.route(m, "GET", api.PathLoader, s.loader)
	s.route(m, "GET", "/healthz", func(w http.ResponseWriter, _ *http.Request) error {
		_, err := w.Write([]byte("ok\n"))
		return err
	})
	s.warewulfRoutes(m)
	m.HandleFunc("GET /metrics", s.metrics)
	return single(m)
}

func (s *Server) mesh() http.Handler {
	m := http.NewServeMux()
	s.route(m, "GET", api.PathNodeChunk, s.nodeChunk)
	s.route(m, "GET", api.PathFile, s.file)
	s.route(m, "POST", api.PathSessions, s.session)
	s.route(m, "GET", api.PathNodeOverlay, s.withSession(s.nodeOverlay))
	s.route(m, "GET", api.PathNodeContent, s.withSession(s.nodeContent))
	s.route(m, "POST", api.PathNodeEvents, s.withSession(s.events))
	s.route(m, "GET", api.PathMeshChunk, s.relaysOnly(s.meshChunk))
	return m
}

// route serves a path: it answers nobody while this relay is not admitted, names the relay and the revision in every
// answer, turns a handler's error into one, and counts.
func (s *Server) route(m *http.ServeMux, method, path string, h handler) {
	m.HandleFunc(method+" "+path, func(rw http.ResponseWriter, r *http.Request) {
		w := &reply{ResponseWriter: rw}
		defer s.counts.add(path, w) // also of an answer that is broken off
		w.Header().Set(api.HeaderRelay, string(s.cfg.Name))
		if err := s.cfg.Feed.Admitted(); err != nil {
			api.WriteError(w, err)
			return
		}
		w.Header().Set(api.HeaderRevision, revision(s.cfg.Feed.Catalog().Revision))
		if err := h(w, r); err != nil {
			s.cfg.Log.Debug("request is refused", "path", r.URL.Path, "peer", r.RemoteAddr, "err", err)
			api.WriteError(w, err)
		}
	})
}

// relaysOnly lets only admitted relays through.
func (s *Server) relaysOnly(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.TLS == nil {
			return errNoCertificate
		}
		id, err := pki.PeerIdentity(*r.TLS)
		if err != nil {
			return err
		}
		if _, ok := s.cfg.Feed.Catalog().Relay(catalog.RelayName(id.Name)); !ok || id.Role != pki.Relay {
			return errNoCertificate
		}
		return h(w, r)
	}
}

// local is the address that the peer speaks to.
func local(r *http.Request) netip.Addr {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
}

// remote is the address of the peer.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
