package dhcpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// yard is two network namespaces, joined by a cable: the relay's end has its address, the machine's end has none.
type yard struct {
	t              *testing.T
	server, client string
}

// newYard makes one, or skips the test where this computer cannot. It is gone when the test ends.
func newYard(t *testing.T, mac string, addrs ...string) *yard {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for network namespaces")
	}
	for _, tool := range []string{"ip", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: needs %s", tool)
		}
	}
	y := &yard{t, fmt.Sprintf("wdhcp%ds", os.Getpid()), fmt.Sprintf("wdhcp%dc", os.Getpid())}
	if out, err := exec.Command("ip", "netns", "add", y.server).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no permission to make network namespaces: %s", out)
	}
	t.Cleanup(func() {
		for _, ns := range []string{y.server, y.client} {
			exec.Command("ip", "netns", "del", ns).Run()
		}
	})
	y.ip("netns add " + y.client)
	y.ip("link add s0 netns " + y.server + " type veth peer name c0 address " + mac + " netns " + y.client)
	for _, a := range addrs {
		y.ip("-n " + y.server + " addr add " + a + " dev s0")
	}
	y.ip("-n " + y.server + " link set s0 up")
	y.ip("-n " + y.client + " link set c0 up")
	return y
}

func (y *yard) ip(args string) {
	y.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		y.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// do runs f on a thread in the relay's namespace, and waits for it.
func (y *yard) do(f func() error) error { return rig.InSpace(y.server, f) }

// serve runs a server on the interfaces of the namespace until the test ends.
func (y *yard) serve(s *Server) {
	y.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- y.do(func() error { return s.Run(ctx) }) }()
	y.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			y.t.Error(err)
		}
	})
}

// udhcpc starts busybox's client in the machine's namespace. Its lines are those that its script prints: what happened,
// and what it was told.
func (y *yard) udhcpc(args ...string) (*exec.Cmd, <-chan string) {
	y.t.Helper()
	script := filepath.Join(y.t.TempDir(), "script")
	text := "#!/bin/sh\n[ \"$1\" = bound ] && { ip addr flush dev $interface; ip addr add $ip/$mask dev $interface; }\n" +
		"echo \"$1 ip=$ip mask=$mask router=$router dns=$dns host=$hostname domain=$domain lease=$lease siaddr=$siaddr file=$boot_file mtu=$mtu server=$serverid\"\nexit 0\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		y.t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", y.client, "busybox", "udhcpc", "-f", "-i", "c0", "-s", script, "-t", "5", "-T", "1", "-n"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		y.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		y.t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	y.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, lines
}

// wait returns the first line that begins so.
func wait(t *testing.T, lines <-chan string, prefix string) string {
	t.Helper()
	late := time.After(8 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the client ended before %q", prefix)
			}
			if strings.HasPrefix(line, prefix+" ") {
				return line
			}
		case <-late:
			t.Fatalf("no %q from the client", prefix)
		}
	}
}

// An independent client gets its address over real sockets: by a frame to its hardware address, by broadcast, and when
// it renews, by plain unicast; and a second server is refused.
func TestBusyboxGetsItsAddress(t *testing.T) {
	y := newYard(t, hwKnown, "10.1.0.250/24")
	k := newCluster(t, time.Now())
	k.do(time.Now(), catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"rack1"}}, catalog.DeleteRelay{Name: "r2"})
	var events journal
	s := New(k.config("r1", &events, nil))
	y.serve(s)

	cmd, lines := y.udhcpc("-V", "PXEClient:Arch:00007:UNDI:003001", "-O", "bootfile", "-O", "mtu", "-O", "ntpsrv")
	bound := wait(t, lines, "bound")
	for _, want := range []string{"ip=10.1.0.1 ", "mask=24", "router=10.1.0.254", "dns=10.0.0.53 10.0.0.54", "host=n001", "domain=lab.example", "lease=86400", "siaddr=10.1.0.250", "file=snponly.efi", "mtu=9000"} {
		if !strings.Contains(bound, want) {
			t.Errorf("the client was told %q, without %q", bound, want)
		}
	}
	if got := events.take(); len(got) != 1 || got[0].Node != "n001" || got[0].Firmware != "efi-x64" {
		t.Errorf("events %+v, want the handshake of n001", got)
	}
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil { // renew
		t.Fatal(err)
	}
	if line := wait(t, lines, "renew"); !strings.Contains(line, "ip=10.1.0.1 ") {
		t.Errorf("renewed: %q", line)
	}
	cmd.Process.Kill()

	_, lines = y.udhcpc("-B", "-q") // wants answers by broadcast
	if line := wait(t, lines, "bound"); !strings.Contains(line, "ip=10.1.0.1 ") {
		t.Errorf("by broadcast: %q", line)
	}

	second := newCluster(t, time.Now())
	n, _ := second.catalog().Network("rack1")
	probing := *n
	probing.Probe = true
	second.do(time.Now(), catalog.SetNetwork{Network: probing}) // what asks for addresses must not keep it from ending
	other := New(second.config("r1", &events, nil))
	err := y.do(func() error { return other.Run(t.Context()) })
	if !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "dhcpd.test (process") {
		t.Errorf("a second server on the port: %v, want a conflict that names this process", err)
	}
	if st := s.Stats(); st.Panics+st.Unsent+st.Malformed != 0 {
		t.Errorf("stats %+v", st)
	}
}

// A strange server's answers are heard on the wire, and an interface that gets its address late is served all the same.
func TestInterfacesAndStrangersAreNoticed(t *testing.T) {
	y := newYard(t, hwUnknown)
	k := newCluster(t, time.Now())
	k.do(time.Now(), catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"rack1"}}, catalog.DeleteRelay{Name: "r2"})
	var events journal
	s := New(k.config("r1", &events, nil))
	y.serve(s)
	time.AfterFunc(100*time.Millisecond, func() { exec.Command("ip", "-n", y.server, "addr", "add", "10.1.0.250/24", "dev", "s0").Run() })
	_, lines := y.udhcpc("-q", "-t", "20")
	bound := wait(t, lines, "bound")
	var at string
	fmt.Sscanf(bound, "bound ip=%s", &at)
	n, _ := k.catalog().Network("rack1")
	if a, err := netip.ParseAddr(at); err != nil || !n.Pool.Contains(a) {
		t.Errorf("an unknown machine was told %q, want an address of the pool", bound)
	}

	// The rogue is busybox's server at the other end of the cable; its answer is provoked by a client beside it.
	y.ip("-n " + y.client + " addr flush dev c0")
	y.ip("-n " + y.client + " addr add 10.1.0.66/24 dev c0")
	conf := filepath.Join(t.TempDir(), "udhcpd.conf")
	if err := os.WriteFile(conf, []byte("start 10.1.0.70\nend 10.1.0.79\ninterface c0\nlease_file /dev/null\npidfile /dev/null\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rogue := exec.Command("ip", "netns", "exec", y.client, "busybox", "udhcpd", "-f", conf)
	if err := rogue.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		rogue.Process.Kill()
		rogue.Wait()
	})
	// A discovery from the relay's side of the cable reaches the rogue; its offer, broadcast, comes back.
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for range 50 {
		err := y.do(func() error {
			conn, err := listenUDP("s0", clientPort)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.WriteTo(message(discover, "52:54:00:00:00:77", broadcast).ToBytes(), broadcastTo(serverPort))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Problems()) > 0 {
			break
		}
		<-again.C
	}
	if lines := s.Problems(); len(lines) != 1 || !strings.Contains(lines[0], "10.1.0.66") {
		t.Errorf("problems %q, want the strange server 10.1.0.66", lines)
	}
}

// Addresses that somebody uses are not offered: on the link ARP tells, behind an agent ICMP does. The squatter is a
// network card of its own at the machine's end of the cable, and has all of the pool but the last address.
func TestAddressesInUseAreFoundOnTheWire(t *testing.T) {
	y := newYard(t, hwUnknown, "10.1.0.250/24")
	k := newCluster(t, time.Now())
	n, _ := k.catalog().Network("rack1")
	small := *n
	small.Pool.Last, small.Probe = n.Pool.First.Next().Next(), true
	k.do(time.Now(), catalog.SetNetwork{Network: small}, catalog.SetRelay{Name: "r1", Networks: &[]catalog.NetworkName{"rack1"}}, catalog.DeleteRelay{Name: "r2"})
	y.ip("-n " + y.client + " link add squat link c0 type macvlan mode bridge")
	for a := small.Pool.First; a != small.Pool.Last; a = a.Next() {
		y.ip("-n " + y.client + " addr add " + a.String() + "/24 dev squat")
	}
	y.ip("-n " + y.client + " link set squat up")
	var events journal
	s := New(k.config("r1", &events, nil))
	y.serve(s)
	_, lines := y.udhcpc("-q", "-t", "20")
	if line := wait(t, lines, "bound"); !strings.Contains(line, "ip="+small.Pool.Last.String()+" ") {
		t.Errorf("the machine was told %q, want the last address of the pool", line)
	}
	e, err := echoIn(y)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan netip.Addr, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Hear(func(a netip.Addr, _ net.HardwareAddr) { heard <- a })
	}()
	if err := e.Probe(small.Pool.First); err != nil {
		t.Error(err)
	}
	select {
	case a := <-heard:
		if a != small.Pool.First {
			t.Errorf("%s answers, want %s", a, small.Pool.First)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody answers ICMP")
	}
	e.Close()
	<-done
	if lines := s.Problems(); len(lines) != 0 {
		t.Errorf("problems %q", lines)
	}
}

// echoIn opens a socket for ICMP in the relay's namespace.
func echoIn(y *yard) (e *echo, err error) {
	err = y.do(func() error {
		e, err = listenEcho()
		return err
	})
	return e, err
}
