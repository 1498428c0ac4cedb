package controller

import (
	"net/netip"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// Networks that an older version declared tell of no authority, and none may tell of a wrong one.
func TestALeaderFindsNetworksThatDoNotTellTheirAuthority(t *testing.T) {
	mesh := pki.NewMeshSecret()
	ctl := &Controller{secrets: &secrets{mesh: mesh}}
	network := func(name, prefix, policy, authority string) catalog.Network {
		return catalog.Network{Name: catalog.NetworkName(name), Prefix: netip.MustParsePrefix(prefix), Secrets: policy, SSHAuthority: authority}
	}
	c := &catalog.Catalog{}
	apply := func(x catalog.Change) {
		t.Helper()
		b, err := catalog.Entry{At: time.Unix(0, 0), Change: x}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, out, err := c.Apply(c.Revision+1, b)
		if err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
		c = next
	}
	apply(catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}})
	for _, n := range []catalog.Network{
		network("good", "10.1.0.0/16", "", mesh.NetworkKey("good").SSHAuthority()), network("none", "10.2.0.0/16", "", ""),
		network("refuses", "10.3.0.0/16", catalog.SecretsRefuse, "ssh-ed25519 AAAA"), network("wrong", "10.4.0.0/16", "", "ssh-ed25519 AAAA"),
	} {
		apply(catalog.AddNetwork{Network: n})
	}
	got := map[catalog.NetworkName]string{}
	for next, found := ctl.uncertified(c); found; next, found = ctl.uncertified(c) {
		got[next.Name] = next.SSHAuthority
		apply(catalog.SetNetwork{Network: next})
	}
	want := map[catalog.NetworkName]string{"none": mesh.NetworkKey("none").SSHAuthority(), "refuses": "", "wrong": mesh.NetworkKey("wrong").SSHAuthority()}
	for name, key := range want {
		if is, ok := got[name]; !ok || is != key {
			t.Errorf("%s: %q, want %q", name, is, key)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
}
