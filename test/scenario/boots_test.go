package scenario

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/firmware"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// boots are the last boots of all machines as one controller knows them, by hardware address.
func boots(t *testing.T, m *mesh.Mesh, c *mesh.Controller) map[catalog.HardwareAddr]api.Boot {
	t.Helper()
	list, err := get[api.List[api.Boot]](t, m, api.PathBoots, c)
	if err != nil {
		t.Fatal(err)
	}
	by := map[catalog.HardwareAddr]api.Boot{}
	for _, b := range list.Items {
		by[b.Hardware] = b
	}
	return by
}

// told waits until every controller that runs knows that these nodes are up.
func told(t *testing.T, m *mesh.Mesh, nodes ...*firmware.Machine) {
	t.Helper()
	var missing string
	defer func() {
		if t.Failed() && missing != "" {
			t.Log("what is known of it: " + missing)
		}
	}()
	for _, c := range m.Controllers {
		if !c.Running() {
			continue
		}
		m.Eventually(c.Name+" to know of the boots", func() bool {
			by := boots(t, m, c)
			for _, n := range nodes {
				if b := by[n.Hardware()]; b.Stage != boot.StageUp || string(b.Node) != n.Name() {
					missing = fmt.Sprintf("%s of %s: %+v", c.Name, n.Name(), b)
					return false
				}
			}
			missing = ""
			return true
		})
	}
}

// A machine of each kind of firmware boots, in two stages and in one; every controller knows the whole story.
func TestEveryKindOfMachineBoots(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 6}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		m.Change(catalog.SetNodes{
			Nodes: []catalog.NodeName{"n004", "n005", "n006"}, Set: catalog.Settings{Method: new(catalog.MethodOneStage)},
		})
		m.Settle()
		m.PowerOn(m.Nodes...)
		m.WaitUp(2*time.Minute, m.Nodes...)
		told(t, m, m.Nodes...)
		for _, n := range m.Nodes {
			if b, err := os.ReadFile(filepath.Join(n.Root(), "etc/hostname")); err != nil || strings.TrimSpace(string(b)) != n.Name() {
				t.Errorf("%s is called %q, %v", n.Name(), b, err)
			}
			key, err := os.ReadFile(filepath.Join(n.Root(), "etc/ssh/ssh_host_ed25519_key.pub"))
			view, viewErr := get[api.NodeView](t, m, "/v1/nodes/"+n.Name())
			if err != nil || viewErr != nil || view.HostKey == "" || !strings.HasPrefix(string(key), view.HostKey) {
				t.Errorf("%s shows the host key %q, and %q is said of it; %v, %v", n.Name(), key, view.HostKey, err, viewErr)
			}
			certified(t, m, n)
		}
		for _, c := range m.Controllers {
			by := boots(t, m, c)
			for _, n := range m.Nodes {
				b := by[n.Hardware()]
				if b.Manifest.IsZero() || b.Revision == 0 || b.Relay == "" || b.Address != mesh.Address(n).String() || b.Error != "" {
					t.Errorf("%s knows of %s: %+v", c.Name, n.Name(), b)
				}
			}
		}
	})
}

// Fifty machines are switched on while every controller is away. The relays boot them all, and tell it afterwards.
func TestFiftyNodesBootWhileAllControllersAreGone(t *testing.T) {
	nodes := 50
	if testing.Short() {
		nodes = 20
	}
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: nodes, Image: 600 << 10}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		m.CutControllers()
		time.Sleep(time.Minute) // long enough for everybody to notice
		m.PowerOn(m.Nodes...)
		m.WaitUp(5*time.Minute, m.Nodes...)
		for _, n := range m.Nodes {
			if c := n.Counts(); c.Starts != 1 || c.Retries > 0 {
				t.Errorf("%s: %+v", n.Name(), c)
			}
		}
		m.Net.Heal()
		m.Settle()
		told(t, m, m.Nodes...)
	})
}

// A machine that nobody knows gets an address of the pool and a script that says why it does not boot; it stands in the
// inbox. When a node claims it, it boots without a hand on it.
func TestAnUnknownMachineWaitsUntilItIsClaimed(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		n := m.AddMachine(boot.FirmwareEFI64)
		n.PowerOn()
		time.Sleep(time.Minute)
		trace := n.Trace()
		for _, want := range []string{"has address 10.1.250.", "shows: wulfmesh: no node has the hardware address " + string(n.Hardware()), "wulf discover claim " + string(n.Hardware()) + " NODE"} {
			if !strings.Contains(trace, want) {
				t.Errorf("its story lacks %q", want)
			}
		}
		for _, c := range m.Controllers {
			m.Eventually("the inbox of "+c.Name, func() bool {
				b, ok := boots(t, m, c)[n.Hardware()]
				return ok && b.Node == "" && strings.Contains(b.Error, "no node has the hardware address")
			})
		}
		m.Change(catalog.AddNodes{Nodes: []catalog.Node{m.Declaration(n)}})
		m.WaitUp(2*time.Minute, n)
		if c := n.Counts(); c.Starts != 1 {
			t.Errorf("it was started %d times", c.Starts)
		}
		told(t, m, n)
	})
}

// One packet of ten is lost: DHCP, TFTP and the gossip of the relays go on all the same.
func TestNodesBootOverALossyNetwork(t *testing.T) {
	tell(t, mesh.Size{Controllers: 1, Relays: 2, Nodes: 9, Loss: 0.1}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		m.PowerOn(m.Nodes...)
		m.WaitUp(10*time.Minute, m.Nodes...)
		told(t, m, m.Nodes...)
	})
}

// All of the machine room loses its power, nodes and relays and controllers, and gets it back. Nobody logs in anywhere.
func TestEverythingComesBackFromAPowerCut(t *testing.T) {
	tell(t, mesh.Size{Controllers: 3, Relays: 2, Nodes: 6}, func(t *testing.T, m *mesh.Mesh, _ *rand.Rand) {
		m.PowerOn(m.Nodes...)
		m.WaitUp(2*time.Minute, m.Nodes...)
		before := m.Leader().Catalog()
		var all []string
		for _, r := range m.Relays {
			all = append(all, r.Name)
		}
		all = append(all, mesh.Names(m.Controllers...)...)
		m.PowerCut(all...)
		for _, n := range m.Nodes {
			n.PowerOff()
		}
		time.Sleep(time.Hour)
		m.PowerOn(m.Nodes...) // they are faster than what they boot from
		m.Restart(all...)
		m.WaitUp(5*time.Minute, m.Nodes...)
		m.Settle()
		if now := m.Leader().Catalog(); now.Revision < before.Revision || now.NodeCount() != before.NodeCount() {
			t.Errorf("revision %d with %d nodes came back of %d with %d", now.Revision, now.NodeCount(), before.Revision, before.NodeCount())
		}
		told(t, m, m.Nodes...)
	})
}

// certified checks that whoever knows the authority of its network knows a node by its name, and by no other; the nodes
// themselves know it.
func certified(t *testing.T, m *mesh.Mesh, n *firmware.Machine) {
	t.Helper()
	line, err := os.ReadFile(filepath.Join(n.Root(), "etc/ssh/ssh_host_ed25519_key-cert.pub"))
	if err != nil {
		t.Error(err)
		return
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	list, listErr := get[api.List[catalog.SSHAuthority]](t, m, api.PathAuthorities)
	if err != nil || listErr != nil {
		t.Errorf("%s: %v, %v", n.Name(), err, listErr)
		return
	}
	check := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool {
		return slices.ContainsFunc(list.Items, func(a catalog.SSHAuthority) bool { return a.Key+"\n" == string(ssh.MarshalAuthorizedKey(k)) })
	}}
	if err := check.CheckHostKey(n.Name()+":22", nil, public); err != nil {
		t.Errorf("%s is not known by its certificate: %v", n.Name(), err)
	}
	if err := check.CheckHostKey("other:22", nil, public); err == nil {
		t.Errorf("%s may pose as other", n.Name())
	}
	known, err := os.ReadFile(filepath.Join(n.Root(), "etc/ssh/ssh_known_hosts"))
	if err != nil || !strings.Contains(string(known), list.Items[0].KnownHosts(list.Items[0].Hosts...)) {
		t.Errorf("%s knows %q, %v", n.Name(), known, err)
	}
}
