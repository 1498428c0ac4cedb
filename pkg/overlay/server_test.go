package overlay

import "testing"

func TestServerAddressesAreWrittenWithTheirPrefixOrNotAtAll(t *testing.T) {
	for _, c := range []struct {
		name                            string
		server                          Server
		ip, network, ip6, net6, netCIDR string
	}{
		{name: "nothing is known"},
		{name: "an address without its netmask", server: Server{Ipaddr: "10.1.0.1", Ipaddr6: "fd00::1"}},
		{
			name:   "all is known",
			server: Server{Ipaddr: "10.1.0.9", Netmask: "255.255.254.0", Network: "10.1.0.0", Ipaddr6: "fd00:1::fffa", PrefixLen6: "64"},
			ip:     "10.1.0.9/23", network: "10.1.0.0/23", ip6: "fd00:1::fffa/64", net6: "fd00:1::", netCIDR: "fd00:1::/64",
		},
		{name: "a netmask with holes", server: Server{Ipaddr: "10.1.0.9", Netmask: "255.0.255.0"}, ip: "10.1.0.9/ff00ff00"},
		{name: "an IPv4 address for IPv6", server: Server{Ipaddr6: "10.1.0.9", PrefixLen6: "24"}},
		{name: "a prefix that is none", server: Server{Ipaddr6: "fd00::1", PrefixLen6: "129"}},
	} {
		s := c.server
		got := [5]string{s.IpCIDR(), s.NetworkCIDR(), s.IpCIDR6(), s.Network6(), s.NetworkCIDR6()}
		if want := [5]string{c.ip, c.network, c.ip6, c.net6, c.netCIDR}; got != want {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
}
