// Package controller is a controller of the cluster: it holds the declared state with its peers, in a replicated log,
// keeps the chunks of images, and answers the API.
//
// Here everything is wired; the parts are in the packages below. See DESIGN.md.
package controller

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/controller/apiserver"
	"github.com/wulfmesh/wulfmesh/controller/chunks"
	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/controller/publish"
	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/replication"
)

// Config is what a controller is given.
type Config struct {
	Dir      string                            // its data; an empty directory becomes a cluster of one
	Listener net.Listener                      // of connections that TLS is yet to be spoken on; Run closes it
	Local    net.Listener                      // the unix socket for root; nil: none; Run closes it
	Dial     api.DialFunc                      // nil: the system's network
	Agents   func(arch string) ([]byte, error) // the program wulf-agent for stage one
	Version  string
	Log      *slog.Logger

	Heartbeat   time.Duration // of the log; 0: its usual one
	StableAfter time.Duration // until a new controller gets its vote; 0: the usual time
	CommitEvery time.Duration // see replication.Config; 0: the usual one
	Chunks      chunks.Config // Grace, Scrub and Reserve only
}

// Controller is one controller. Make it with New and let it live in Run.
type Controller struct {
	cfg      Config
	settings Settings
	secrets  *secrets
	keeper   *pki.Keeper
	peers    *api.Client

	state   *state.State
	node    *replication.Node
	disk    *chunkstore.Dir
	chunks  *chunks.Keeper
	journal *journal.Journal
	api     *apiserver.Server
	front   *front
}

// New makes a controller out of its data directory. It starts nothing, but a directory that is empty becomes the
// first controller of a cluster of its own.
func New(cfg Config) (*Controller, error) {
	s, err := Open(cfg.Dir, Settings{Listen: cfg.Listener.Addr().String()})
	if err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	c := &Controller{cfg: cfg, settings: s, state: state.New()}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := s.checkLog(cfg.Dir); err != nil {
		return nil, err
	}
	if c.secrets, err = loadSecrets(cfg.Dir); err != nil {
		return nil, err
	}
	own, err := pki.LoadCredentials(filepath.Join(cfg.Dir, identityFile))
	if err != nil {
		return nil, err
	}
	c.keeper = pki.NewKeeper(own)
	c.front = newFront(cfg.Listener, pki.ServerTLS(c.keeper,
		pki.Access{Protocols: []string{api.ALPNRaft}, Roles: []pki.Role{pki.Controller}, Admit: c.mayReplicate},
		apiserver.Access()), cfg.Log)
	c.peers = api.NewClient(api.ClientConfig{
		Endpoints: func() []string { return nil }, // each request says which controller it is for
		TLS:       pki.ClientTLS(c.keeper, []string{api.ALPNHTTP}, pki.Controller),
		Dial:      cfg.Dial,
	})
	if err := c.replicate(); err != nil {
		return nil, err
	}
	return c, c.assemble()
}

// replicate makes this controller's part of the log.
func (c *Controller) replicate() (err error) {
	dir := filepath.Join(c.cfg.Dir, logDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c.node, err = replication.New(replication.Config{
		ID:          string(c.settings.Name),
		Dir:         dir,
		Addr:        c.settings.Advertise,
		Listener:    c.front.log,
		Dial:        c.dialLog,
		Logger:      c.cfg.Log,
		PeerName:    peerName,
		Admit:       c.mayJoin,
		Bootstrap:   c.settings.Found,
		Peers:       c.settings.Endpoints,
		MaxCommand:  catalog.MaxEntry,
		Heartbeat:   c.cfg.Heartbeat,
		StableAfter: c.cfg.StableAfter,
		CommitEvery: c.cfg.CommitEvery,
	}, c.state)
	if err != nil {
		return err
	}
	c.state.Attach(ordered{c.node, c.peers})
	return nil
}

// assemble makes what works on the state.
func (c *Controller) assemble() (err error) {
	at := func(name string) string { return filepath.Join(c.cfg.Dir, name) }
	if c.disk, err = chunkstore.NewDir(at(chunksDir), durable.FS{}); err != nil {
		return err
	}
	keep := c.cfg.Chunks
	keep.Self, keep.Store, keep.Catalog, keep.Voters, keep.Peers, keep.Log = c.settings.Name, c.disk, c.state, c.voters, c.peers, c.cfg.Log
	c.chunks = chunks.New(keep)
	if c.journal, err = journal.New(journal.Config{Name: c.settings.Name, Dir: at(journalDir), Log: c.cfg.Log}); err != nil {
		return err
	}
	trust, err := json.Marshal(c.trust())
	if err != nil {
		return err
	}
	importer, err := publish.New(publish.Config{
		Chunks: c.chunks.Store(), Key: c.secrets.manifest, Trust: trust, Agents: c.cfg.Agents, Work: at(workDir), Log: c.cfg.Log,
	})
	if err != nil {
		return err
	}
	c.api = apiserver.New(apiserver.Config{
		Name: c.settings.Name, State: c.state, Log: c.node, Journal: c.journal, Chunks: c.chunks, Importer: importer,
		CA: c.secrets.ca, Mesh: c.secrets.mesh, Keys: func() (map[string][]byte, error) { return readSecrets(c.cfg.Dir) },
		Peers: c.peers, Status: c.Status, Logger: c.cfg.Log,
	})
	return nil
}

// trust is whom the nodes of this cluster believe.
func (c *Controller) trust() api.NodeTrust {
	return api.NodeTrust{
		Cluster: c.settings.Cluster, CA: string(c.secrets.ca.Trust().PEM()),
		ManifestKeys: [][]byte{c.secrets.manifest.Public().(ed25519.PublicKey)},
	}
}

// Settings are what the controller is by itself.
func (c *Controller) Settings() Settings { return c.settings }

// Catalog is the newest catalog that this controller knows.
func (c *Controller) Catalog() *catalog.Catalog { return c.state.Current() }

// ChunksServed tells how often each chunk was sent to relays since the start, by chunk ID.
func (c *Controller) ChunksServed() map[string]int64 { return c.api.ChunksServed() }

// Run takes part in the cluster until ctx ends, and leaves nothing behind. It ends by itself, with an error, when
// going on could do harm: see replication.Node.Run.
//
// It stops in two steps: requests under way get a few seconds, and what serves them works on until they are done.
func (c *Controller) Run(ctx context.Context) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	core, base := errgroup.WithContext(base)
	for _, run := range []func(context.Context) error{c.front.run, c.node.Run, c.chunks.Run, c.journal.Run, c.lead, c.discover, c.renew, c.remember} {
		core.Go(func() error { return run(base) })
	}
	serveCtx, stopServing := context.WithCancel(ctx)
	defer stopServing()
	defer context.AfterFunc(base, stopServing)() // what serves nobody any more must not take requests
	serving, serveCtx := errgroup.WithContext(serveCtx)
	serving.Go(func() error { return c.api.Serve(serveCtx, c.front.http) })
	if c.cfg.Local != nil {
		serving.Go(func() error { return c.api.Serve(serveCtx, c.cfg.Local) })
	}
	served := serving.Wait()
	stop()
	err := core.Wait()
	c.peers.Close()
	for _, err := range []error{err, served} {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// dialLog connects to another controller's part of the log.
func (c *Controller) dialLog(ctx context.Context, network, addr string) (net.Conn, error) {
	raw, err := c.cfg.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, pki.ClientTLS(c.keeper, []string{api.ALPNRaft}, pki.Controller))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// peerName is the name that the certificate at the other end of a connection of the log gives.
func peerName(conn net.Conn) (string, error) {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return "", fault.New(fault.Internal, "a connection of the log is a %T", conn)
	}
	id, err := pki.PeerIdentity(t.ConnectionState())
	return id.Name, err
}
