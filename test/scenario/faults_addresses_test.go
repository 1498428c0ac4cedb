package scenario

import (
	"net/netip"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// only is a mesh in which the node to be explained is the test's own.
var only = mesh.Size{Controllers: 1, Relays: 2, Nodes: 1}

// faultsOfAddresses are about hardware addresses, addresses and networks.
func faultsOfAddresses() []injected {
	return []injected{
		{
			name: "wrong hardware address declared", stage: boot.StageDHCP, size: only,
			cause: []string{"no relay has had a request from 52:54:00:00:99:01", "52:54:00:00:00:02"}, fix: []string{"wulf node replace x1 --mac 52:54:00:00:00:02"},
			inject: func(f *faulty) { f.stranger("52:54:00:00:99:01").PowerOn() },
		},
		{
			name: "no hardware address declared", stage: boot.StageDHCP, size: only,
			cause: []string{"no network device of node x1 has a hardware address"}, fix: []string{"wulf node set x1 --hwaddr"},
			inject: func(f *faulty) { f.stranger("").PowerOn() },
		},
		{
			name: "switched off", stage: boot.StageDHCP, size: only, cause: []string{"no relay has had a request from 52:54:00:00:00:01"}, fix: []string{"power it on"},
			inject: func(*faulty) {},
		},
		{
			name: "two machines exchanged between racks", stage: boot.StageScript,
			cause: []string{"asks in network aisle", "exchanged"}, fix: []string{"exchange the cables or the hardware addresses of n001 and a1"},
			inject: func(f *faulty) {
				aisle := f.m.AddRack("aisle")
				aisle.AddRelay()
				here, there := f.m.AddMachine(boot.FirmwareBIOS), aisle.AddMachine(boot.FirmwareBIOS)
				f.m.Change(catalog.SetNodes{Nodes: catalog.NodeSet{"n001"}, Set: catalog.Settings{Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: new(there.Hardware())}}}})
				dev := aisle.Address(f.node)
				dev.Hardware = new(here.Hardware())
				f.m.Change(catalog.AddNodes{Nodes: []catalog.Node{{Name: "a1", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{catalog.DefaultNet: dev}}}}})
				f.m.Settle()
				f.m.PowerOn(here, there)
			},
		},
		{
			name: "cabled into another network", stage: boot.StageScript, size: only,
			cause: []string{"node x1 asks in network aisle but its device default is declared in rack"}, fix: []string{"check the cabling"},
			inject: func(f *faulty) {
				aisle := f.m.AddRack("aisle")
				aisle.AddRelay()
				f.claimed(aisle.AddMachine(boot.FirmwareEFI64)).PowerOn()
			},
		},
		{
			name: "cabled where no relay is", stage: boot.StageDHCP, size: only, cause: []string{"no relay has had a request from"}, fix: []string{"cable", "VLAN"},
			inject: func(f *faulty) { f.claimed(f.m.AddRack("aisle").AddMachine(boot.FirmwareBIOS)).PowerOn() },
		},
		{
			name: "network without relays", stage: boot.StageDHCP, size: only, cause: []string{"no relay serves network aisle"}, fix: []string{"wulf relay token --network aisle"},
			inject: func(f *faulty) {
				aisle := f.m.AddRack("aisle")
				n := aisle.AddMachine(boot.FirmwareBIOS)
				dev := aisle.Address(n)
				dev.Hardware = new(n.Hardware())
				f.declare(dev)
				n.PowerOn()
			},
		},
		{
			name: "DHCP off in the network", stage: boot.StageDHCP, cause: []string{"DHCP is off in network rack"}, fix: []string{"wulf network set rack --dhcp authoritative"},
			inject: func(f *faulty) {
				f.network(func(n *catalog.Network) { n.DHCP = catalog.DHCPOff })
				f.on()
			},
		},
		{
			name: "no address, and a network without a pool", stage: boot.StageDHCP, size: only, cause: []string{"network rack has no pool for unknown machines"}, fix: []string{"wulf network set rack --pool"},
			inject: func(f *faulty) {
				f.network(func(n *catalog.Network) { n.Pool = catalog.Range{} })
				f.unaddressed()
			},
		},
		{
			name: "no address left in the pool", stage: boot.StageDHCP, size: only, cause: []string{"it gets no address", "pool"}, fix: []string{"wulf network set rack --pool"},
			after: 3 * time.Minute, // the first machine's lease ends soon
			inject: func(f *faulty) {
				f.network(func(n *catalog.Network) { n.Pool.Last = n.Pool.First })
				f.m.AddMachine(boot.FirmwareBIOS).PowerOn()
				time.Sleep(time.Minute)
				f.unaddressed()
			},
		},
		{
			name: "address used by another machine", stage: boot.StageDHCP, cause: []string{"its address 10.1.1.1 is used by another machine"}, fix: []string{"find the other machine", "wulf node set n001 --ipaddr"},
			inject: func(f *faulty) {
				f.node.Break(firmware.Flaws{Declines: true})
				f.on()
			},
		},
		{
			name: "two machines with one hardware address", stage: boot.StageDHCP, size: only, cause: []string{"another machine with its hardware address 52:54:00:00:00:01"}, fix: []string{"find the second machine"},
			inject: func(f *faulty) {
				f.node.PowerOn()
				f.m.WaitUp(5*time.Minute, f.node)
				f.m.AddTwin(f.node).PowerOn()
			},
		},
		{
			name: "strange DHCP server", stage: boot.StageDHCP, size: only, cause: []string{"DHCP server 10.1.0.66, which is no relay of this cluster"}, fix: []string{"switch that DHCP server off"},
			inject: func(f *faulty) {
				rogue(f.t, f.m)
				f.node.PowerOn()
			},
		},
	}
}

// stranger puts a machine into the rack, and declares node x1 with a hardware address that is not the machine's.
func (f *faulty) stranger(hw catalog.HardwareAddr) *firmware.Machine {
	f.t.Helper()
	n := f.m.AddMachine(boot.FirmwareBIOS)
	dev := catalog.NetDev{Address: new(mesh.Address(n))}
	if hw != "" {
		dev.Hardware = &hw
	}
	f.declare(dev)
	return n
}

// claimed declares node x1 of the rack for a machine.
func (f *faulty) claimed(n *firmware.Machine) *firmware.Machine {
	f.t.Helper()
	f.declare(catalog.NetDev{Hardware: new(n.Hardware()), Address: new(mesh.Address(n))})
	return n
}

// unaddressed switches a machine on whose node has no address of its own.
func (f *faulty) unaddressed() {
	f.t.Helper()
	n := f.m.AddMachine(boot.FirmwareBIOS)
	f.declare(catalog.NetDev{Hardware: new(n.Hardware()), Network: new(mesh.Network)})
	n.PowerOn()
}

// declare adds node x1 with one device; it is the one to be explained.
func (f *faulty) declare(dev catalog.NetDev) {
	f.t.Helper()
	f.name = "x1"
	f.m.Change(catalog.AddNodes{Nodes: []catalog.Node{{Name: "x1", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{catalog.DefaultNet: dev}}}}})
	f.m.Settle()
}

// network changes the rack's network.
func (f *faulty) network(change func(*catalog.Network)) {
	f.t.Helper()
	n, _ := f.m.Leader().Catalog().Network(mesh.Network)
	changed := *n
	change(&changed)
	f.m.Change(catalog.SetNetwork{Network: changed})
	f.m.Settle()
}

// rogueAddr is where the strange DHCP server is.
var rogueAddr = netip.MustParseAddr("10.1.0.66")
