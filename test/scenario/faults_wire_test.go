package scenario

import (
	"net"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/memnet"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// faultsOfTheWire are what firewalls and switches do.
func faultsOfTheWire() []injected {
	block := func(network string, port uint16) func(*faulty) {
		return func(f *faulty) {
			f.m.Net.Block(nil, f.relays(), network, port)
			f.on()
		}
	}
	return []injected{
		{
			name: "TFTP blocked", stage: boot.StageLoader, cause: []string{"has not fetched its boot program by TFTP", "UDP port 69"}, fix: []string{"let UDP port 69 (TFTP) of relay r"},
			inject: block("udp", 69),
		},
		{
			name: "TFTP blocked for one machine", stage: boot.StageLoader, cause: []string{"UDP port 69"}, fix: []string{"switch port", "it alone"},
			inject: func(f *faulty) {
				f.m.PowerOn(f.m.AddNodes(3)...)
				f.m.Net.Block([]string{f.node.Name()}, f.relays(), "udp", 69)
				f.node.PowerOn()
				time.Sleep(time.Minute)
				f.m.PowerOn(f.rest...)
			},
		},
		{
			name: "HTTP blocked", stage: boot.StageScript, cause: []string{"did not get its script", "TCP port 4480"}, fix: []string{"let TCP port 4480 of relay r"},
			inject: block("tcp", 4480),
		},
		{
			name: "HTTP blocked for UEFI HTTP boot", stage: boot.StageLoader, cause: []string{"by HTTP", "TCP port 4480"}, fix: []string{"let TCP port 4480"}, size: mesh.Size{Controllers: 1, Relays: 2, Nodes: 3},
			inject: func(f *faulty) {
				f.node = f.m.Nodes[2] // of the kind that boots by HTTP
				block("tcp", 4480)(f)
			},
		},
		{
			name: "HTTPS blocked", stage: boot.StageStageOne, cause: []string{"its agent runs and has an address", "TCP port 4481"}, fix: []string{"let TCP port 4481 of relay r"},
			inject: block("tcp", 4481),
		},
		{
			name: "MTU larger than the switches carry", stage: boot.StageStageOne, cause: []string{"MTU of 9000"}, fix: []string{"wulf network set rack --mtu 1500"},
			inject: func(f *faulty) {
				f.network(func(n *catalog.Network) { n.MTU = 9000 })
				for _, r := range f.m.Relays {
					r.SetMTU(9000)
				}
				f.on()
			},
		},
		{
			name: "name server that answers nobody", cause: fine(),
			inject: func(f *faulty) {
				f.network(func(n *catalog.Network) { n.DNS = append(n.DNS, rogueAddr) })
				f.on()
			},
		},
		{
			name: "one packet of ten lost", cause: fine(), size: mesh.Size{Controllers: 1, Relays: 2, Nodes: 2, Loss: 0.1},
			inject: func(f *faulty) { f.on() },
		},
		{
			name: "slow network", stage: boot.StageImage, cause: []string{"it is booting: stage-one reached"}, after: 6 * time.Minute,
			size: mesh.Size{Controllers: 1, Relays: 2, Nodes: 1, Image: 6 << 20},
			inject: func(f *faulty) {
				f.node.SetBandwidth(12_000)
				f.node.PowerOn()
			},
		},
	}
}

// rogue puts a DHCP server into the rack that is faster than every relay and says to boot what it has not.
func rogue(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	host := m.Net.Host("rogue", rogueAddr.String()).Join(mesh.Segment)
	for _, n := range m.Nodes {
		m.Net.SetLink("rogue", n.Name(), memnet.Link{Latency: time.Microsecond})
	}
	conn, err := host.ListenPacketOn(mesh.Segment, ":67")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	t.Cleanup(func() { conn.Close() })
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			q, err := dhcpv4.FromBytes(b[:n])
			if err != nil {
				continue
			}
			answer := map[dhcpv4.MessageType]dhcpv4.MessageType{dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest: dhcpv4.MessageTypeAck}[q.MessageType()]
			if asked := q.ServerIdentifier(); answer == 0 || len(asked) > 0 && !asked.Equal(rogueAddr.AsSlice()) {
				continue
			}
			a, err := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(answer), dhcpv4.WithServerIP(rogueAddr.AsSlice()),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(rogueAddr.AsSlice())), dhcpv4.WithYourIP(net.IPv4(10, 1, 99, 9)),
				dhcpv4.WithOption(dhcpv4.OptBootFileName("other.efi")))
			if err != nil {
				continue
			}
			_, _ = conn.WriteTo(a.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
	}()
}

// withHang is a machine that does nothing any more from a stage on.
func withHang(at boot.Stage) firmware.Flaws { return firmware.Flaws{Hangs: at} }
