package mesh

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/relay"
	"github.com/wulfmesh/wulfmesh/relay/dhcpd"
)

// Relay is a real relay on a host of its own in the rack: r1 at 10.1.0.1, and so on.
type Relay struct {
	*process
	*relay.Relay // of the last start

	segment string
	breaks  atomic.Pointer[func(op durable.Op, path string) error] // see BreakDisk
	skew    atomic.Int64                                           // see SetClock
	loaders []string                                               // directories with its boot programs
}

// newRelay makes the host of the next relay.
func (m *Mesh) newRelay() *Relay {
	return m.newRelayOn(Segment, fmt.Sprintf("10.1.0.%d", len(m.Relays)+1))
}

func (m *Mesh) newRelayOn(segment, at string) *Relay {
	name := fmt.Sprintf("r%d", len(m.Relays)+1)
	host := m.Net.Host(name, at).Join(segment)
	r := &Relay{process: &process{Name: name, host: host, dir: filepath.Join(m.dir, name)}, segment: segment, loaders: []string{m.loaders()}}
	r.make = func() (_ runner, err error) {
		cfg := relay.Config{
			Dir: r.dir, DHCP: true, SinglePort: true, Loaders: r.loaders, Dial: host.Dial, Version: "test", Log: m.logger(name),
			Disk: durable.FS{Hook: r.disk}, Now: func() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) },
		}
		if err := r.listen(&cfg); err != nil {
			return nil, err
		}
		r.Relay, err = relay.New(cfg)
		return r.Relay, err
	}
	return r
}

// listen opens the sockets of a relay.
func (r *Relay) listen(cfg *relay.Config) error {
	link := dhcpd.Link{Name: r.segment, Addrs: []netip.Addr{r.host.Addr()}}
	for port, l := range map[int]*net.Listener{api.PortBoot: &cfg.Boot, api.PortMesh: &cfg.Mesh, api.PortGossip: &cfg.Gossip} {
		var err error
		if *l, err = r.host.Listen(fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
	}
	for port, p := range map[int]*net.PacketConn{67: &link.Conn, 4011: &link.PXE, 68: &link.Snoop} {
		var err error
		if *p, err = r.host.ListenPacketOn(r.segment, fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
	}
	cfg.Links = []dhcpd.Link{link}
	for port, p := range map[int]*net.PacketConn{69: &cfg.TFTP, api.PortGossip: &cfg.GossipPackets} {
		var err error
		if *p, err = r.host.ListenPacket(fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
	}
	return nil
}

// disk is the fate of a step of a durable write.
func (r *Relay) disk(op durable.Op, path string) error {
	if f := r.breaks.Load(); f != nil {
		return (*f)(op, path)
	}
	return nil
}

// BreakDisk has every write to the relay's disk fail with an error from now on; nil mends it.
func (r *Relay) BreakDisk(err error) {
	if err == nil {
		r.breaks.Store(nil)
		return
	}
	r.breaks.Store(new(func(op durable.Op, _ string) error {
		if op == durable.OpFree {
			return nil
		}
		return err
	}))
}

// SetClock sets the relay's clock ahead of the others', or behind.
func (r *Relay) SetClock(ahead time.Duration) { r.skew.Store(int64(ahead)) }

// SetLoaders replaces the directories with the relay's boot programs, from its next start on.
func (r *Relay) SetLoaders(dirs ...string) { r.loaders = dirs }

// SetMTU says what the relay's machine believes to be its largest packet.
func (r *Relay) SetMTU(bytes int) { r.host.SetMTU(bytes) }

// loaders is the directory with the boot programs, as iPXE's package would fill it.
func (m *Mesh) loaders() string {
	m.t.Helper()
	dir := filepath.Join(m.dir, "loaders")
	if _, err := os.Stat(dir); err == nil { // a relay may be reading them
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	for name, size := range map[string]int{"undionly.kpxe": 70_000, "snponly.efi": 180_000} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), size/len(name)), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	return dir
}

// AddRelay lets one more relay join by token through the API, and starts it.
func (m *Mesh) AddRelay() *Relay {
	m.t.Helper()
	r := m.newRelay()
	m.join(r)
	m.Relays = append(m.Relays, r)
	m.start(r.process)
	return r
}

// join admits a relay to the rack's network.
func (m *Mesh) join(r *Relay) { m.joinTo(r, Network) }

func (m *Mesh) joinTo(r *Relay, network catalog.NetworkName) {
	m.t.Helper()
	_, err := relay.Join(m.Ctx(), r.dir, relay.JoinConfig{
		Token:     m.Token(api.TokenRequest{Role: catalog.TokenRelay, Name: r.Name, Networks: []catalog.NetworkName{network}}),
		Endpoints: m.endpoints(), Dial: r.host.Dial,
		Settings: relay.Settings{Name: catalog.RelayName(r.Name), Addresses: []netip.Addr{r.host.Addr()}, Advertise: r.host.Addr()},
	})
	if err != nil {
		m.t.Fatalf("%s joins: %v", r.Name, err)
	}
}

// unsettled says what a relay lacks at a revision.
func (r *Relay) unsettled(rev catalog.Revision) string {
	switch st := r.Status(); {
	case st.Revision < rev:
		return fmt.Sprintf("at revision %d of %d", st.Revision, rev)
	case st.Cache.Missing > 0:
		return fmt.Sprintf("%d chunks are missing", st.Cache.Missing)
	}
	return ""
}

// ChunkFile is the file in which a relay keeps a chunk.
func (r *Relay) ChunkFile(id chunk.ID) string {
	name := id.String()
	return filepath.Join(r.dir, "chunks", name[:2], name)
}

// SetBandwidth limits what the relay's host sends and receives, each to so many bytes a second.
func (r *Relay) SetBandwidth(bytesPerSecond int64) { r.host.SetBandwidth(bytesPerSecond) }
