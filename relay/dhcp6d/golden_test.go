package dhcp6d

import (
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

var update = flag.Bool("update", false, "write the golden files anew")

// through is a message as agents pass it on, the first one of them next to the client.
func through(m dhcpv6.DHCPv6, peer string, links ...string) dhcpv6.DHCPv6 {
	for i, link := range links {
		r := &dhcpv6.RelayMessage{MessageType: dhcpv6.MessageTypeRelayForward, HopCount: uint8(i), LinkAddr: net.ParseIP(link), PeerAddr: net.ParseIP(peer)}
		r.AddOption(dhcpv6.OptInterfaceID([]byte(fmt.Sprintf("port%d", i))))
		if i == 0 {
			r.AddOption(&dhcpv6.OptRemoteID{EnterpriseNumber: 9, RemoteID: []byte("switch")})
		}
		r.AddOption(dhcpv6.OptRelayMessage(m))
		m, peer = r, "fd00:9::1"
	}
	return m
}

// Every message that a relay may meet, and byte for byte what it says to it.
func TestAnswersAreGolden(t *testing.T) {
	const (
		solicit, request, renew, rebind   = dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind
		confirm, inform, release, decline = dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeInformationRequest, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline
		n1, n2, n3, unknown               = "fe80::5054:ff:fe00:1", "fe80::5054:ff:fe00:2", "fe80::5054:ff:fe00:3", "fe80::5054:ff:fe00:ff"
	)
	me, other := to(duidOf("lab", "r1")), to(duidOf("lab", "r2"))
	ll := duidLL("52:54:00:00:00:01")
	stored := duidUUID([16]byte{0x44, 0x45, 0x4c, 0x4c, 0x42, 0x00, 0x10, 0x35, 0x80, 0x54, 0xb4, 0xc0, 0x4f, 0x56, 0x44, 0x33})
	written := duidUUID([16]byte{0x4c, 0x4c, 0x45, 0x44, 0x00, 0x42, 0x35, 0x10, 0x80, 0x54, 0xb4, 0xc0, 0x4f, 0x56, 0x44, 0x33})
	nobody := duidUUID([16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	efi, arm, http := firmware(classPXE, iana.EFI_X86_64), firmware(classPXE, iana.EFI_ARM64), firmware(classHTTP, iana.EFI_X86_64_HTTP)
	bad := message(solicit, ll, ia())
	onlyV4 := []netip.Addr{netip.MustParseAddr("fe80::250"), netip.MustParseAddr("10.1.0.250")}
	for _, tc := range []struct {
		name   string
		packet dhcpv6.DHCPv6
		from   string
		addrs  []netip.Addr // of the relay; nil: addrs
	}{
		{"efi-solicits", message(solicit, ll, ia(), efi), n1, nil},
		{"efi-requests", message(request, ll, me, ia("fd00:1::1"), efi), n1, nil},
		{"efi-rapid", message(solicit, ll, ia(), efi, rapid), n1, nil},
		{"efi-arm64-without-a-loader-here", message(solicit, ll, ia(), arm), n1, nil},
		{"efi-by-uuid", message(solicit, stored, ia(), efi), "fe80::1234", nil},
		{"efi-by-unknown-uuid", message(solicit, nobody, ia(), efi), n2, nil},
		{"efi-of-nobody-can-say", message(solicit, nobody, ia(), efi), "fe80::1234", nil},
		{"http-solicits", message(solicit, ll, ia(), http), n1, nil},
		{"http-requests", message(request, ll, me, ia("fd00:1::1"), http), n1, nil},
		{"ipxe-requests", message(request, written, me, ia("fd00:1::1"), iPXE), "fe80::1234", nil},
		{"ipxe-asks-for-the-rest", message(inform, ll, iPXE), n1, nil},
		{"linux-solicits", message(solicit, ll, ia()), n1, nil},
		{"linux-renews", message(renew, ll, me, ia("fd00:1::1")), n1, nil},
		{"linux-renews-what-is-another's", message(renew, ll, me, ia("fd00:1::7", "fd00:1::1")), n1, nil},
		{"linux-rebinds", message(rebind, ll, ia("fd00:1::1")), n1, nil},
		{"linux-confirms", message(confirm, ll, ia("fd00:1::1")), n1, nil},
		{"linux-confirms-elsewhere", message(confirm, ll, ia("fd00:7::1")), n1, nil},
		{"linux-confirms-nothing", message(confirm, ll, ia()), n1, nil},
		{"linux-releases", message(release, ll, me, ia("fd00:1::1")), n1, nil},
		{"declines", message(decline, ll, me, ia("fd00:1::1")), n1, nil},
		{"asks-twice", message(solicit, ll, ia(), ia()), n1, nil},
		{"requests-an-address-of-elsewhere", message(request, ll, me, ia("fd00:7::1")), n1, nil},
		{"another-server-is-chosen", message(request, ll, other, ia("fd00:1::1")), n1, nil},
		{"node-of-the-second-network", message(solicit, duidLL("52:54:00:00:00:03"), ia(), efi), n3, nil},
		{"node-without-an-address", message(request, duidLL("52:54:00:00:00:02"), me, ia(), efi), n2, nil},
		{"unknown-requests", message(request, nobody, me, ia(), efi), unknown, nil},
		{"unknown-where-they-are-not-welcome", message(solicit, nobody, ia(), efi), unknown, []netip.Addr{netip.MustParseAddr("fe80::250"), netip.MustParseAddr("fd00:2::250")}},
		{"node-of-another-network", message(solicit, duidLL("52:54:00:00:00:01"), ia(), efi), n1, []netip.Addr{netip.MustParseAddr("fe80::250"), netip.MustParseAddr("fd00:2::250")}},
		{"relay-without-an-address-there", message(solicit, ll, ia(), efi), n1, onlyV4},
		{"narrow-network", message(solicit, ll, ia(), efi), n1, []netip.Addr{netip.MustParseAddr("fd00:4::25")}},
		{"agent", through(message(solicit, duidLL("52:54:00:00:00:04"), ia(), efi), "fe80::5054:ff:fe00:4", "fd00:3::fe"), "fd00:3::fe", nil},
		{"agent-of-an-unknown-machine", through(message(request, nobody, me, ia(), efi), unknown, "fd00:3::fe"), "fd00:3::fe", nil},
		{"agents", through(message(solicit, duidLL("52:54:00:00:00:04"), ia(), efi), "fe80::5054:ff:fe00:4", "::", "fd00:3::fe", "fd00:9::1"), "fd00:9::1", nil},
		{"agents-too-many", through(message(solicit, ll, ia(), efi), n1, slices.Repeat([]string{"fd00:3::fe"}, 9)...), "fd00:3::fe", nil},
		{"agent-of-no-network", through(message(solicit, ll, ia(), efi), n1, "fd00:7::1"), "fd00:7::1", nil},
		{"no-client", message(solicit, ia(), efi), n1, nil},
		{"a-server's-message", message(dhcpv6.MessageTypeAdvertise, ll, me, ia()), n1, nil},
		{"solicits-one-server", message(solicit, ll, me, ia()), n1, nil},
		{"another-link", bad, n1, []netip.Addr{netip.MustParseAddr("fd00:7::250")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := addrs
			if tc.addrs != nil {
				at = tc.addrs
			}
			onSegment(t, at, nil, func(s *segment) {
				var b strings.Builder
				fmt.Fprintf(&b, "request\n%s", dump(tc.packet.ToBytes(), "  "))
				replies := s.ask(tc.packet, tc.from, 2*Patience)["r1"]
				for _, r := range replies {
					fmt.Fprintf(&b, "\nreply to %s, %d bytes\n%s", r.at, len(r.b), dump(r.b, "  "))
				}
				if len(replies) == 0 {
					fmt.Fprintln(&b, "\nno reply")
				}
				for _, e := range s.recorded() {
					fmt.Fprintf(&b, "\nevent node=%s hardware=%s stage=%s relay=%s firmware=%s address=%s\n", e.Node, e.Hardware, e.Stage, e.Relay, e.Firmware, e.Address)
					if e.Message != "" {
						fmt.Fprintf(&b, "  message %s\n", e.Message)
					}
					if e.Error != "" {
						fmt.Fprintf(&b, "  error %s\n", e.Error)
					}
					if e.Fix != "" {
						fmt.Fprintf(&b, "  fix %s\n", e.Fix)
					}
					if m := e.Machine; m != nil {
						fmt.Fprintf(&b, "  machine %+v\n", *m)
					}
				}
				for _, p := range s.servers["r1"].Problems() {
					fmt.Fprintf(&b, "\nproblem %s\n", p)
				}
				golden(t, filepath.Join("testdata", strings.ReplaceAll(tc.name, "'", "")+".txt"), b.String())
			}, "r1")
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s\nif that is right: go test -update", path, got, want)
	}
}

// holds are the options that hold options, and how many bytes come before those.
var holds = map[uint16]int{3: 12, 5: 24}

// dump writes a message as text, its options in the order of the wire.
func dump(b []byte, indent string) string {
	var s strings.Builder
	if b[0] == 12 || b[0] == 13 {
		fmt.Fprintf(&s, "%stype %d hops %d link %s peer %s\n", indent, b[0], b[1], net.IP(b[2:18]), net.IP(b[18:34]))
		s.WriteString(dumpOptions(b[34:], indent))
		return s.String()
	}
	fmt.Fprintf(&s, "%stype %d xid %x\n", indent, b[0], b[1:4])
	s.WriteString(dumpOptions(b[4:], indent))
	return s.String()
}

func dumpOptions(b []byte, indent string) string {
	var s strings.Builder
	for len(b) >= 4 {
		code, value := binary.BigEndian.Uint16(b), b[4:4+binary.BigEndian.Uint16(b[2:])]
		b = b[4+len(value):]
		skip, has := holds[code]
		switch {
		case code == 9:
			fmt.Fprintf(&s, "%soption %3d\n%s", indent, code, dump(value, indent+"  "))
		case has:
			fmt.Fprintf(&s, "%soption %3d  %x\n%s", indent, code, value[:skip], dumpOptions(value[skip:], indent+"  "))
		default:
			fmt.Fprintf(&s, "%soption %3d  %x %q\n", indent, code, value, value)
		}
	}
	return s.String()
}

func TestTheServersNameIsTheSameAfterEachStart(t *testing.T) {
	all := map[string]bool{}
	for range 2 {
		for _, d := range []dhcpv6.DUID{duidOf("lab", "r1"), duidOf("lab", "r2"), duidOf("other", "r1")} {
			all[fmt.Sprintf("%x", d.ToBytes())] = true
		}
	}
	if len(all) != 3 {
		t.Errorf("three relays have the names %v", slices.Sorted(maps.Keys(all)))
	}
}
