package warewulf_test

import (
	"net/netip"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

func TestAClientIsToldOfItsRelay(t *testing.T) {
	at := netip.MustParseAddrPort("10.4.0.101:4480")
	for text, want := range map[string]string{
		"": "ipaddr: 10.4.0.101\nwarewulf:\n    port: 4480\n",
		"ipaddr: 10.0.0.1/16\nipaddr6: fd00::1\nprefixlen6: 64\nwarewulf:\n  port: 9873\n  tls: true\n  tls port: 9874\n  secure: false\n  update interval: 30\nwwclient:\n  port: 900\n": "ipaddr: 10.4.0.101\nnetmask: 255.255.0.0\nnetwork: 10.0.0.0\nwarewulf:\n    port: 4480\n    secure: false\n    update interval: 30\nwwclient:\n    port: 900\n",
	} {
		got, err := warewulf.ClientConfig([]byte(text), at)
		if want = "# where this node's relay is, and else what the site says\n" + want; err != nil || string(got) != want {
			t.Errorf("of %q comes %v\n%s\nwant\n%s", text, err, got, want)
		}
		if c, err := warewulf.ParseConfig(got); err != nil || c.IPAddr != "10.4.0.101" || c.Warewulf.Port != 4480 || c.IPAddr6 != "" {
			t.Errorf("it reads as %+v, %v", c, err)
		}
	}
	if _, err := warewulf.ClientConfig([]byte("ipaddr: ["), at); err == nil {
		t.Error("what is no YAML is a configuration")
	}
}
