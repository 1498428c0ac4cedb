package mesh

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/firmware"
)

// AddMachine puts a machine into the rack that no node claims; it is off.
func (m *Mesh) AddMachine(kind boot.Firmware) *firmware.Machine { return m.addMachine(Segment, kind) }

func (m *Mesh) addMachine(segment string, kind boot.Firmware) *firmware.Machine {
	m.t.Helper()
	i := len(m.Nodes) + 1
	name := fmt.Sprintf("n%03d", i)
	dir := filepath.Join(m.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	n := firmware.New(firmware.Config{
		Net: m.Net, Name: name, Segment: segment, Firmware: kind, Dir: dir,
		Hardware: catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255)),
	})
	m.Nodes = append(m.Nodes, n)
	return n
}

// AddTwin puts a machine into the rack that has the hardware address of another; it is off.
func (m *Mesh) AddTwin(of *firmware.Machine) *firmware.Machine {
	m.t.Helper()
	name := of.Name() + "-twin"
	dir := filepath.Join(m.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	n := firmware.New(firmware.Config{Net: m.Net, Name: name, Segment: Segment, Dir: dir, Hardware: of.Hardware()})
	m.Nodes = append(m.Nodes, n)
	return n
}

// AddNodes puts machines into the rack, of BIOS and UEFI firmware by turns, and declares a node for each.
func (m *Mesh) AddNodes(count int) []*firmware.Machine {
	m.t.Helper()
	if count == 0 {
		return nil
	}
	kinds := []boot.Firmware{boot.FirmwareBIOS, boot.FirmwareEFI64, boot.FirmwareHTTP64}
	var nodes []catalog.Node
	first := len(m.Nodes)
	for i := range count {
		nodes = append(nodes, m.Declaration(m.AddMachine(kinds[i%len(kinds)])))
	}
	m.Change(catalog.AddNodes{Nodes: nodes})
	return m.Nodes[first:]
}

// Declaration is the node that claims a machine, with an address of its own.
func (m *Mesh) Declaration(n *firmware.Machine) catalog.Node {
	return catalog.Node{Name: catalog.NodeName(n.Name()), Settings: catalog.Settings{
		Nets: map[string]catalog.NetDev{catalog.DefaultNet: {Hardware: new(n.Hardware()), Address: new(Address(n))}},
	}}
}

// Address is the address that Declaration gives a machine.
func Address(n *firmware.Machine) netip.Addr {
	var high, low byte
	if _, err := fmt.Sscanf(string(n.Hardware()), "52:54:00:00:%02x:%02x", &high, &low); err != nil {
		panic("mesh: " + err.Error()) // AddMachine has made it
	}
	return netip.AddrFrom4([4]byte{10, 1, 1 + high, low})
}

// Settle waits until there is a leader, all controllers that run hold the same state, and all relays that run hold its
// revision and everything that it needs.
func (m *Mesh) Settle() {
	m.t.Helper()
	var why string
	defer func() {
		if m.t.Failed() {
			m.t.Log("not settled: " + why)
		}
	}()
	m.Eventually("the mesh to settle", func() bool {
		why = m.unsettled()
		return why == ""
	})
}

// unsettled says what is not settled yet.
func (m *Mesh) unsettled() string {
	var first *api.ControllerStatus
	for _, c := range m.Controllers {
		if !c.Running() {
			continue
		}
		st := c.Status()
		switch {
		case st.Leader == "":
			return c.Name + " knows no leader"
		case len(st.Problems) > 0 && st.State != "leader": // the leader names those that are stopped, too
			return c.Name + ": " + st.Problems[0]
		case first == nil:
			first = &st
		case st.Revision != first.Revision || st.Hash != first.Hash:
			return fmt.Sprintf("%s is at revision %d, %s at %d", c.Name, st.Revision, first.Name, first.Revision)
		}
	}
	if first == nil {
		return "no controller runs"
	}
	for _, r := range m.Relays {
		if !r.Running() {
			continue
		}
		if why := r.unsettled(first.Revision); why != "" {
			return r.Name + ": " + why
		}
	}
	return ""
}
