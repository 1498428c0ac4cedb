package dhcp6d

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// until waits for something that must come within seconds.
func until(t *testing.T, what string, come func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !come(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

// On a real wire: another program holds the port, which is told, and gives it back; then a machine is answered by
// multicast, with the URL of an address that the interface was given meanwhile.
func TestAMachineIsAnsweredOnTheWire(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIPPED: needs ip")
	}
	server, client := fmt.Sprintf("wdhcp6%ds", os.Getpid()), fmt.Sprintf("wdhcp6%dc", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", server).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no permission to make network namespaces: %s", out)
	}
	t.Cleanup(func() {
		for _, space := range []string{server, client} {
			exec.Command("ip", "netns", "del", space).Run()
		}
	})
	run := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	run("netns add " + client)
	run("link add s0 netns " + server + " type veth peer name c0 address 52:54:00:00:00:01 netns " + client)
	run("-n " + server + " addr add fd00:2::250/64 dev s0 nodad")
	run("-n " + server + " link set s0 up")
	run("-n " + client + " link set c0 up")

	var other net.PacketConn
	if err := rig.InSpace(server, func() (err error) {
		other, err = net.ListenPacket("udp6", "[::]:547")
		return err
	}); err != nil {
		t.Skip("SKIPPED: no IPv6:", err)
	}
	defer other.Close()
	c := lab(t)
	s := New(Config{
		Relay: "r1", Cluster: "lab", Planner: planner{c: c}, Catalog: func() *catalog.Catalog { return c }, Changed: func() <-chan struct{} { return nil },
		HasLoader: func(string) bool { return true }, Record: func(boot.Event) {}, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rig.InSpace(server, func() error { return s.Run(ctx) }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	until(t, "a word of the port", func() bool {
		p := s.Problems()
		return len(p) == 1 && strings.HasPrefix(p[0], "cannot serve DHCPv6 on s0: another program holds UDP port 547")
	})
	run("-n " + server + " addr add fd00:1::250/64 dev s0 nodad")
	other.Close()
	until(t, "no more word of it", func() bool { return len(s.Problems()) == 0 })

	var conn net.PacketConn
	until(t, "the client's link-local address", func() bool {
		return rig.InSpace(client, func() (err error) {
			conn, err = net.ListenPacket("udp6", "[fe80::5054:ff:fe00:1%c0]:546")
			return err
		}) == nil
	})
	defer conn.Close()
	b := make([]byte, 1500)
	var advertise *dhcpv6.Message
	until(t, "an answer", func() bool {
		m := message(dhcpv6.MessageTypeSolicit, duidLL("52:54:00:00:00:01"), ia(), efi, elapsed(time.Minute))
		if _, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers, Port: 547, Zone: "c0"}); err != nil {
			return false
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return false
		}
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			return false
		}
		advertise, err = dhcpv6.MessageFromBytes(b[:n])
		return err == nil && advertise.Options.BootFileURL() == "tftp://[fd00:1::250]/snponly.efi"
	})
	if a := advertise.Options.OneIANA().Options.OneAddress(); advertise.MessageType != dhcpv6.MessageTypeAdvertise || a == nil || a.IPv6Addr.String() != "fd00:1::1" {
		t.Errorf("the answer is %s", advertise.Summary())
	}
}
