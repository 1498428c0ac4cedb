//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// Where everything is in each yard of the DHCP bench. Some machines are in the network of the server itself; as many
// behind a relay agent, whose network the server reaches through a router.
const (
	nearNet    = 64 // 10.64.0.0/16
	farNet     = 65 // 10.65.0.0/16
	serverAddr = "10.64.0.1"
	nearAgent  = "10.64.0.2"
	farAgent   = "10.65.0.2"
	perNetwork = 10000
)

// Where rates are measured, a server has a part of one processor and perfdhcp all of another: else perfdhcp, which does no
// two things at a time, would reach its limit before the server.
const (
	sharePeriod = 10 * time.Millisecond
	shareTime   = 3 * time.Millisecond // of each period
)

// share gives a process its part of a processor, until it is taken back.
func (y *yard) share(pid int) (back func()) {
	y.t.Helper()
	name := fmt.Sprintf("wulf-share-%d", pid)
	root, limits := "/sys/fs/cgroup/cpu", [][2]string{ // of the first version
		{"cpu.cfs_period_us", strconv.FormatInt(sharePeriod.Microseconds(), 10)}, {"cpu.cfs_quota_us", strconv.FormatInt(shareTime.Microseconds(), 10)},
	}
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		root, limits = "/sys/fs/cgroup", [][2]string{{"cpu.max", fmt.Sprintf("%d %d", shareTime.Microseconds(), sharePeriod.Microseconds())}}
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0o644) // without it there is no cpu.max below
	}
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			y.t.Fatalf("no part of a processor can be given here: %v", err)
		}
	}
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		y.t.Fatalf("no part of a processor can be given here: %v", err)
	}
	for _, l := range limits {
		write(filepath.Join(dir, l[0]), l[1])
	}
	write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
	onProcessor(y.t, pid, serverSide)
	return func() {
		onProcessor(y.t, pid, fmt.Sprintf("0-%d", runtime.NumCPU()-1))
		write(filepath.Join(root, "cgroup.procs"), strconv.Itoa(pid))
		_ = os.Remove(dir)
	}
}

// firstNumber of perNetwork: machines with low numbers would have the addresses of the server and the agents.
const firstNumber = 256

// macOf is the hardware address of the i-th machine in a network.
func macOf(network, i int) string {
	i += firstNumber
	return fmt.Sprintf("02:00:00:%02x:%02x:%02x", network, i>>8, i&255)
}

// addrOf is the address that it has by reservation.
func addrOf(network, i int) string {
	i += firstNumber
	return fmt.Sprintf("10.%d.%d.%d", network, i>>8, i&255)
}

// yard is two network namespaces, joined by a cable: one for a DHCP server, one for machines and their relay agents.
type yard struct {
	t              *testing.T
	dir            string
	server, client string
}

// newYard makes one; it is gone when the test ends.
func newYard(t *testing.T, name string) *yard {
	t.Helper()
	y := &yard{t: t, dir: t.TempDir(), server: fmt.Sprintf("wb%d%ss", os.Getpid(), name), client: fmt.Sprintf("wb%d%sc", os.Getpid(), name)}
	t.Cleanup(func() {
		for _, space := range []string{y.server, y.client} {
			_ = exec.Command("ip", "netns", "del", space).Run() // it may not have been made
		}
	})
	y.ip("netns add " + y.server)
	y.ip("netns add " + y.client)
	y.ip("link add s0 netns " + y.server + " type veth peer name c0 netns " + y.client)
	for space, commands := range map[string][]string{
		y.server: {"link set lo up", "addr add " + serverAddr + "/16 dev s0", "link set s0 up", "route add 10.65.0.0/16 via " + nearAgent},
		y.client: {"link set lo up", "addr add " + nearAgent + "/16 dev c0", "addr add " + farAgent + "/16 dev c0", "link set c0 up"},
	} {
		for _, command := range commands {
			y.ip("-n " + space + " " + command)
		}
	}
	for _, network := range []int{nearNet, farNet} {
		var list strings.Builder
		for i := range perNetwork {
			fmt.Fprintln(&list, macOf(network, i))
		}
		if err := os.WriteFile(y.macs(network), []byte(list.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return y
}

func (y *yard) macs(network int) string { return filepath.Join(y.dir, fmt.Sprintf("macs%d", network)) }

func (y *yard) ip(args string) {
	y.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		y.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// start starts a program in the server's namespace. It ends with the test.
func (y *yard) start(env []string, argv ...string) *exec.Cmd {
	y.t.Helper()
	argv = append(within(y.server), argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	log, err := os.Create(filepath.Join(y.dir, "log"))
	if err != nil {
		y.t.Fatal(err)
	}
	defer log.Close()
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// startKea starts Kea with threads for all processors, all machines reserved, leases in memory alone, and no log.
func (y *yard) startKea() *exec.Cmd {
	y.t.Helper()
	type reservation struct {
		Hardware string `json:"hw-address"`
		Address  string `json:"ip-address"`
	}
	var subnets []map[string]any
	for _, network := range []int{nearNet, farNet} {
		var all []reservation
		for i := range perNetwork {
			all = append(all, reservation{macOf(network, i), addrOf(network, i)})
		}
		subnets = append(subnets, map[string]any{"id": network, "subnet": fmt.Sprintf("10.%d.0.0/16", network), "reservations": all})
	}
	config, err := json.Marshal(map[string]any{"Dhcp4": map[string]any{
		// A UDP socket instead of packet sockets: it is the faster one, and all that relay agents need.
		"interfaces-config":            map[string]any{"interfaces": []string{"s0"}, "dhcp-socket-type": "udp", "service-sockets-max-retries": 5, "service-sockets-retry-wait-time": 500},
		"lease-database":               map[string]any{"type": "memfile", "persist": false},
		"multi-threading":              map[string]any{"enable-multi-threading": true},
		"host-reservation-identifiers": []string{"hw-address"},
		"reservations-in-subnet":       true,
		"reservations-out-of-pool":     true,
		"valid-lifetime":               86400,
		"boot-file-name":               "snponly.efi",
		"next-server":                  serverAddr,
		"subnet4":                      subnets,
		"loggers":                      []map[string]any{{"name": "kea-dhcp4", "severity": "NONE"}},
	}})
	if err != nil {
		y.t.Fatal(err)
	}
	path := filepath.Join(y.dir, "kea.json")
	if err := os.WriteFile(path, config, 0o644); err != nil {
		y.t.Fatal(err)
	}
	return y.start([]string{"KEA_PIDFILE_DIR=" + y.dir, "KEA_LOCKFILE_DIR=" + y.dir}, "kea-dhcp4", "-c", path)
}

// startRelay founds a cluster that knows the same machines, and starts its relay with DHCP.
func (y *yard) startRelay(ctx context.Context) *exec.Cmd {
	y.t.Helper()
	c := foundCluster(y.t, ctx, within(y.server), 1)
	for network, name := range map[int]string{nearNet: "near", farNet: "far"} {
		c.must("network", "add", name, "--cidr", fmt.Sprintf("10.%d.0.0/16", network))
		c.must("node", "add", fmt.Sprintf("%s[%d-%d]", name, firstNumber, firstNumber+perNetwork-1), "--network", name,
			"--ipaddr", fmt.Sprintf("10.%d.{n1/256}.{n1%%256}", network), "--hwaddr", fmt.Sprintf("02:00:00:%02x:{n1/256:02x}:{n1%%256:02x}", network), "--yes", "--timeout", "2m")
	}
	p := &program{name: "r1", role: "relay", cluster: c}
	token := strings.TrimSpace(c.must("relay", "token", "--name", p.name, "--networks", "near,far"))
	argv := []string{"relay", "join", token, c.controllers[0].addr, "--data", p.data(), "--address", serverAddr, "--advertise", "127.0.0.1"}
	for _, flag := range []string{"--boot-port", "--mesh-port", "--gossip-port"} {
		_, port, _ := net.SplitHostPort(c.freePort())
		argv = append(argv, flag, port)
	}
	c.must(argv...)
	c.relays = append(c.relays, p)
	p.start("--no-tftp", "--no-ipv6")
	c.awaitRelays()
	return p.cmd
}

// load is what perfdhcp asks for.
type load struct {
	network int
	rate    int // exchanges a second
	period  time.Duration
	pinned  bool     // to a processor of its own
	options []string // what the machines say besides, as CODE,HEX
}

// outcome is what became of it.
type outcome struct {
	asked, done int // exchanges of four packets: those begun, and those that were finished
}

// lost is the share of exchanges that were not finished.
func (o outcome) lost() float64 { return 1 - float64(o.done)/float64(o.asked) }

// perfdhcp drives the yard's server with a load, as a relay agent: in the server's own network for near machines.
func (y *yard) perfdhcp(l load) (outcome, error) {
	agent := nearAgent
	if l.network == farNet {
		agent = farAgent
	}
	var argv []string
	if l.pinned {
		argv = []string{"taskset", "-c", clientSide}
	}
	argv = append(append(argv, within(y.client)...), "perfdhcp", "-4", "-l", agent, "-r", strconv.Itoa(l.rate), "-R", strconv.Itoa(perNetwork), "-M", y.macs(l.network),
		"-p", strconv.Itoa(int(l.period.Seconds())), "-W", "500000")
	for _, o := range l.options {
		argv = append(argv, "-o", o)
	}
	out, err := exec.Command(argv[0], append(argv[1:], serverAddr)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 3) { // 3: answers were lost
		return outcome{}, fmt.Errorf("perfdhcp: %w: %s", err, out)
	}
	sent, received := numbers(string(out), "sent packets:"), numbers(string(out), "received packets:")
	if len(sent) != 2 || len(received) != 2 || sent[0] == 0 {
		return outcome{}, fmt.Errorf("perfdhcp said something else: %s", out)
	}
	return outcome{asked: sent[0], done: received[1]}, nil
}

// numbers are those that follow a name at the beginning of lines.
func numbers(text, name string) []int {
	var all []int
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// cpuTime is what a process has used, of user and system time.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is cut short", pid)
	}
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100, err
}

// dhcpTools skips the test where something is not there.
func dhcpTools(t *testing.T) {
	t.Helper()
	if _, err := rig.Repository(); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for network namespaces")
	}
	if runtime.NumCPU() < 2 {
		t.Skip("SKIPPED: the server and what drives it need a processor each")
	}
	for _, tool := range []string{"ip", "taskset", "kea-dhcp4", "perfdhcp"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: %s is not here; run scripts/install-deps peers", tool)
		}
	}
}
