package dhcpd

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/relay/lease"
)

// Machines of the test cluster.
const (
	hwKnown   = "52:54:00:00:00:01" // node n001, 10.1.0.1 in rack1
	hwKnown2  = "52:54:00:00:00:02" // node n002, 10.2.0.2 in rack2
	hwUnknown = "52:54:00:00:00:99"
)

// cluster is a catalog that a test writes.
type cluster struct {
	t  testing.TB
	mu sync.Mutex
	c  *catalog.Catalog
}

// newCluster has the networks rack1 (with a pool), rack2 (without), proxied and silent, two nodes, and relays r1 and r2
// in all of them.
func newCluster(t testing.TB, at time.Time) *cluster {
	t.Helper()
	k := &cluster{t: t, c: &catalog.Catalog{}}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	node := func(name, hw, ip string) catalog.Node {
		return catalog.Node{Name: catalog.NodeName(name), Settings: catalog.Settings{Image: new("debian"),
			Nets: map[string]catalog.NetDev{"default": {Hardware: new(catalog.HardwareAddr(hw)), Address: new(addr(ip))}}}}
	}
	k.do(at,
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack1", Prefix: prefix("10.1.0.0/24"), Gateway: addr("10.1.0.254"), DNS: []netip.Addr{addr("10.0.0.53"), addr("10.0.0.54")},
			NTP: []netip.Addr{addr("10.0.0.123")}, Domain: "lab.example", MTU: 9000, Pool: catalog.Range{First: addr("10.1.0.200"), Last: addr("10.1.0.231")}}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack2", Prefix: prefix("10.2.0.0/24"), Gateway: addr("10.2.0.254")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "proxied", Prefix: prefix("10.3.0.0/24"), DHCP: catalog.DHCPProxy}},
		catalog.AddNetwork{Network: catalog.Network{Name: "silent", Prefix: prefix("10.4.0.0/24"), DHCP: catalog.DHCPOff}},
		catalog.PutImage{Name: "debian", Version: catalog.ImageVersion{Manifest: chunk.RefOf([]byte("m")), Arch: "amd64", Kernels: []chunk.Kernel{{Version: "6.1.0-1"}}}},
		catalog.AddNodes{Nodes: []catalog.Node{node("n001", hwKnown, "10.1.0.1"), node("n002", hwKnown2, "10.2.0.2")}},
	)
	for i, name := range []catalog.RelayName{"r1", "r2"} {
		host := byte(250 + i)
		k.do(at.Add(time.Duration(i)*time.Second),
			catalog.AddToken{Token: catalog.Token{ID: "token" + string(name), Hash: []byte("h"), Role: catalog.TokenRelay, Uses: 1, Expires: at.Add(time.Hour),
				Networks: []catalog.NetworkName{"rack1", "rack2", "proxied", "silent"}}},
			catalog.AdmitRelay{Token: "token" + string(name), Hash: []byte("h"), Relay: catalog.Relay{Name: name, Key: []byte(name), BootPort: 4480, MeshPort: 4481,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, host}), netip.AddrFrom4([4]byte{10, 2, 0, host}), netip.AddrFrom4([4]byte{10, 3, 0, host}), netip.AddrFrom4([4]byte{10, 4, 0, host})},
				Mesh:      fmt.Sprintf("10.1.0.%d:4481", host), Gossip: fmt.Sprintf("10.1.0.%d:4482", host)}})
	}
	return k
}

func (k *cluster) do(at time.Time, changes ...catalog.Change) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, change := range changes {
		b, err := catalog.Entry{By: "test", At: at, Change: change}.Encode()
		if err != nil {
			k.t.Fatal(err)
		}
		next, out, err := k.c.Apply(k.c.Revision+1, b)
		if err != nil || out.Err != nil {
			k.t.Fatalf("%s: %v %v", catalog.KindOf(change), err, out.Err)
		}
		k.c = next
	}
}

func (k *cluster) catalog() *catalog.Catalog {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.c
}

// planner plans from the cluster's catalog; live are the relays that are held for alive, nil for all.
type planner struct {
	k    *cluster
	live func() []catalog.RelayName
}

func (p planner) Plan(req boot.Request) (boot.Plan, error) {
	if p.live != nil {
		req.Live = p.live()
	}
	return boot.Resolve(p.k.catalog(), req)
}

func (p planner) Known(hw catalog.HardwareAddr) bool {
	_, ok := p.k.catalog().NodeByHardware(hw)
	return ok
}

func (p planner) Edition() any {
	type edition struct {
		c    *catalog.Catalog
		live string
	}
	e := edition{c: p.k.catalog()}
	if p.live != nil {
		e.live = fmt.Sprintf("%q", p.live())
	}
	return e
}

// journal keeps events.
type journal struct {
	mu     sync.Mutex
	events []boot.Event
}

func (j *journal) Record(e boot.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) take() []boot.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.events
	j.events = nil
	return events
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// config is that of a relay with leases in memory.
func (k *cluster) config(relay catalog.RelayName, j *journal, live func() []catalog.RelayName) Config {
	k.t.Helper()
	book, err := lease.New(lease.Config{Relay: relay, Catalog: k.catalog, Live: live, Log: quiet()})
	if err != nil {
		k.t.Fatal(err)
	}
	return Config{Relay: relay, Planner: planner{k, live}, Leases: book, Recorder: j, Log: quiet(),
		Scope: func() Scope { return ScopeOf(k.catalog(), relay) }}
}

// wire is a connection that keeps what is sent on it.
type wire struct {
	net.PacketConn
	sent []sent
}

type sent struct {
	how string // "" through the socket, or the hardware address of a frame
	to  netip.AddrPort
	b   []byte
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.sent = append(w.sent, sent{"", addrPort(to), bytes.Clone(b)})
	return len(b), nil
}

func (w *wire) SendFrame(to net.HardwareAddr, _, dst netip.AddrPort, b []byte) error {
	w.sent = append(w.sent, sent{to.String(), dst, bytes.Clone(b)})
	return nil
}

// ask has the server handle one packet, and returns what it sends.
func ask(s *Server, p *dhcpv4.DHCPv4, more ...func(*datagram)) []sent {
	w := &wire{}
	in := s.pool.get(&Link{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.250")}, Conn: w, Raw: w, PXE: w}, false)
	in.n = copy(in.buf[:], p.ToBytes())
	in.from = netip.MustParseAddrPort("0.0.0.0:68")
	in.waited = true // for relays before us
	for _, f := range more {
		f(in)
	}
	d := newDesk(1)
	s.safely(d, in)
	s.clear(d)
	return w.sent
}

func on(addr string) func(*datagram) {
	return func(d *datagram) { d.link.Addrs = []netip.Addr{netip.MustParseAddr(addr)} }
}

func from(addr string) func(*datagram) {
	return func(d *datagram) { d.from = netip.MustParseAddrPort(addr) }
}

func broadcastTo(port int) net.Addr { return &net.UDPAddr{IP: net.IPv4bcast, Port: port} }

func unicast(d *datagram) { d.unicast = true }
func toPXE(d *datagram)   { d.pxe = true }

// message is a client's packet.
func message(kind dhcpv4.MessageType, hw string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	mac, err := net.ParseMAC(hw)
	if err != nil {
		panic(err)
	}
	p := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, TransactionID: dhcpv4.TransactionID{0xaa, 0xbb, 0xcc, 0xdd}, ClientHWAddr: mac,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero, Options: dhcpv4.Options{}}
	p.UpdateOption(dhcpv4.OptMessageType(kind))
	for _, m := range mods {
		m(p)
	}
	return p
}

func generic(code uint8, value ...byte) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value))
}

func broadcast(p *dhcpv4.DHCPv4) { p.SetBroadcast() }

func serverID(addr string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(addr).To4()))
}

func requested(addr string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(addr).To4()))
}

func ciaddr(addr string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(addr).To4()) }

func giaddr(addr string) dhcpv4.Modifier { return dhcpv4.WithRelay(net.ParseIP(addr).To4()) }

// pxe is what PXE firmware of an architecture says of itself; the list is that of OVMF.
func pxe(class string, arch uint16) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		generic(60, fmt.Appendf(nil, "%s:Arch:%05d:UNDI:003001", class, arch)...)(p)
		generic(93, byte(arch>>8), byte(arch))(p)
		generic(94, 1, 3, 1)(p)
		generic(97, append([]byte{0}, "0123456789abcdef"...)...)(p)
		generic(55, 1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, 128)(p)
		generic(57, 0x05, 0xc0)(p)
	}
}

// ipxe is what iPXE says of itself on BIOS.
func ipxe(features ...byte) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		pxe(classPXE, 0)(p)
		generic(55, 1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203)(p)
		generic(77, []byte("iPXE")...)(p)
		var f []byte
		for _, x := range append(features, 0xeb) {
			f = append(f, x, 1, 1)
		}
		generic(175, f...)(p)
		generic(61, append([]byte{1}, p.ClientHWAddr...)...)(p)
	}
}

// linux is what a system's client asks for.
func linux(p *dhcpv4.DHCPv4) {
	generic(55, 1, 3, 6, 12, 15, 26, 28, 42)(p)
	generic(61, append([]byte{255, 0, 0, 0, 1}, "duid"...)...)(p)
}
