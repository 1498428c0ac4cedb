package lease

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// cluster is a catalog that a test writes: network rack 10.1.0.0/24 with a pool, and relays that joined in order, a
// second apart.
type cluster struct {
	t *testing.T
	c *catalog.Catalog
}

func newCluster(t *testing.T, joined time.Time, pool string, relays ...catalog.RelayName) *cluster {
	t.Helper()
	k := &cluster{t: t, c: &catalog.Catalog{}}
	n := catalog.Network{Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.254"), DHCP: catalog.DHCPAuthoritative}
	if pool != "" {
		n.Pool = rangeOf(t, pool)
	}
	k.do(joined, catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}})
	k.do(joined, catalog.AddNetwork{Network: n})
	for i, r := range relays {
		k.join(joined.Add(time.Duration(i)*time.Second), r, i)
	}
	return k
}

func (k *cluster) join(at time.Time, r catalog.RelayName, i int) {
	k.t.Helper()
	hash := []byte("hash of a secret")
	id := fmt.Sprintf("token-%s-%d", r, k.c.Revision)
	k.do(at, catalog.AddToken{Token: catalog.Token{ID: id, Hash: hash, Role: catalog.TokenRelay, Networks: []catalog.NetworkName{"rack"}, Uses: 1, Expires: at.Add(time.Hour)}})
	k.do(at, catalog.AdmitRelay{Token: id, Hash: hash, Relay: catalog.Relay{Name: r, Key: []byte(r), BootPort: 4480, MeshPort: 4481,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(240 + i)})},
		Mesh:      fmt.Sprintf("10.1.0.%d:4481", 240+i), Gossip: fmt.Sprintf("10.1.0.%d:4482", 240+i)}})
}

func (k *cluster) do(at time.Time, change catalog.Change) {
	k.t.Helper()
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

func rangeOf(t *testing.T, s string) catalog.Range {
	t.Helper()
	var first, last int
	if _, err := fmt.Sscanf(s, "%d-%d", &first, &last); err != nil {
		t.Fatal(err)
	}
	return catalog.Range{First: netip.AddrFrom4([4]byte{10, 1, 0, byte(first)}), Last: netip.AddrFrom4([4]byte{10, 1, 0, byte(last)})}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func hwaddr(i int) catalog.HardwareAddr {
	return catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255))
}

// book is a Book of relay r1 that nothing but the test drives.
func (k *cluster) book(r catalog.RelayName, path string) *Book {
	k.t.Helper()
	b, err := New(Config{Relay: r, Catalog: func() *catalog.Catalog { return k.c }, Path: path, Log: quiet()})
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

// take does what a machine does: offer, then confirm.
func take(t *testing.T, b *Book, hw catalog.HardwareAddr) netip.Addr {
	t.Helper()
	a, err := b.Offer("rack", hw, netip.Addr{})
	if err != nil {
		t.Fatalf("offer to %s: %v", hw, err)
	}
	if err := b.Confirm("rack", hw, a); err != nil {
		t.Fatalf("confirming %s to %s: %v", a, hw, err)
	}
	return a
}
