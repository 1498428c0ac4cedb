package catalog_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// meshOf applies changes to a cluster with relays r1 to r3.
type meshOf struct {
	t *testing.T
	c *catalog.Catalog
}

func newMesh(t *testing.T) *meshOf {
	m := &meshOf{t, &catalog.Catalog{}}
	m.must(catalog.InitCluster{Cluster: catalog.Cluster{Name: "demo"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}})
	m.must(catalog.AddNetwork{Network: catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24")}})
	m.must(catalog.AddToken{Token: catalog.Token{ID: "t", Hash: []byte("h"), Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 9, Expires: time.Now().Add(time.Hour)}})
	for _, name := range []catalog.RelayName{"r1", "r2", "r3"} {
		m.must(m.admit(name))
	}
	return m
}

func (m *meshOf) admit(name catalog.RelayName) catalog.AdmitRelay {
	return catalog.AdmitRelay{Token: "t", Hash: []byte("h"), Relay: catalog.Relay{
		Name: name, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, name[1] - '0'})}, BootPort: 80, MeshPort: 443, Mesh: "a:1", Gossip: "a:2", Key: []byte(name),
	}}
}

func (m *meshOf) apply(x catalog.Change) error {
	m.t.Helper()
	b, err := catalog.Entry{At: time.Now(), Change: x}.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	next, out, err := m.c.Apply(m.c.Revision+1, b)
	if err != nil {
		m.t.Fatal(err)
	}
	m.c = next
	return out.Err
}

func (m *meshOf) must(x catalog.Change) {
	m.t.Helper()
	if err := m.apply(x); err != nil {
		m.t.Fatal(err)
	}
}

func (m *meshOf) refused(kind fault.Kind, x catalog.Change) {
	m.t.Helper()
	if err := m.apply(x); !errors.Is(err, kind) {
		m.t.Errorf("%+v: %v, want %v", x, err, kind)
	}
}

func TestRelaysDoNotFollowInACircle(t *testing.T) {
	m := newMesh(t)
	follow := func(a, b catalog.RelayName) catalog.SetRelay { return catalog.SetRelay{Name: a, Follows: &b} }
	m.refused(fault.Conflict, follow("r1", "r1"))
	m.refused(fault.NotFound, follow("r1", "r9"))
	m.must(follow("r2", "r1"))
	m.must(follow("r3", "r2"))
	m.refused(fault.Conflict, follow("r1", "r3"))
	m.refused(fault.Conflict, catalog.DeleteRelay{Name: "r2"})
	m.must(follow("r3", ""))
	m.must(catalog.DeleteRelay{Name: "r2"})
}

func TestWhatARelayMayTakeStaysWhenItJoinsAgain(t *testing.T) {
	m := newMesh(t)
	m.refused(fault.Invalid, catalog.SetRelay{Name: "r1", Rate: new(int64(200))})
	m.refused(fault.Invalid, catalog.SetRelay{Name: "r1", Budget: new(int64(-1))})
	m.must(catalog.SetRelay{Name: "r1", Rate: new(int64(200e6)), Budget: new(int64(200e9)), Follows: new(catalog.RelayName("r2"))})
	m.must(m.admit("r1"))
	if r, _ := m.c.Relay("r1"); r.Rate != 200e6 || r.Budget != 200e9 || r.Follows != "r2" {
		t.Errorf("it is %+v", r)
	}
}

func TestZonesAreInSnapshots(t *testing.T) {
	m := newMesh(t)
	m.refused(fault.Invalid, catalog.SetZone{Name: "hill", Rate: 5})
	m.refused(fault.Invalid, catalog.SetZone{Name: "a b", Rate: 5e6})
	m.must(catalog.SetZone{Name: "hill", Rate: 50e6})
	m.must(catalog.SetZone{Name: "dale", Rate: 50e6})
	m.must(catalog.SetZone{Name: "dale"})
	var b bytes.Buffer
	if _, err := m.c.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	c, err := catalog.ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	if z, ok := c.Zone("hill"); !ok || z.Rate != 50e6 {
		t.Errorf("the zone is %+v", z)
	}
	if _, ok := c.Zone("dale"); ok {
		t.Error("a zone of which nothing is said any more is there")
	}
}
