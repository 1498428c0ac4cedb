package httpd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

// fleet is a relay of a large cluster: racks of 64 nodes, each a network, and the shipped overlays as new clusters
// have them.
type fleet struct {
	still
	t     testing.TB
	s     *Server
	rack1 []catalog.NodeName // those of the relay
}

const perRack = 64

func newFleet(t testing.TB, nodes int) *fleet {
	f := &fleet{t: t, still: still{&catalog.Catalog{}}}
	shipped, err := overlay.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	changes := []catalog.Change{catalog.InitCluster{Cluster: catalog.Cluster{Name: "big"}, Controller: catalog.Controller{Name: "c1"}}}
	for _, s := range shipped {
		raw, err := s.Bundle.Encode()
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, raw)
		changes = append(changes, catalog.ShipOverlay{Name: catalog.OverlayName(s.Name), Base: chunk.RefOf(raw), Files: len(s.Bundle.Files)})
	}
	changes = append(changes, catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{
		Overlays: catalog.OverlaySettings{System: overlay.DefaultSystem(), Runtime: overlay.DefaultRuntime()}, SSHKeys: []string{"ssh-ed25519 AAAA admin"},
	}})
	var names catalog.NodeSet
	for r := range nodes / perRack {
		changes = append(changes, catalog.AddNetwork{Network: catalog.Network{
			Name: catalog.NetworkName(fmt.Sprintf("rack%03d", r+1)), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + r/250), byte(r % 250), 0}), 24),
			Gateway: netip.AddrFrom4([4]byte{10, byte(1 + r/250), byte(r % 250), 254}), DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, Domain: "big.example",
			SSHAuthority: fleetAuthority,
		}})
		for n := range perRack {
			names = append(names, catalog.NodeName(fmt.Sprintf("r%03dn%02d", r+1, n+1)))
		}
	}
	f.rack1 = names[:perRack]
	key := []byte("token")
	changes = append(changes,
		catalog.AddNodes{Names: names, Compute: map[string]string{
			"nets.default.address": "10.{1+(n1-1)/250}.{(n1-1)%250}.{n2}", "nets.default.hardware": "52:54:00:{n1/256:02x}:{n1%256:02x}:{n2:02x}", "rack": "{n1:03d}",
		}},
		catalog.AddToken{Token: catalog.Token{ID: "t", Hash: key, Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack001"}, Uses: 1, Expires: time.Unix(1e10, 0)}},
		catalog.AdmitRelay{Token: "t", Hash: key, Relay: catalog.Relay{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.250")}, BootPort: 4480, MeshPort: 4481,
			Mesh: "10.1.0.250:4481", Gossip: "10.1.0.250:4482", Key: key}},
	)
	for _, x := range changes {
		f.change(x)
	}
	f.s = newServer(newShelf(t, bodies...))
	f.s.cfg.Feed, f.s.overlays.cfg.Feed = f, f
	return f
}

const fleetAuthority = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICsb51v9Urw7XJrCx+BGJ2TnYzmEnQY65HiBByumQWlM"

// Secrets are those of the first rack.
func (f *fleet) Secrets() *feed.Secrets { return rackSecrets }

var rackSecrets = &feed.Secrets{Networks: map[catalog.NetworkName]pki.NetworkKey{"rack001": pki.NewNetworkKey(slices.Repeat([]byte{1}, 32))}}

func (f *fleet) change(x catalog.Change) {
	f.t.Helper()
	b, err := catalog.Entry{At: time.Unix(1, 0), Change: x}.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	next, out, err := f.c.Apply(f.c.Revision+1, b)
	if err != nil || out.Err != nil {
		f.t.Fatal(catalog.KindOf(x), err, out.Err)
	}
	f.c = next
}

// renew renders what all nodes of the relay have, and tells how many templates that took.
func (f *fleet) renew(kinds ...string) overlay.Stats {
	f.t.Helper()
	before := f.s.overlays.renderer.Stats()
	for _, n := range f.rack1 {
		for _, kind := range kinds {
			if _, err := f.s.overlays.now(context.Background(), n, kind); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	after := f.s.overlays.renderer.Stats()
	return overlay.Stats{Rendered: after.Rendered - before.Rendered, Reused: after.Reused - before.Reused}
}

func BenchmarkOverlays(b *testing.B) {
	f := newFleet(b, 40_000/perRack*perRack)
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			f.s.overlays = newOverlays(f.s.cfg)
			f.renew(overlay.KindSystem)
		}
	})
	b.Run("cold/again", func(b *testing.B) { // a change that no template reads
		for i := 0; b.Loop(); i++ {
			f.change(catalog.SetNodes{Nodes: f.rack1[:1], Set: catalog.Settings{Tags: map[string]string{"x": fmt.Sprint(i)}}})
			f.renew(overlay.KindSystem)
		}
	})
	b.Run("cold/moved", func(b *testing.B) { // an address: the hosts file is another
		for i := 0; b.Loop(); i++ {
			f.change(catalog.SetNodes{Nodes: f.rack1[:1], Set: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Address: new(netip.AddrFrom4([4]byte{10, 1, 0, byte(100 + i%2)}))}}}})
			f.renew(overlay.KindSystem)
		}
	})
	b.Run("warm", func(b *testing.B) { // by TLS, as nodes ask; both ends are on this machine
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			node := strings.TrimPrefix(r.URL.Path, "/")
			r.SetPathValue("node", node)
			r.SetPathValue("kind", overlay.KindSystem)
			if err := f.s.nodeOverlay(w, r.WithContext(contextWith(r, holder{Session: pki.Session{Node: node}}))); err != nil {
				b.Error(err)
			}
		}))
		defer srv.Close()
		f.renew(overlay.KindSystem)
		b.ResetTimer()
		b.RunParallel(func(p *testing.PB) {
			for i := 0; p.Next(); i++ {
				r, _ := http.NewRequest(http.MethodGet, srv.URL+"/"+string(f.rack1[i%perRack]), nil)
				r.Header.Set("Accept-Encoding", "zstd")
				a, err := srv.Client().Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				n, err := io.Copy(io.Discard, a.Body)
				a.Body.Close()
				if err != nil || a.StatusCode != http.StatusOK || n == 0 {
					b.Errorf("status %d, %d bytes, %v", a.StatusCode, n, err)
				}
			}
		})
	})
}
