package dhcpd

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
	decline  = dhcpv4.MessageTypeDecline
	release  = dhcpv4.MessageTypeRelease
	inform   = dhcpv4.MessageTypeInform
)

// Every packet that a relay may meet, and byte for byte what it says to it.
func TestAnswersAreGolden(t *testing.T) {
	option82 := generic(82, append([]byte{1, 4, 'p', 'o', 'r', 't'}, 2, 2, 'i', 'd')...)
	long := strings.Repeat("x", 230)
	for _, tc := range []struct {
		name   string
		packet *dhcpv4.DHCPv4
		how    []func(*datagram)
	}{
		{"bios-discover", message(discover, hwKnown, pxe(classPXE, 0), broadcast), nil},
		{"bios-request", message(request, hwKnown, pxe(classPXE, 0), broadcast, serverID("10.1.0.250"), requested("10.1.0.1")), nil},
		{"bios-class-without-option-93", message(discover, hwKnown, generic(60, []byte("PXEClient:Arch:00000:UNDI:002001")...)), nil},
		{"efi-x64-discover", message(discover, hwKnown, pxe(classPXE, 7)), nil},
		{"efi-x64-counted-otherwise", message(discover, hwKnown, pxe(classPXE, 9)), nil},
		{"efi-arm64-without-a-loader-here", message(request, hwKnown, pxe(classPXE, 11), serverID("10.1.0.250"), requested("10.1.0.1")), nil},
		{"efi-ia32-has-no-program", message(request, hwKnown, pxe(classPXE, 6), serverID("10.1.0.250"), requested("10.1.0.1")), nil},
		{"http-x64-discover", message(discover, hwKnown, pxe(classHTTP, 16)), nil},
		{"http-x64-request", message(request, hwKnown, pxe(classHTTP, 16), serverID("10.1.0.250"), requested("10.1.0.1")), nil},
		{"ipxe-discover", message(discover, hwKnown, ipxe(featureHTTP, 0x18)), nil},
		{"ipxe-request", message(request, hwKnown, ipxe(featureHTTP), serverID("10.1.0.250"), requested("10.1.0.1")), nil},
		{"ipxe-user-class-of-rfc-3004", message(discover, hwKnown, pxe(classPXE, 7), generic(77, []byte("\x04iPXE")...)), nil},
		{"ipxe-rom-without-http", message(discover, hwKnown, ipxe(0x15)), nil},
		{"linux-discover", message(discover, hwKnown, linux), nil},
		{"linux-selects", message(request, hwKnown, linux, serverID("10.1.0.250"), requested("10.1.0.1")), nil},
		{"linux-reboots", message(request, hwKnown, linux, requested("10.1.0.1")), nil},
		{"linux-renews", message(request, hwKnown, linux, ciaddr("10.1.0.1")), []func(*datagram){unicast, from("10.1.0.1:68")}},
		{"linux-informs", message(inform, hwKnown, linux, ciaddr("10.1.0.1")), nil},
		{"asks-for-nothing-special", message(discover, hwKnown), nil},
		{"unknown-ipxe-request", message(request, hwUnknown, ipxe(featureHTTP), serverID("10.1.0.250"), requested("10.1.0.210")), nil},
		{"unknown-in-a-network-without-pool", message(discover, hwUnknown, pxe(classPXE, 7)), []func(*datagram){on("10.2.0.250")}},
		{"known-in-another-network", message(request, hwKnown, pxe(classPXE, 7), requested("10.1.0.1")), []func(*datagram){on("10.2.0.250")}},
		{"wrong-address-selected", message(request, hwKnown, serverID("10.1.0.250"), requested("10.1.0.77")), nil},
		{"another-server-is-chosen", message(request, hwKnown, serverID("10.1.0.251"), requested("10.1.0.1")), nil},
		{"agent-discover", message(discover, hwKnown, pxe(classPXE, 7), giaddr("10.1.0.254"), option82), []func(*datagram){on("10.9.0.9"), from("10.1.0.254:67")}},
		{"agent-link-selection", message(discover, hwKnown, giaddr("10.9.9.9"), generic(82, 5, 4, 10, 1, 0, 0)), []func(*datagram){from("10.9.9.9:67")}},
		{"agent-server-id-override", message(request, hwKnown, linux, giaddr("10.1.0.254"), serverID("10.1.0.254"), requested("10.1.0.1"), generic(82, 11, 4, 10, 1, 0, 254)), nil},
		{"agent-source-port", message(discover, hwKnown, giaddr("10.1.0.254"), generic(82, 19, 0)), []func(*datagram){from("10.1.0.254:2067")}},
		{"agent-nak", message(request, hwKnown, giaddr("10.1.0.254"), requested("10.7.0.1"), option82), nil},
		{"agent-of-no-network", message(discover, hwKnown, giaddr("10.7.0.254")), nil},
		{"small-client", message(discover, hwKnown, linux, generic(57, 2, 64), giaddr("10.1.0.254"), generic(82, append([]byte{2, 230}, long...)...)), nil},
		{"proxy-bios-discover", message(discover, hwUnknown, pxe(classPXE, 0)), []func(*datagram){on("10.3.0.250")}},
		{"proxy-ipxe-discover", message(discover, hwUnknown, ipxe(featureHTTP)), []func(*datagram){on("10.3.0.250")}},
		{"proxy-4011", message(request, hwUnknown, pxe(classPXE, 7), ciaddr("10.3.0.77")), []func(*datagram){on("10.3.0.250"), toPXE, unicast, from("10.3.0.77:4011")}},
		{"proxy-linux", message(discover, hwUnknown, linux), []func(*datagram){on("10.3.0.250")}},
		{"silent-network", message(discover, hwKnown, pxe(classPXE, 7)), []func(*datagram){on("10.4.0.250")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newCluster(t, time.Now())
			var events journal
			cfg := k.config("r1", &events, nil)
			cfg.HasLoader = func(name string) bool { return name != "snponly-arm64.efi" }
			s := New(cfg)
			var b strings.Builder
			fmt.Fprintf(&b, "request\n%s", dump(t, tc.packet.ToBytes()))
			replies := ask(s, tc.packet, tc.how...)
			for _, r := range replies {
				fmt.Fprintf(&b, "\nreply to %s", r.to)
				if r.how != "" {
					fmt.Fprintf(&b, " in a frame to %s", r.how)
				}
				fmt.Fprintf(&b, ", %d bytes\n%s", len(r.b), dump(t, r.b))
			}
			if len(replies) == 0 {
				fmt.Fprintln(&b, "\nno reply")
			}
			for _, e := range events.take() {
				fmt.Fprintf(&b, "\nevent node=%s hardware=%s stage=%s relay=%s firmware=%s address=%s\n", e.Node, e.Hardware, e.Stage, e.Relay, e.Firmware, e.Address)
				if e.Message != "" {
					fmt.Fprintf(&b, "  message %s\n", e.Message)
				}
				if e.Error != "" {
					fmt.Fprintf(&b, "  error %s\n", e.Error)
				}
			}
			golden(t, filepath.Join("testdata", tc.name+".txt"), b.String())
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

// dump writes a packet as text, its options in the order of the wire.
func dump(t *testing.T, b []byte) string {
	t.Helper()
	if len(b) < offOptions {
		t.Fatalf("packet of %d bytes", len(b))
	}
	var s strings.Builder
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	fmt.Fprintf(&s, "  op %d hops %d xid %08x secs %d flags %04x\n", b[0], b[3], xid(b), binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:]))
	fmt.Fprintf(&s, "  ciaddr %s yiaddr %s siaddr %s giaddr %s chaddr %x\n", at(12), at(16), at(20), at(24), b[28:34])
	for name, field := range map[string][]byte{"sname": b[44:108], "file": b[108:236]} {
		if text := strings.TrimRight(string(field), "\x00"); text != "" {
			fmt.Fprintf(&s, "  %s %q\n", name, text)
		}
	}
	for o := b[offOptions:]; len(o) > 0 && o[0] != 255; {
		value := o[2 : 2+int(o[1])]
		fmt.Fprintf(&s, "  option %3d  %-32x %q\n", o[0], value, value)
		o = o[2+len(value):]
	}
	return s.String()
}
