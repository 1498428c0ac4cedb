package dhcp6d

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

const machineUUID = "4c4c4544-0042-3510-8054-b4c04f564433"

// lab has relays r1 and r2 on one segment with two networks: open, which has a pool, and closed; and far, behind an agent.
func lab(t testing.TB) *catalog.Catalog {
	t.Helper()
	node := func(name, hw, ip6 string, s catalog.Settings) catalog.Node {
		d := catalog.NetDev{Hardware: new(catalog.HardwareAddr(hw))}
		if ip6 != "" {
			d.Address6 = new(netip.MustParseAddr(ip6))
		}
		s.Nets = map[string]catalog.NetDev{catalog.DefaultNet: d}
		return catalog.Node{Name: catalog.NodeName(name), Settings: s}
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	pool := func(first, last string) catalog.Range {
		return catalog.Range{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}
	}
	prefix := netip.MustParsePrefix
	changes := []catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "open", Prefix: prefix("10.1.0.0/24"), Prefix6: prefix("fd00:1::/64"), Pool: pool("10.1.0.100", "10.1.0.200"),
			DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53"), netip.MustParseAddr("fd00:1::53")}, Domain: "lab.example"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "closed", Prefix: prefix("10.2.0.0/24"), Prefix6: prefix("fd00:2::/64")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "far", Prefix: prefix("10.3.0.0/24"), Prefix6: prefix("fd00:3::/64"), Pool: pool("10.3.0.100", "10.3.0.200")}},
		catalog.AddNetwork{Network: catalog.Network{Name: "narrow", Prefix: prefix("10.4.0.0/24"), Prefix6: prefix("fd00:4::/120")}},
		catalog.AddNodes{Nodes: []catalog.Node{
			node("n1", "52:54:00:00:00:01", "fd00:1::1", catalog.Settings{UUID: new(machineUUID)}),
			node("n2", "52:54:00:00:00:02", "", catalog.Settings{}),
			node("n3", "52:54:00:00:00:03", "fd00:2::3", catalog.Settings{}),
			node("n4", "52:54:00:00:00:04", "fd00:3::4", catalog.Settings{}),
		}},
	}
	for _, name := range []string{"r1", "r2"} {
		addr := map[string]string{"r1": "10.1.0.250", "r2": "10.1.0.251"}[name]
		changes = append(changes,
			catalog.AddToken{Token: catalog.Token{ID: name, Hash: []byte("h"), Role: catalog.TokenRelay, Uses: 1, Expires: at.Add(time.Hour), Networks: []catalog.NetworkName{"open", "closed", "far", "narrow"}}},
			catalog.AdmitRelay{Token: name, Hash: []byte("h"), Relay: catalog.Relay{
				Name: catalog.RelayName(name), Addresses: []netip.Addr{netip.MustParseAddr(addr)}, BootPort: 4480, MeshPort: 4481, Mesh: addr + ":4481", Gossip: addr + ":4482", Key: []byte(name)}})
	}
	c := new(catalog.Catalog)
	for _, change := range changes {
		b, err := catalog.Entry{By: "test", At: at, Change: change}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err := errors.Join(err, out.Err); err != nil {
			t.Fatalf("%s: %v", catalog.KindOf(change), err)
		}
		c = next
	}
	return c
}

// planner plans from a catalog, as feed does.
type planner struct {
	c      *catalog.Catalog
	unwell func() bool
}

func (p planner) Plan(req boot.Request) (boot.Plan, error) {
	req.Unwell = p.unwell != nil && p.unwell()
	return boot.Resolve(p.c, req)
}
func (p planner) catalog() *catalog.Catalog { return p.c }

// wire is one end of a link in memory: what is put into it comes to the server, and what the server sends is kept.
type wire struct {
	in     chan packet
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex
	out    []packet
}

type packet struct {
	b  []byte
	at *net.UDPAddr
}

func newWire() *wire { return &wire{in: make(chan packet, 64), closed: make(chan struct{})} }

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-w.in:
		return copy(b, p.b), p.at, nil
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out, packet{slices.Clone(b), to.(*net.UDPAddr)})
	return len(b), nil
}

func (w *wire) Close() error                     { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (w *wire) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (w *wire) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// sent takes what the server has sent so far.
func (w *wire) sent() []packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.out = nil
	return out
}

// segment is a link with some relays on it.
type segment struct {
	t       *testing.T
	wires   map[catalog.RelayName]*wire
	servers map[catalog.RelayName]*Server
	mu      sync.Mutex
	events  []boot.Event
}

var addrs = []netip.Addr{netip.MustParseAddr("fe80::250"), netip.MustParseAddr("10.1.0.250"), netip.MustParseAddr("fd00:1::250"), netip.MustParseAddr("fd00:2::250")}

// onSegment runs f beside servers in a bubble.
func onSegment(t *testing.T, addrs []netip.Addr, unwell func() bool, f func(s *segment), relays ...catalog.RelayName) {
	c := lab(t)
	synctest.Test(t, func(t *testing.T) {
		s := &segment{t: t, wires: map[catalog.RelayName]*wire{}, servers: map[catalog.RelayName]*Server{}}
		ctx, cancel := context.WithCancel(context.Background())
		for _, name := range relays {
			w := newWire()
			p := planner{c: c}
			if name == "r1" {
				p.unwell = unwell
			}
			s.wires[name] = w
			s.servers[name] = New(Config{
				Relay: name, Cluster: "lab", Planner: p, Catalog: p.catalog, HasLoader: func(name string) bool { return name != "snponly-arm64.efi" }, Links: []Link{{Name: "eth0", Addrs: addrs, Conn: w}},
				Log: slog.New(slog.DiscardHandler), Record: func(e boot.Event) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.events = append(s.events, e)
				},
			})
			go s.servers[name].Run(ctx)
		}
		f(s)
		cancel()
		synctest.Wait()
	})
}

// ask sends a packet to all relays of the segment, and returns what each has said after a time.
func (s *segment) ask(m dhcpv6.DHCPv6, from string, after time.Duration) map[catalog.RelayName][]packet {
	s.t.Helper()
	for _, w := range s.wires {
		w.in <- packet{m.ToBytes(), &net.UDPAddr{IP: net.ParseIP(from), Port: 546, Zone: "eth0"}}
	}
	time.Sleep(after)
	synctest.Wait()
	all := map[catalog.RelayName][]packet{}
	for name, w := range s.wires {
		if out := w.sent(); len(out) > 0 {
			all[name] = out
		}
	}
	return all
}

// recorded takes what was recorded so far.
func (s *segment) recorded() []boot.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.events
	s.events = nil
	return out
}

// Messages of clients.

type with func(*dhcpv6.Message)

func message(kind dhcpv6.MessageType, options ...with) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
	for _, o := range options {
		o(m)
	}
	return m
}

func duidLL(hw string) with {
	mac, _ := net.ParseMAC(hw)
	return func(m *dhcpv6.Message) {
		m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}))
	}
}

func duidUUID(b [16]byte) with {
	return func(m *dhcpv6.Message) { m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDUUID{UUID: b})) }
}

func to(d dhcpv6.DUID) with { return func(m *dhcpv6.Message) { m.AddOption(dhcpv6.OptServerID(d)) } }

func ia(addresses ...string) with {
	return func(m *dhcpv6.Message) {
		o := &dhcpv6.OptIANA{IaId: [4]byte{0, 0, 0, 7}}
		for _, a := range addresses {
			o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a)})
		}
		m.AddOption(o)
	}
}

// firmware is how UEFI asks.
func firmware(class string, arch iana.Arch) with {
	return func(m *dhcpv6.Message) {
		m.AddOption(dhcpv6.OptClientArchType(arch))
		m.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: 343, Data: [][]byte{[]byte(class + ":Arch:00007:UNDI:003016")}})
		m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionBootfileURL, dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList))
	}
}

func iPXE(m *dhcpv6.Message) {
	m.AddOption(dhcpv6.OptClientArchType(iana.EFI_X86_64))
	m.AddOption(&dhcpv6.OptUserClass{UserClasses: [][]byte{[]byte("iPXE")}})
}

func rapid(m *dhcpv6.Message) {
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
}
func elapsed(d time.Duration) with {
	return func(m *dhcpv6.Message) { m.AddOption(dhcpv6.OptElapsedTime(d)) }
}
