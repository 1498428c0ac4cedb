// Package relay is a relay of the cluster: it boots the nodes of its networks, with the controllers or without them.
//
// Here everything is wired; the parts are in the packages below. See DESIGN.md.
package relay

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/relay/cache"
	"github.com/wulfmesh/wulfmesh/relay/dhcp6d"
	"github.com/wulfmesh/wulfmesh/relay/dhcpd"
	"github.com/wulfmesh/wulfmesh/relay/feed"
	"github.com/wulfmesh/wulfmesh/relay/gossip"
	"github.com/wulfmesh/wulfmesh/relay/httpd"
	"github.com/wulfmesh/wulfmesh/relay/lease"
	"github.com/wulfmesh/wulfmesh/relay/spool"
	"github.com/wulfmesh/wulfmesh/relay/tftpd"
)

// Config is what a relay is given. The sockets are for the ports of its Settings; Run closes them.
type Config struct {
	Dir string // its data, where it has joined

	Boot          net.Listener   // plain HTTP
	Mesh          net.Listener   // of connections that TLS is yet to be spoken on
	Gossip        net.Listener   // and GossipPackets: of one port
	GossipPackets net.PacketConn // see Gossip
	DHCP          bool           // serve DHCP
	Links         []dhcpd.Link   // where; none: on the interfaces of this computer that reach a served network
	TFTP          net.PacketConn // of the port for requests; nil: not served
	TFTP6         net.PacketConn // the same of IPv6; nil: not served
	SinglePort    bool           // answer TFTP from TFTP itself, for firewalls that let no other port through
	Advertise     bool           // tell machines that there is no IPv6 router, on the interfaces that reach a served network; with DHCP serve DHCPv6, too

	Disk       durable.FS       // on which its data lies; the zero value is the machine's own
	Now        func() time.Time // its clock; nil: the system's
	StaleAfter time.Duration    // without a controller, after which it steps back behind other relays; 0: a day

	Loaders []string     // directories with boot programs, the best first; nil: LoaderDirs
	Budget  int64        // bytes for chunks; 0: what the disk has, but for a reserve
	Dial    api.DialFunc // nil: the system's network
	Version string
	Log     *slog.Logger

	GossipProfile gossip.Profile // what is zero is usual
	Settle        time.Duration  // until the other relays are known, so that chunks are fetched from them; 0: a few seconds
}

const (
	dialTime    = 3 * time.Second // a host that does not answer must not hold up a boot
	usualSettle = 5 * time.Second
	usualStale  = 24 * time.Hour
)

// Relay is one relay. Make it with New and let it live in Run.
type Relay struct {
	cfg      Config
	settings Settings
	log      *slog.Logger
	started  time.Time
	keeper   *pki.Keeper
	clock    *clock
	back     atomic.Bool // see steps

	controllers *api.Client
	relays      *api.Client

	feed    *feed.Feed
	mesh    *mesh
	cache   *cache.Cache
	spool   *spool.Spool
	leases  *lease.Book
	http    *httpd.Server
	dhcp    *dhcpd.Server   // nil: not served
	dhcp6   *dhcp6d.Server  // likewise
	tftp    []*tftpd.Server // one for each version of IP that it is served by
	loaders *loaders
}

// New makes a relay out of its data directory. It starts nothing. Without a relay there it is fault.NotFound.
func New(cfg Config) (*Relay, error) {
	s, err := LoadSettings(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	own, err := pki.LoadCredentials(filepath.Join(cfg.Dir, identityFile))
	if err != nil {
		return nil, err
	}
	if id := own.Identity(); id.Cluster != s.Cluster || id.Role != pki.Relay || id.Name != string(s.Name) {
		return nil, fault.New(fault.Corrupt, "%s has a certificate for %s, but its settings are of relay %s of cluster %s", cfg.Dir, id, s.Name, s.Cluster)
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	cfg.Dial = within(dialTime, cfg.Dial)
	if cfg.Settle == 0 {
		cfg.Settle = usualSettle
	}
	if cfg.StaleAfter == 0 {
		cfg.StaleAfter = usualStale
	}
	r := &Relay{cfg: cfg, settings: s, log: cfg.Log, started: time.Now(), keeper: pki.NewKeeper(own), loaders: newLoaders(cfg.Loaders), clock: newClock(cfg.Now)}
	r.controllers = r.client(pki.Controller, 0)
	r.relays = r.client(pki.Relay, -1) // the cache sees for itself whether a chunk comes nearer, which takes as long as it takes
	return r, r.assemble()
}

// client makes a client to the members of a role, whose answers may take so long to begin.
func (r *Relay) client(role pki.Role, header time.Duration) *api.Client {
	return api.NewClient(api.ClientConfig{
		Endpoints: r.endpoints, TLS: pki.ClientTLS(r.keeper, []string{api.ALPNHTTP}, role), Dial: r.cfg.Dial, Heard: r.clock.hear(role == pki.Controller),
		Header: header,
	})
}

// within bounds how long a connection may take to be made.
func within(d time.Duration, dial api.DialFunc) api.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return dial(ctx, network, addr)
	}
}

// assemble makes the parts.
func (r *Relay) assemble() (err error) {
	name, at := r.settings.Name, func(file string) string { return filepath.Join(r.cfg.Dir, file) }
	r.mesh = &mesh{cfg: r.cfg, settings: r.settings, unwell: r.steps, serves: r.leasing, started: time.Now()}
	if r.feed, err = feed.Open(feed.Config{
		Dir: at(feedDir), Disk: r.cfg.Disk, Name: name, Key: r.keeper.Credentials().KeyHash(), Cluster: r.settings.Cluster, Client: r.controllers, Endpoints: r.endpoints,
		Unwell: r.steps, Status: r.Status, Relays: r.mesh.size, Log: r.log,
	}); err != nil {
		return err
	}
	r.mesh.feed = r.feed
	if r.cache, err = cache.New(cache.Config{
		Dir: at(chunksDir), Disk: r.cfg.Disk, Budget: r.cfg.Budget, Name: name, Catalog: r.feed.Catalog, Changed: r.feed.Changed, Peers: r.mesh.peers,
		Relays: r.relays, Controllers: r.controllers, Endpoints: r.endpoints, Settle: r.cfg.Settle, Log: r.log,
	}); err != nil {
		return err
	}
	r.spool = spool.New(spool.Config{
		Relay: name, Controllers: r.endpoints, Relays: r.mesh.size, Path: at(eventsFile), Disk: r.cfg.Disk, Log: r.log,
		Send: func(ctx context.Context, controller string, batch api.EventBatch) error {
			return r.controllers.PostAt(ctx, controller, api.PathEvents, batch, nil)
		},
	})
	if r.leases, err = lease.New(lease.Config{
		Relay: name, Catalog: r.feed.Catalog, Live: r.mesh.leasing, Serves: r.leasing, Path: at(leasesFile), FS: r.cfg.Disk, Log: r.log,
	}); err != nil {
		return err
	}
	r.http = httpd.New(httpd.Config{
		Name: name, Feed: r.feed, Chunks: r.cache, Record: r.record, Live: r.mesh.preferred, Now: r.clock.now, Loader: r.loaders.Loader, Counters: r.counters, Machine: r.machine, Log: r.log,
	})
	for _, conn := range []net.PacketConn{r.cfg.TFTP, r.cfg.TFTP6} {
		if conn != nil {
			r.tftp = append(r.tftp, tftpd.New(tftpd.Config{
				Conn: conn, SinglePort: r.cfg.SinglePort, Loader: r.loaders.Loader, Machine: r.machine, Record: r.record, Log: r.log,
			}))
		}
	}
	if r.cfg.DHCP {
		r.dhcp = dhcpd.New(dhcpd.Config{
			Relay: name, Planner: r.feed.Planner(r.mesh.answering), Leases: r.leases, HasLoader: r.loaders.Has, Recorder: recorder{r}, Links: r.cfg.Links, Log: r.log,
			Scope: func() dhcpd.Scope { return dhcpd.ScopeOf(r.feed.Catalog(), name) }, Changed: r.feed.Changed,
		})
	}
	if r.cfg.DHCP && r.cfg.Advertise {
		r.dhcp6 = dhcp6d.New(dhcp6d.Config{
			Relay: name, Cluster: r.settings.Cluster, Planner: r.feed.Planner(r.mesh.answering), Catalog: r.feed.Catalog, Changed: r.feed.Changed,
			HasLoader: r.loaders.Has, Record: r.record, Log: r.log,
		})
	}
	return nil
}

// endpoints are the controllers: those of the catalog, and before there is one, those that the relay joined through.
func (r *Relay) endpoints() []string {
	var all []string
	if r.feed != nil {
		for c := range r.feed.Catalog().Controllers() {
			all = append(all, c.API)
		}
	}
	if len(all) == 0 {
		return r.settings.Endpoints
	}
	return all
}

// Settings are what the relay is by itself.
func (r *Relay) Settings() Settings { return r.settings }

// Catalog is the catalog that the relay serves now.
func (r *Relay) Catalog() *catalog.Catalog { return r.feed.Catalog() }

// Run serves until ctx ends, and leaves nothing behind. It ends by itself, with an error, when a socket fails.
func (r *Relay) Run(ctx context.Context) error {
	defer r.controllers.Close()
	defer r.relays.Close()
	r.look() // before it tells anybody how it is
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		r.feed.Run, r.mesh.run, r.cache.Run, r.spool.Run, r.leases.Run, r.renew, r.remember, r.watch,
		func(ctx context.Context) error {
			return r.http.Run(ctx, r.cfg.Boot, tls.NewListener(r.cfg.Mesh, r.tls()))
		},
	} {
		g.Go(func() error { return run(ctx) })
	}
	if r.dhcp != nil {
		g.Go(func() error { return r.dhcp.Run(ctx) })
	}
	if r.dhcp6 != nil {
		g.Go(func() error { return r.dhcp6.Run(ctx) })
	}
	for _, of := range r.tftp {
		g.Go(func() error { return of.Run(ctx) })
	}
	if r.cfg.Advertise {
		g.Go(func() error { return r.advertise(ctx) })
	}
	return g.Wait()
}

// leasing tells whether this relay serves DHCP anywhere.
func (r *Relay) leasing() bool { return r.dhcp != nil && r.dhcp.Serving() }

// machine tells whose an address is: a machine's that was given it here, a node's that declares it, or one's that
// another relay gave it from the pool of a network that this one serves too.
func (r *Relay) machine(a netip.Addr) (catalog.NodeName, catalog.HardwareAddr, bool) {
	if r.dhcp != nil {
		if node, hw, ok := r.dhcp.Machine(a); ok {
			return node, hw, true
		}
	}
	c := r.feed.Catalog()
	if n, ok := c.NodeByAddress(a); ok {
		for _, d := range n.Settings.Nets {
			if d.Hardware != nil && (d.Address != nil && *d.Address == a || d.Address6 != nil && *d.Address6 == a) {
				return n.Name, *d.Hardware, true
			}
		}
		return n.Name, "", true
	}
	self, ok := c.Relay(r.settings.Name)
	if !ok {
		return "", "", false
	}
	if hw, made := catalog.Hardware6(a); made {
		return madeOf(c, self, a, hw)
	}
	return "", "", slices.ContainsFunc(self.Networks, func(name catalog.NetworkName) bool {
		n, ok := c.Network(name)
		return ok && n.Pool.Contains(a)
	})
}

// madeOf tells whose an address is that was made of a hardware address: a node's, or that of a machine that is not known
// where such are welcome.
func madeOf(c *catalog.Catalog, self *catalog.Relay, a netip.Addr, hw catalog.HardwareAddr) (catalog.NodeName, catalog.HardwareAddr, bool) {
	node, known := c.NodeByHardware(hw)
	if known && a.IsLinkLocalUnicast() {
		return node.Name, hw, true
	}
	n, ok := c.NetworkOf(a)
	switch {
	case !ok || !slices.Contains(self.Networks, n.Name):
		return "", "", false
	case known:
		return node.Name, hw, true
	}
	return "", hw, n.Pool.First.IsValid()
}

// tls is who may speak to the mesh's listener: relays by certificate, as long as the catalog has them with that key,
// and anybody without one, whom the paths then ask for a ticket or a session.
func (r *Relay) tls() *tls.Config {
	return pki.ServerTLS(r.keeper, pki.Access{
		Protocols: []string{api.ALPNHTTP}, Roles: []pki.Role{pki.Relay}, Anonymous: true,
		Admit: func(id pki.Identity, cert *x509.Certificate) error {
			peer, ok := r.feed.Catalog().Relay(catalog.RelayName(id.Name))
			if !ok || subtle.ConstantTimeCompare(peer.Key, pki.KeyHash(cert)) != 1 {
				return fault.New(fault.Denied, "relay %s is not admitted, or no longer, with this key", id.Name)
			}
			return nil
		},
	})
}

// remember keeps the controllers' addresses for a start without a catalog.
func (r *Relay) remember(ctx context.Context) error {
	s := r.settings
	for {
		changed := r.feed.Changed()
		if now := r.endpoints(); !slices.Equal(now, s.Endpoints) {
			s.Endpoints = now
			if err := s.save(r.cfg.Dir); err != nil {
				r.log.Warn("the controllers' addresses cannot be kept", "relay", s.Name, "err", err)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Status is what the relay tells the controllers of itself.
func (r *Relay) Status() api.RelayStatus {
	state := r.feed.State()
	s := api.RelayStatus{
		Name: r.settings.Name, Version: r.cfg.Version, Revision: state.Revision, Hash: state.Hash,
		Started: r.started, Time: r.clock.system(), Cache: r.cache.Status(), Load: r.http.Load(),
	}
	s.Problems = append(s.Problems, r.unwell()...)
	s.Unwell = r.steps()
	for _, name := range r.mesh.live() {
		s.Members = append(s.Members, string(name))
	}
	s.Problems = append(s.Problems, state.Problems...)
	s.Problems = append(s.Problems, r.cache.Problems()...)
	s.Problems = append(s.Problems, r.spool.Problems()...)
	s.Problems = append(s.Problems, r.leases.Problems()...)
	if r.dhcp != nil {
		s.Problems = append(s.Problems, r.dhcp.Problems()...)
	}
	if r.dhcp6 != nil {
		s.Problems = append(s.Problems, r.dhcp6.Problems()...)
	}
	s.Problems = append(s.Problems, r.loaders.problem(), expiry(r.keeper.Credentials(), time.Now()))
	said := map[string]bool{"": true}
	s.Problems = slices.DeleteFunc(s.Problems, func(p string) bool {
		again := said[p]
		said[p] = true
		return again
	})
	return s
}
