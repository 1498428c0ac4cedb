package catalog_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func TestAnAuthorityVouchesForTheNodesThatBootInItsNetwork(t *testing.T) {
	addr := func(s string) *netip.Addr { return new(netip.MustParseAddr(s)) }
	n := network("far", "10.8.0.0/16")
	n.Domain, n.Prefix6, n.SSHAuthority = "far.example", netip.MustParsePrefix("fd08::/64"), "ssh-ed25519 AAAA"
	other := network("ib", "10.9.0.0/16")
	other.SSHAuthority = "ssh-ed25519 BBBB"
	l := started(t)
	l.must(catalog.AddNetwork{Network: n}, catalog.AddNetwork{Network: other}, catalog.AddNodes{Nodes: []catalog.Node{
		{Name: "x1", Settings: catalog.Settings{Primary: new("default"), Nets: map[string]catalog.NetDev{
			"default": {Address: addr("10.8.0.1"), Address6: addr("fd08::1"), Device: new("eth0")},
			"a-first": {Address: addr("10.9.0.1"), Device: new("ib0")}, "none": {Device: new("eth1")}, "odd": {Address: addr("10.9.0.3"), Device: new("e*")}}}},
		{Name: "x2.own.example", Settings: catalog.Settings{Nets: map[string]catalog.NetDev{"default": {Address: addr("10.8.0.2")}}}},
		{Name: "nowhere"},
	}})
	got := map[catalog.NetworkName]string{}
	for a := range l.c.SSHAuthorities() {
		got[a.Network] = a.Key + " " + strings.Join(a.Hosts, " ")
	}
	want := "ssh-ed25519 AAAA x1.far.example x1 10.8.0.1 fd08::1 x1-default x1-eth0 10.9.0.1 x1-a-first x1-ib0 10.9.0.3 x1-odd x2.own.example x2 10.8.0.2 x2.own.example-default"
	if got["far"] != want || got["ib"] != "ssh-ed25519 BBBB " {
		t.Errorf("got  %s\nand  %s\nwant %s", got["far"], got["ib"], want)
	}
	for _, key := range []string{"AAAA", "ssh-ed25519 AAAA comment", "ssh-ed25519 AAAA\n@cert-authority * ssh-ed25519 BBBB", "* ssh-ed25519"} {
		n := network("y", "10.10.0.0/16")
		n.SSHAuthority = key
		if err := l.do(catalog.AddNetwork{Network: n}); err == nil {
			t.Errorf("the authority %q is taken", key)
		}
	}
}
