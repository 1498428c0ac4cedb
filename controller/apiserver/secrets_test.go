package apiserver

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// as asks for a change as an operator does, secrets in clear.
func (b *bench) as(change catalog.Change) {
	b.t.Helper()
	if _, err := b.change(api.ChangeRequest{Kind: catalog.KindOf(change), Change: encode(b.t, change)}); err != nil {
		b.t.Fatal(err)
	}
}

// values are what a relay is told of the secrets of nodes, in order, and how many it is not told of.
func (b *bench) values(relay *x509.Certificate) (all []string, leftOut int) {
	b.t.Helper()
	w := b.ask(relay, "GET", api.PathSecrets, nil)
	if err := problemOf(b.t, w); err != nil {
		b.t.Fatal(err)
	}
	var s api.RelaySecrets
	if err := unmarshal(w.Body.Bytes(), &s); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range s.Values {
		all = append(all, string(v))
	}
	slices.Sort(all)
	return all, s.LeftOut
}

func nodeAt(name, ip string, s catalog.Settings) catalog.Node {
	s.Nets = map[string]catalog.NetDev{catalog.DefaultNet: {Address: new(netip.MustParseAddr(ip))}}
	return catalog.Node{Name: catalog.NodeName(name), Settings: s}
}

func TestARelayIsToldTheSecretsOfItsNodesAsLongAsItMayHoldThem(t *testing.T) {
	b := newBench(t)
	far := catalog.Network{Name: "far", Prefix: netip.MustParsePrefix("10.3.0.0/16")}
	b.must(catalog.AddNetwork{Network: far})
	b.as(catalog.AddProfile{Profile: catalog.Profile{Name: "slurm", Settings: catalog.Settings{Secrets: map[string]catalog.Secret{"munge": "the munge key"}}}})
	own := nodeAt("n1", "10.1.0.9", catalog.Settings{Secrets: map[string]catalog.Secret{"own": "of n1"}})
	own.Profiles = []catalog.ProfileName{"slurm"}
	b.as(catalog.AddNodes{Nodes: []catalog.Node{own,
		nodeAt("n2", "10.2.0.9", catalog.Settings{Secrets: map[string]catalog.Secret{"own": "of n2, whose network refuses"}}),
		nodeAt("n3", "10.3.0.9", catalog.Settings{BMC: catalog.BMC{Password: new(catalog.Secret("of the BMC of n3"))}}),
	}})
	r1, r2 := b.admitRelay("r1", "10.1.0.1", "rack", "other"), b.admitRelay("r2", "10.3.0.1", "far")
	check := func(when string, relay *x509.Certificate, want ...string) {
		t.Helper()
		if got, left := b.values(relay); !slices.Equal(got, want) || left > 0 {
			t.Errorf("%s the relay is told %q and not told %d, want %q", when, got, left, want)
		}
	}
	check("at first", r1, "of n1", "the munge key")
	check("at first", r2, "of the BMC of n3")
	b.as(catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Unset: []string{"secrets.own"}})
	check("after it was unset", r1, "the munge key")
	b.as(catalog.SetProfiles{Names: []catalog.ProfileName{"slurm"}, Set: catalog.Settings{Secrets: map[string]catalog.Secret{"munge": "another key"}}})
	check("after it was set anew", r1, "another key")
	b.as(catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"other"}})
	check("after the network was taken away", r1)
	b.as(catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"rack"}})
	check("after it was given back", r1, "another key")
	far.Secrets = catalog.SecretsRefuse
	b.as(catalog.SetNetwork{Network: far})
	check("after the policy became refuse", r2)
	b.as(catalog.DeleteRelay{Name: "r1"})
	if err := problemOf(t, b.ask(r1, "GET", api.PathSecrets, nil)); !errors.Is(err, fault.Denied) {
		t.Errorf("a removed relay: %v", err)
	}
}

func TestSecretsThatNobodyCanOpenOrThatAreTooManyAreCounted(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	foreign, err := pki.NewMeshSecret().Vault().Seal("of another cluster")
	if err != nil {
		t.Fatal(err)
	}
	b.must(catalog.AddNodes{Nodes: []catalog.Node{nodeAt("n1", "10.1.0.9", catalog.Settings{Secrets: map[string]catalog.Secret{"own": foreign}})}})
	if got, left := b.values(r1); len(got) > 0 || left != 1 {
		t.Errorf("told %q, and not %d", got, left)
	}
	const many = api.MaxRelayValues/catalog.MaxSecret + 10
	all := map[string]catalog.Secret{}
	for i := range many {
		all[fmt.Sprintf("s%04d", i)] = catalog.Secret(strings.Repeat("x", catalog.MaxSecret-8) + fmt.Sprintf("%08d", i))
	}
	names := slices.Sorted(maps.Keys(all))
	for i, some := range slices.Collect(slices.Chunk(names, 40)) {
		s := catalog.Settings{Secrets: map[string]catalog.Secret{}}
		for _, n := range some {
			s.Secrets[n] = all[n]
		}
		b.as(catalog.AddNodes{Nodes: []catalog.Node{nodeAt(fmt.Sprintf("m%d", i), fmt.Sprintf("10.1.1.%d", i+1), s)}})
	}
	got, left := b.values(r1)
	if len(got)+left != many+1 || left < 10 || left > 30 {
		t.Errorf("told %d, and not %d, of %d", len(got), left, many+1)
	}
}
