package mesh

import (
	"fmt"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/firmware"
)

// Rack is one more segment with a network of its own, 10.2.0.0/16 for the first, with a pool, but without relays.
type Rack struct {
	m      *Mesh
	Name   catalog.NetworkName
	number int
}

// AddRack declares one more segment and its network.
func (m *Mesh) AddRack(name catalog.NetworkName) *Rack {
	m.t.Helper()
	m.racks++
	r := &Rack{m: m, Name: name, number: 1 + m.racks}
	m.Net.Segment(string(name), r.at("0.0/16"))
	m.Change(catalog.AddNetwork{Network: catalog.Network{
		Name: name, Prefix: prefix(r.at("0.0/16")), Pool: catalog.Range{First: addr(r.at("250.1")), Last: addr(r.at("250.200"))},
	}})
	return r
}

// at is an address in the rack.
func (r *Rack) at(rest string) string { return fmt.Sprintf("10.%d.%s", r.number, rest) }

// AddRelay lets a relay join that serves the rack's network.
func (r *Rack) AddRelay() *Relay {
	r.m.t.Helper()
	relay := r.m.newRelayOn(string(r.Name), r.at(fmt.Sprintf("0.%d", len(r.m.Relays)+1)))
	r.m.joinTo(relay, r.Name)
	r.m.Relays = append(r.m.Relays, relay)
	r.m.start(relay.process)
	return relay
}

// AddMachine puts a machine into the rack that no node claims; it is off.
func (r *Rack) AddMachine(kind boot.Firmware) *firmware.Machine {
	return r.m.addMachine(string(r.Name), kind)
}

// Address is the one for a machine in the rack with the same place as Address has in the first.
func (r *Rack) Address(n *firmware.Machine) catalog.NetDev {
	a := Address(n).As4()
	return catalog.NetDev{Address: new(addr(r.at(fmt.Sprintf("%d.%d", a[2], a[3]))))}
}
