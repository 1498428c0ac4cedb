package view

import (
	"os"
	"reflect"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func TestAServerThatSaysNothingIsAsThePackagesHaveIt(t *testing.T) {
	for _, text := range []string{"", "warewulf: {}\ndhcp: {}\nnfs: {}\nssh: {}\ntftp: {}\npaths: {}\n"} {
		s, err := ReadServer([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if want := overlay.DefaultServer(); !reflect.DeepEqual(s, want) {
			t.Errorf("%q\n got %+v\nwant %+v", text, s, want)
		}
	}
}

func TestAServerIsWhatItsFileSays(t *testing.T) {
	text, err := os.ReadFile("../testdata/warewulf-4.7.conf")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadServer(text)
	if err != nil {
		t.Fatal(err)
	}
	want := overlay.DefaultServer()
	want.Ipaddr, want.Netmask, want.Network = "10.1.255.250", "255.255.0.0", "10.1.0.0"
	want.Ipaddr6, want.PrefixLen6 = "fd00:1::fffa", "64"
	want.Warewulf.TLSEnabled, want.Warewulf.Secure, want.Warewulf.UpdateInterval, want.Warewulf.SystemdName = true, false, 120, "warewulfd"
	want.Dhcp = overlay.DhcpService{
		Enabled: true, Template: "static", RangeStart: "10.1.128.1", RangeEnd: "10.1.191.254",
		Range6Start: "fd00:1::1:0", Range6End: "fd00:1::1:ffff", SystemdName: "dnsmasq",
	}
	want.Tftp.TftpRoot = "/srv/tftp"
	want.Tftp.IpxeBinaries = map[string]string{"00:00": "undionly.kpxe", "00:0B": "arm64-efi/snponly.efi"}
	want.Ssh.KeyTypes = []string{"ed25519", "rsa"}
	want.Paths.WWOverlaydir, want.Paths.WWFilesdir = "/srv/overlays", "/srv/files"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestWhatAServerLeavesOutFollowsFromTheRest(t *testing.T) {
	s, err := ReadServer([]byte("ipaddr: 10.1.5.1\nnetmask: 255.255.252.0\nipaddr6: FD00::1\nwarewulf: {secure: false}\nnfs:\n  export paths:\n  - path: /home\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Network != "10.1.4.0" || s.NetworkCIDR() != "10.1.4.0/22" {
		t.Errorf("the network is %q, %q", s.Network, s.NetworkCIDR())
	}
	if s.Ipaddr6 != "FD00::1" {
		t.Errorf("an address is %q, not as it was written", s.Ipaddr6)
	}
	if s.Warewulf.SecureFiles {
		t.Error("files are not as secure as the rest")
	}
	if want := []overlay.NfsExport{{Path: "/home"}}; !reflect.DeepEqual(s.Nfs.ExportsExtended, want) {
		t.Errorf("exports are %+v", s.Nfs.ExportsExtended)
	}
}

func TestAFileThatIsNoConfigurationIsInvalid(t *testing.T) {
	if _, err := ReadServer([]byte("warewulf:\n  port: [1]\n")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}
