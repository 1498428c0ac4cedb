package boot_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// lab is a catalog to ask: two networks, an image that boots and one that cannot, and nodes that differ in one thing
// each.
func lab(t testing.TB, more ...catalog.Change) *catalog.Catalog {
	t.Helper()
	ref := func(s string) chunk.Ref { return chunk.RefOf([]byte(s)) }
	version := func(s string, kernels ...string) catalog.ImageVersion {
		v := catalog.ImageVersion{Manifest: ref(s), Arch: "amd64", Size: 100, Unpacked: 300}
		for _, k := range kernels {
			v.Kernels = append(v.Kernels, chunk.Kernel{Version: k, Kernel: ref("kernel " + k), StageOne: ref("stage one " + k)})
		}
		return v
	}
	node := func(name, hw, ip string, s catalog.Settings) catalog.Node {
		d := catalog.NetDev{Hardware: new(catalog.HardwareAddr(hw))}
		if ip != "" {
			d.Address = new(netip.MustParseAddr(ip))
		}
		s.Nets = map[string]catalog.NetDev{catalog.DefaultNet: d}
		return catalog.Node{Name: catalog.NodeName(name), Settings: s}
	}
	changes := append([]catalog.Change{
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.254"), MTU: 9000}},
		catalog.AddNetwork{Network: catalog.Network{Name: "far", Prefix: netip.MustParsePrefix("10.2.0.0/24"), Secrets: catalog.SecretsRefuse}},
		catalog.AddNetwork{Network: catalog.Network{Name: "deaf", Prefix: netip.MustParsePrefix("10.3.0.0/24")}},
		catalog.PutImage{Name: "debian", Version: version("debian", "6.12.0-2", "6.1.0-1")},
		catalog.PutImage{Name: "centos", Version: version("centos", "4.18.0-553.el8_10.x86_64")},
		catalog.AddNetwork{Network: catalog.Network{Name: "old", Prefix: netip.MustParsePrefix("10.4.0.0/24"), Warewulf: true}},
		catalog.PutImage{Name: "bare", Version: version("bare")},
		catalog.AddNodes{Nodes: []catalog.Node{
			node("n1.lab", "52:54:00:00:00:01", "10.1.0.1", catalog.Settings{Image: new("debian"), Kernel: catalog.KernelSettings{Args: []string{"console=ttyS0,115200", "quiet"}}}),
			node("n2", "52:54:00:00:00:02", "10.1.0.2", catalog.Settings{Image: new("debian:latest"), Method: new(catalog.MethodOneStage), Root: new(catalog.RootRamfs)}),
			node("older", "52:54:00:00:00:03", "10.1.0.3", catalog.Settings{Image: new("debian"), Kernel: catalog.KernelSettings{Version: new("6.1")}}),
			node("imageless", "52:54:00:00:00:04", "10.1.0.4", catalog.Settings{}),
			node("kernelless", "52:54:00:00:00:05", "10.1.0.5", catalog.Settings{Image: new("bare")}),
			node("futuristic", "52:54:00:00:00:06", "10.1.0.6", catalog.Settings{Image: new("debian"), Kernel: catalog.KernelSettings{Version: new("7.0")}}),
			node("homeless", "52:54:00:00:00:07", "", catalog.Settings{Image: new("debian")}),
			node("far1", "52:54:00:00:00:08", "10.2.0.1", catalog.Settings{Image: new("debian")}),
			node("deaf1", "52:54:00:00:00:09", "10.3.0.1", catalog.Settings{Image: new("debian")}),
			node("hidden", "52:54:00:00:00:0a", "10.1.0.10", catalog.Settings{Image: new("debian"), Kernel: catalog.KernelSettings{Args: []string{"a=${base}"}}}),
			node("old1", "52:54:00:00:00:0c", "10.4.0.1", catalog.Settings{Image: new("debian"), Method: new(catalog.MethodWarewulf), Kernel: catalog.KernelSettings{Args: []string{"quiet"}}}),
			node("old2", "52:54:00:00:00:0d", "10.4.0.2", catalog.Settings{Image: new("centos"), Method: new(catalog.MethodWarewulf), Asset: new("rack 7")}),
			node("old3", "52:54:00:00:00:0e", "10.4.0.3", catalog.Settings{Image: new("debian"), Method: new(catalog.MethodWarewulf), Tags: map[string]string{"IPXEMenuEntry": "dracut"}}),
			node("refused", "52:54:00:00:00:0f", "10.1.0.12", catalog.Settings{Image: new("debian"), Method: new(catalog.MethodWarewulf)}),
			node("split", "52:54:00:00:00:0b", "10.1.0.11", catalog.Settings{Image: new("debian"), Init: new("/sbin/init ; shell")}),
		}},
	}, relays(t,
		place{"r1", "10.1.0.101", "a", "north", []catalog.NetworkName{"rack"}},
		place{"r2", "10.1.0.102", "b", "north", []catalog.NetworkName{"rack"}},
		place{"o1", "10.4.0.101", "", "", []catalog.NetworkName{"old"}},
		place{"o2", "10.4.0.102", "", "", []catalog.NetworkName{"old"}},
		place{"f1", "10.2.0.101", "", "", []catalog.NetworkName{"far", "rack"}},
	)...)
	c := &catalog.Catalog{}
	for _, change := range append(changes, more...) {
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

var at = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// place is a relay and where it stands.
type place struct {
	name, addresses, rack, zone string
	networks                    []catalog.NetworkName
}

// relays are the changes that admit relays.
func relays(t testing.TB, places ...place) (changes []catalog.Change) {
	t.Helper()
	for _, p := range places {
		var addresses []netip.Addr
		for _, a := range strings.Fields(p.addresses) {
			addresses = append(addresses, netip.MustParseAddr(a))
		}
		host := addresses[0].String()
		changes = append(changes,
			catalog.AddToken{Token: catalog.Token{ID: p.name, Hash: []byte("hash"), Role: catalog.TokenRelay, Rack: p.rack, Zone: p.zone,
				Networks: p.networks, Uses: 1, Expires: at.Add(time.Hour)}},
			catalog.AdmitRelay{Token: p.name, Hash: []byte("hash"), Relay: catalog.Relay{
				Name: catalog.RelayName(p.name), Addresses: addresses,
				BootPort: 4480, MeshPort: 4481, Mesh: host + ":4481", Gossip: host + ":4482", Key: []byte(p.name)}})
	}
	return changes
}

func names(relays []boot.Relay) []catalog.RelayName {
	var all []catalog.RelayName
	for _, r := range relays {
		all = append(all, r.Name)
	}
	return all
}

func plan(t testing.TB, c *catalog.Catalog, req boot.Request) boot.Plan {
	t.Helper()
	if req.Relay == "" {
		req.Relay = "r1"
	}
	p, err := boot.Resolve(c, req)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// where is the index of a relay in a plan; a test that asks for one that is not there is wrong.
func where(t testing.TB, p boot.Plan, name catalog.RelayName) int {
	t.Helper()
	at := slices.Index(names(p.Relays), name)
	if at < 0 || p.Rank(name) != at {
		t.Fatalf("relay %s is at %d of %v, and its rank is %d", name, at, names(p.Relays), p.Rank(name))
	}
	return at
}
