//go:build bench

package bench

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

const (
	tftpProgram = "undionly.kpxe" // a name that a relay knows
	tftpBytes   = 1 << 20
	tftpServer  = "10.255.0.1:69"
	tftpTotal   = 512 // transfers of each measurement
	tftpLossy   = 64  // clients of the measurement with loss
)

// tftpPeer is a server that is measured.
type tftpPeer struct {
	name    string
	command []string // nil: a relay
	flags   []string // of the relay
	missing string   // why it cannot be measured
}

// tftpFigures are what was measured of one server, by window and clients.
type tftpFigures struct {
	peer   string
	cpu    map[[2]int]float64 // ms a transfer
	rate   map[[2]int]float64 // transfers a second
	failed map[[2]int]int     // transfers
	lossy  map[int]float64    // seconds, median, with loss, by window
	window map[int]int        // asked for, and agreed on
}

// TestTFTP measures our relay's TFTP beside those of others: a program of 1 MiB for 32 and 256 clients, by blocks of 1468
// bytes, with windows of 1, 4 and 16, and with one packet in a hundred lost.
func TestTFTP(t *testing.T) {
	if !ownNetwork(t, "addr add 10.255.0.1/32 dev lo", "route add local 10.1.0.0/16 dev lo") {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	twoSides(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // servers serve what all may read
		t.Fatal(err)
	}
	program := make([]byte, tftpBytes)
	dice := rand.New(rand.NewPCG(1, 1))
	for i := range program {
		program[i] = byte(dice.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, tftpProgram), program, 0o644); err != nil {
		t.Fatal(err)
	}
	r := newReport(t, "TFTP: a program of 1 MiB, blksize 1468")
	var all []tftpFigures
	for _, p := range tftpPeers(t, dir) {
		if p.missing != "" {
			fmt.Printf("\n!!! %s is not measured: %s\n\n", p.name, p.missing)
			continue
		}
		all = append(all, measureTFTP(t, ctx, p, dir, program))
	}
	m := r.machine
	fmt.Printf("\n%s\n%s, %d cores, %d MB, %s, %s, load %.1f before\n", r.what, cmp.Or(m.CPU, "unknown CPU"), m.Cores, m.Memory, m.System, m.Go, m.Load)
	fmt.Printf(`
Servers run one after the other, on the loopback of a network namespace and the first processor. The load is one process on
the second, which also does what the kernel does with packets that are received (Receive Packet Steering), as another machine would.
Each client has an address of its own, compares every byte, and says again after %s what was not answered. CPU is what the
control group of the server used, children included, for %d transfers. With loss, %d clients throw away one in a hundred of the packets
that come, the same ones each time; the time is the median of a transfer's.

`, loadWait, tftpTotal, tftpLossy)
	printTFTP(t, all)
}

// tftpPeers are the servers, ours first.
func tftpPeers(t *testing.T, dir string) []tftpPeer {
	host, port, err := net.SplitHostPort(tftpServer)
	if err != nil {
		t.Fatal(err)
	}
	root, err := rig.Repository()
	if err != nil {
		t.Fatal(err)
	}
	find := func(names ...string) string {
		for _, n := range names {
			for _, d := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", filepath.Join(root, ".cache/peers/usr/sbin")) {
				if path := filepath.Join(d, n); exists(path) && filepath.IsAbs(path) {
					return path
				}
			}
		}
		return ""
	}
	peers := []tftpPeer{
		{name: "wulf"},
		{name: "wulf, single port", flags: []string{"--tftp-single-port"}},
		{name: "tftpd-hpa", command: []string{find("in.tftpd"), "--listen", "--foreground", "--user", "root", "--address", tftpServer, "--secure", dir}},
		{name: "dnsmasq", command: []string{find("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--port=0", "--enable-tftp",
			"--tftp-root=" + dir, "--tftp-max=1000", "--listen-address=" + host, "--bind-interfaces", "--log-facility=/dev/null"}},
		{name: "atftpd", command: []string{find("atftpd"), "--daemon", "--no-fork", "--user", "root.root", "--maxthread", "1000", "--no-multicast", "--bind-address", host,
			"--port", port, "--logfile", "/dev/null", dir}},
	}
	for i := range peers {
		if c := peers[i].command; c != nil && c[0] == "" {
			peers[i].missing = "it is not installed; scripts/install-deps peers, as root, does that"
		}
	}
	return peers
}

func measureTFTP(t *testing.T, ctx context.Context, p tftpPeer, dir string, program []byte) tftpFigures {
	f := tftpFigures{p.name, map[[2]int]float64{}, map[[2]int]float64{}, map[[2]int]int{}, map[int]float64{}, map[int]int{}}
	var pid int
	if p.command == nil {
		c := newCluster(t, ctx, 1, 0)
		c.await("a pool for the clients", func() (string, bool) { // something else may change the catalog at that moment
			_, _, err := c.controllers[0].run("network", "set", "rack", "--pool", "10.1.0.1-10.1.255.254")
			return fmt.Sprint(err), err == nil
		})
		relay := c.addBootRelay(strings.Split(tftpServer, ":")[0], append(p.flags, "--no-dhcp", "--loaders", dir)...)
		pid = relay.cmd.Process.Pid
		defer c.stop()
	} else {
		cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
		pid = cmd.Process.Pid
	}
	onProcessor(t, pid, serverSide)
	a := newAccount(t, pid)
	defer a.kill()
	l := fetchers{server: netip.MustParseAddrPort(tftpServer), name: tftpProgram, program: program, clients: 1, each: 1, window: 1}
	for start := time.Now(); ; {
		one := l.run()
		if one.failed == nil {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Errorf("%s does not serve: %v", p.name, one.failed)
			return f
		}
	}
	for _, window := range []int{1, 4, 16} {
		l.window = window
		for _, clients := range []int{32, 256} {
			l.clients, l.each, l.loss = clients, tftpTotal/clients, 0
			before := a.seconds()
			got := l.run()
			used := a.seconds() - before
			at := [2]int{window, clients}
			f.window[window], f.failed[at] = got.window, got.fails
			f.cpu[at], f.rate[at] = 1000*used/tftpTotal, tftpTotal/got.wall.Seconds()
			t.Logf("%s, window %d (agreed %d), %d clients: %.2f ms of CPU a transfer, %.0f transfers/s, %d failed (%v)", p.name, window, got.window, clients, f.cpu[at], f.rate[at], got.fails, got.failed)
		}
		if l.clients, l.each, l.loss = tftpLossy, 1, 0.01; f.window[window] == window {
			got := l.run()
			slices.Sort(got.each)
			f.lossy[window] = got.each[len(got.each)/2].Seconds()
			t.Logf("%s, window %d, 1 %% lost: median %.2f s, longest %.2f s, %d failed (%v)", p.name, window, f.lossy[window], got.each[len(got.each)-1].Seconds(), got.fails, got.failed)
		} else if window > 1 {
			break // it has no windows
		}
	}
	return f
}

// addBootRelay makes a relay that serves boot programs at an address.
func (c *cluster) addBootRelay(address string, flags ...string) *program {
	c.t.Helper()
	p := &program{name: "boot", role: "relay", cluster: c}
	token := strings.TrimSpace(c.must("relay", "token", "--name", p.name, "--rack", "rack1", "--networks", "rack"))
	c.must("relay", "join", token, c.controllers[0].addr, "--data", p.data(), "--address", address, "--advertise", "127.0.0.1")
	c.relays = append(c.relays, p)
	p.start(append(flags, "--no-ipv6")...)
	c.awaitRelays()
	return p
}

// stop ends all programs.
func (c *cluster) stop() {
	for _, p := range append(c.controllers, c.relays...) {
		p.kill()
	}
}

func printTFTP(t *testing.T, all []tftpFigures) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "window\tclients\tserver\tCPU ms/transfer\ttransfers/s\tfailed\t1 % lost: s\t")
	best := map[[2]int]float64{} // CPU of the best peer at window 1, by clients
	lossy := map[int]float64{}
	for _, window := range []int{1, 4, 16} {
		for _, clients := range []int{32, 256} {
			at := [2]int{window, clients}
			for _, f := range all {
				if _, ok := f.cpu[at]; !ok || f.window[window] != window {
					fmt.Fprintf(w, "%d\t%d\t%s\tagrees on no window\t\t\t\t\n", window, clients, f.peer)
					continue
				}
				fmt.Fprintf(w, "%d\t%d\t%s\t%.2f\t%.0f\t%d\t%.2f\t\n", window, clients, f.peer, f.cpu[at], f.rate[at], f.failed[at], f.lossy[window])
				if ours := strings.HasPrefix(f.peer, "wulf"); !ours && window == 1 && (best[at] == 0 || f.cpu[at] < best[at]) {
					best[at] = f.cpu[at]
				}
				if ours := strings.HasPrefix(f.peer, "wulf"); !ours && (lossy[window] == 0 || f.lossy[window] < lossy[window]) {
					lossy[window] = f.lossy[window]
				}
			}
		}
	}
	w.Flush()
	fmt.Println()
	verdict := func(what string, got, most float64) {
		if most == 0 {
			fmt.Printf("%-78s %.2f, and no peer to hold it against\n", what, got)
			return
		}
		fmt.Printf("%-78s %.2f, promised at most %.2f: %.0f %% of it\n", what, got, most, 100*got/most)
	}
	for _, f := range all {
		if !strings.HasPrefix(f.peer, "wulf") {
			continue
		}
		for _, clients := range []int{32, 256} {
			one := best[[2]int{1, clients}]
			verdict(fmt.Sprintf("%s, %d clients, window 1: CPU against the best peer's", f.peer, clients), f.cpu[[2]int{1, clients}], one)
			for _, window := range []int{4, 16} {
				verdict(fmt.Sprintf("%s, %d clients, window %d: against a third of that", f.peer, clients, window), f.cpu[[2]int{window, clients}], one/3)
			}
		}
		for _, window := range []int{1, 4, 16} {
			verdict(fmt.Sprintf("%s, window %d, 1 %% lost: seconds, against the best peer's", f.peer, window), f.lossy[window], lossy[window])
		}
		for _, n := range f.failed {
			if n > 0 {
				t.Errorf("%s: %d transfers failed", f.peer, n)
			}
		}
	}
}
