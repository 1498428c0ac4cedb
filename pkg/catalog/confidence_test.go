package catalog_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func secret(name string) catalog.Secret { return catalog.SealedPrefix + catalog.Secret(name) }

func secrets(names ...string) map[string]catalog.Secret {
	all := map[string]catalog.Secret{}
	for _, n := range names {
		all[n] = secret(n)
	}
	return all
}

func secretive(name, prefix, policy string) catalog.AddNetwork {
	return catalog.AddNetwork{Network: catalog.Network{Name: catalog.NetworkName(name), Prefix: netip.MustParsePrefix(prefix), Secrets: policy}}
}

// twoRooms has the networks rack and far, and closed, whose policy is to refuse; secrets of profiles and nodes.
func twoRooms(t *testing.T) *log {
	l := started(t)
	bmc := node("n3", "52:54:00:00:00:03", "10.2.0.3")
	bmc.Settings.BMC.Password = new(secret("bmc"))
	bmc.Profiles = []catalog.ProfileName{"far"}
	l.must(
		secretive("far", "10.2.0.0/24", catalog.SecretsRelay), secretive("closed", "10.3.0.0/24", catalog.SecretsRefuse),
		catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: catalog.Settings{Secrets: secrets("munge")}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "far", Settings: catalog.Settings{Secrets: secrets("ldap")}}},
		catalog.AddProfile{Profile: catalog.Profile{Name: "unused", Settings: catalog.Settings{Secrets: secrets("unused")}}},
		catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Secrets: secrets("own")}},
		catalog.AddNodes{Nodes: []catalog.Node{bmc,
			{Name: "n4", Settings: catalog.Settings{Nets: nic("52:54:00:00:00:04", "10.3.0.4"), Secrets: secrets("hidden")}},
			{Name: "n5", Settings: catalog.Settings{Secrets: secrets("nowhere")}}}},
	)
	return l
}

func TestARelayMayHoldTheSecretsOfItsNodesAndNoOthers(t *testing.T) {
	set := func(n string, s catalog.Settings, without ...string) catalog.Change {
		s.Without = without
		return catalog.SetNodes{Nodes: []catalog.NodeName{catalog.NodeName(n)}, Set: s}
	}
	second := catalog.Settings{Nets: map[string]catalog.NetDev{"second": {Hardware: new(catalog.HardwareAddr("52:54:00:00:01:01")), Address: new(netip.MustParseAddr("10.2.0.9"))}}}
	moved := second
	moved.Primary = new("second")
	for name, tc := range map[string]struct {
		changes []catalog.Change
		serves  []catalog.NetworkName
		want    []string
	}{
		"of profiles and nodes":         {nil, []catalog.NetworkName{"rack"}, []string{"munge", "own"}},
		"and of the BMC":                {nil, []catalog.NetworkName{"far"}, []string{"bmc", "ldap"}},
		"of both networks":              {nil, []catalog.NetworkName{"rack", "far"}, []string{"bmc", "ldap", "munge", "own"}},
		"none where it is refused":      {nil, []catalog.NetworkName{"closed"}, nil},
		"none without a network":        {nil, nil, nil},
		"of a network that is unknown":  {nil, []catalog.NetworkName{"nowhere"}, nil},
		"what is unset is gone":         {[]catalog.Change{catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Unset: []string{"secrets.munge"}}}, []catalog.NetworkName{"rack"}, []string{"own"}},
		"what one node is without":      {[]catalog.Change{set("n1", catalog.Settings{}, "secrets.munge")}, []catalog.NetworkName{"rack"}, []string{"munge", "own"}},
		"what all are without":          {[]catalog.Change{set("n1", catalog.Settings{}, "secrets"), set("n2", catalog.Settings{}, "secrets")}, []catalog.NetworkName{"rack"}, []string{"own"}},
		"set anew by the node":          {[]catalog.Change{set("n1", catalog.Settings{Secrets: map[string]catalog.Secret{"munge": secret("new")}}), set("n2", catalog.Settings{}, "secrets.munge")}, []catalog.NetworkName{"rack"}, []string{"new", "own"}},
		"not of a second device":        {[]catalog.Change{set("n1", second)}, []catalog.NetworkName{"far"}, []string{"bmc", "ldap"}},
		"of where it boots":             {[]catalog.Change{set("n1", moved)}, []catalog.NetworkName{"far"}, []string{"bmc", "ldap", "munge", "own"}},
		"a policy that becomes refuse":  {[]catalog.Change{catalog.SetNetwork{Network: secretive("far", "10.2.0.0/24", catalog.SecretsRefuse).Network}}, []catalog.NetworkName{"far"}, nil},
		"a policy that becomes relay":   {[]catalog.Change{catalog.SetNetwork{Network: secretive("closed", "10.3.0.0/24", catalog.SecretsRelay).Network}}, []catalog.NetworkName{"closed"}, []string{"hidden", "munge"}},
		"of a profile of other profile": {[]catalog.Change{catalog.SetProfiles{Names: []catalog.ProfileName{"far"}, Profiles: &[]catalog.ProfileName{"unused"}}}, []catalog.NetworkName{"far"}, []string{"bmc", "ldap", "unused"}},
		"of nodes that are deleted":     {[]catalog.Change{catalog.DeleteNodes{Nodes: []catalog.NodeName{"n3"}}}, []catalog.NetworkName{"far"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := twoRooms(t)
			var x catalog.Confidence
			r := &catalog.Relay{Networks: tc.serves}
			x.HeldBy(l.c, r) // what it remembers must not outlive the change
			l.must(tc.changes...)
			var want []catalog.Secret
			for _, w := range tc.want {
				want = append(want, secret(w))
			}
			if got := x.HeldBy(l.c, r); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", texts(got), tc.want)
			}
			for n := range l.c.Nodes() { // the short way must come to what the long one does
				r, err := l.c.Resolve(n.Name)
				if err != nil {
					t.Fatal(err)
				}
				if r.Primary == nil || r.Primary.Network == nil || !slices.Contains(tc.serves, r.Primary.Network.Name) || r.Primary.Network.Secrets != catalog.SecretsRelay {
					continue
				}
				for s := range maps.Values(r.Settings.Secrets) {
					if !slices.Contains(want, s) {
						t.Errorf("node %s has %q, too", n.Name, string(s))
					}
				}
			}
		})
	}
}

func texts(all []catalog.Secret) (out []string) {
	for _, s := range all {
		out = append(out, string(s))
	}
	return out
}

// large is a cluster of 40 000 nodes in 40 networks, each with a secret of its profile and some with one of their own.
func large(b *testing.B) *catalog.Catalog {
	l := &log{t: new(testing.T), c: &catalog.Catalog{}}
	l.must(
		catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1", API: "10.0.0.1:4400"}},
		catalog.SetProfiles{Names: []catalog.ProfileName{"default"}, Set: catalog.Settings{Secrets: secrets("munge", "ldap")}},
	)
	for r := range 40 {
		l.must(secretive(fmt.Sprintf("r%02d", r), fmt.Sprintf("10.%d.0.0/16", r), ""))
		var nodes []catalog.Node
		for i := range 1000 {
			n := node(fmt.Sprintf("r%02dn%04d", r, i), fmt.Sprintf("52:54:00:%02x:%02x:%02x", r, i>>8, i&255), fmt.Sprintf("10.%d.%d.%d", r, 1+i/250, 1+i%250))
			if i%10 == 0 {
				n.Settings.BMC.Password = new(secret(string(n.Name)))
			}
			nodes = append(nodes, n)
		}
		l.must(catalog.AddNodes{Nodes: nodes})
	}
	return l.c
}

func BenchmarkSecretsOfNodes(b *testing.B) {
	c := large(b)
	r := &catalog.Relay{Networks: []catalog.NetworkName{"r07"}}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if got := len(new(catalog.Confidence).HeldBy(c, r)); got != 102 {
				b.Fatalf("%d secrets", got)
			}
		}
	})
	b.Run("after a change of a node", func(b *testing.B) {
		l := &log{t: new(testing.T), c: c}
		l.must(catalog.SetNodes{Nodes: []catalog.NodeName{"r09n0077"}, Set: catalog.Settings{Comment: new("moved")}})
		x, other := new(catalog.Confidence), false
		for b.Loop() {
			if other = !other; other {
				x.HeldBy(l.c, r)
			} else {
				x.HeldBy(c, r)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		x := new(catalog.Confidence)
		for b.Loop() {
			x.HeldBy(c, r)
		}
	})
}
