//go:build e2e

package storm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// The addresses of a yard: each program has a host of its own behind one router, and the machines are behind the
// generator, which is their router and their relay agent.
//
//	c1 c2 c3        r01 … r50          the generator 10.98.0.1
//	10.98.0.11 …    10.98.1.1 …        10.64.0.0/16: the machines, and their agent 10.64.255.254
//	  └────────────────┴─────────────────┘
//	         the router 10.98.255.254
const (
	machineNet = "10.64.0.0/16"
	agentAddr  = "10.64.255.254"
	genAddr    = "10.98.0.1"
	routerAddr = "10.98.255.254"
)

// size is a number of the environment.
func size(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return usual
}

// large leaves out a test that takes minutes, where nobody asked for it.
func large(t *testing.T) {
	t.Helper()
	if os.Getenv("WULF_STORM") != "all" {
		t.Skip("left out: it takes minutes; WULF_STORM=all, or make storm")
	}
}

// yard is the programs of a cluster, and a place for the generator.
type yard struct {
	t           *testing.T
	ctx         context.Context
	rig         *rig.Rig
	router      *rig.Host
	dir, out    string // data, and what is left of it; reports
	wulf, creds string
	controllers []*place
	relays      []*place
	gen         *rig.Host
}

// place is a host, and the program on it.
type place struct {
	*rig.Host
	role, addr string
	yard       *yard
	process    *rig.Process
}

// newYard founds a cluster of three controllers; relays join later. Everything ends with the test.
func newYard(t *testing.T, limit time.Duration) *yard {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root and iproute2")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	root, err := rig.Repository()
	if err != nil {
		t.Fatal(err)
	}
	y := &yard{t: t, ctx: ctx, wulf: filepath.Join(root, "bin", "wulf"), out: filepath.Join(root, ".cache", "storm", t.Name())}
	if _, err := os.Stat(y.wulf); err != nil {
		t.Fatal("bin/wulf is not built: run make build")
	}
	if err := os.RemoveAll(y.out); err != nil {
		t.Fatal(err)
	}
	if y.dir, err = os.MkdirTemp("", "wulf-storm-"); err != nil {
		t.Fatal(err)
	}
	if y.rig, err = rig.New(y.out, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := y.rig.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(y.dir); err != nil {
			t.Error(err)
		}
		t.Logf("reports and logs: %s", y.out)
	})
	y.check(func() (err error) { y.router, err = y.rig.Host("router"); return err })
	y.check(y.router.Route)
	y.ip(y.router, "addr", "add", routerAddr+"/32", "dev", "lo")
	y.gen = y.host("gen", genAddr)
	y.ip(y.router, "route", "add", machineNet, "via", genAddr, "dev", "p-gen", "onlink")
	// All of the network is this host's: the kernel takes packets for any address of it.
	y.ip(y.gen, "route", "add", "local", machineNet, "dev", "lo")
	y.agents()
	for i := range 3 {
		y.addController(i + 1)
	}
	y.await("three voting controllers", func() (string, bool) {
		var list api.List[api.ControllerView]
		y.read(&list, "controller", "list")
		n := 0
		for _, v := range list.Items {
			if v.Voter && v.Alive {
				n++
			}
		}
		return fmt.Sprintf("%d vote", n), n == 3
	})
	y.creds = filepath.Join(y.dir, "operator.pem")
	y.must("controller", "operator", "storm", "--data", y.controllers[0].data(), "--out", y.creds)
	y.must("network", "add", "storm", "--cidr", machineNet, "--gateway", agentAddr)
	return y
}

func (y *yard) check(f func() error) {
	y.t.Helper()
	if err := f(); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) host(name, addr string) *rig.Host {
	y.t.Helper()
	h, err := y.rig.Host(name)
	if err != nil {
		y.t.Fatal(err)
	}
	y.check(func() error {
		return h.Behind(y.router, "eth0", netip.MustParseAddr(addr), netip.MustParseAddr(routerAddr))
	})
	return h
}

func (y *yard) ip(h *rig.Host, argv ...string) {
	y.t.Helper()
	if out, err := h.Command(y.ctx, append([]string{"ip"}, argv...)...).CombinedOutput(); err != nil {
		y.t.Fatalf("ip %s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// agents makes programs for stage one that nobody will run, and a boot program likewise, each as large as is said.
func (y *yard) agents() {
	y.t.Helper()
	for name, n := range map[string]int{"wulf-agent": 256 << 10, "ipxe/undionly.kpxe": 70 << 10} {
		y.file(name, noise(1, n))
	}
}

func (y *yard) file(name string, b []byte) {
	y.t.Helper()
	path := filepath.Join(y.dir, name)
	y.check(func() error { return os.MkdirAll(filepath.Dir(path), 0o755) })
	y.check(func() error { return os.WriteFile(path, b, 0o755) })
}

// noise does not compress.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// image publishes an image of so many bytes, with a kernel that nobody can run.
func (y *yard) image(name string, bytes int) {
	y.t.Helper()
	kernel := noise(2, 128<<10)
	copy(kernel[0x202:], "HdrS") // the boot protocol of x86 begins so
	y.file("root/boot/vmlinuz-6.1.0-storm", kernel)
	y.file("root/etc/os-release", []byte("ID=storm\n"))
	y.file("root/sbin/init", []byte("#!/bin/sh\n"))
	for i := range max(1, bytes>>18) {
		y.file(fmt.Sprintf("root/usr/lib/part%03d", i), noise(byte(3+i), 256<<10))
	}
	y.must("image", "import", name, filepath.Join(y.dir, "root"))
}

func (y *yard) addController(i int) {
	y.t.Helper()
	p := &place{Host: y.host(fmt.Sprintf("c%d", i), fmt.Sprintf("10.98.0.%d", 10+i)), role: "controller", addr: fmt.Sprintf("10.98.0.%d:4400", 10+i), yard: y}
	where := []string{"--data", p.data(), "--name", p.Name(), "--listen", p.addr, "--advertise", p.addr}
	if i == 1 {
		y.on(p.Host, append([]string{"controller", "init", "--cluster", "storm"}, where...)...)
	} else {
		token := y.must("controller", "token", "--name", p.Name())
		y.on(p.Host, append([]string{"controller", "join", token, y.controllers[0].addr}, where...)...)
	}
	y.controllers = append(y.controllers, p)
	p.start()
	y.await(p.Name()+" to answer", func() (string, bool) {
		_, err := y.at(p, "controller", "status")
		return fmt.Sprint(err), err == nil
	})
}

// addRelays lets relays join, two in a rack, and starts none.
func (y *yard) addRelays(n int) {
	y.t.Helper()
	token := y.must("relay", "token", "--networks", "storm", "--uses", strconv.Itoa(n))
	for i := range n {
		p := &place{role: "relay", addr: fmt.Sprintf("10.98.%d.%d", 1+i/200, 1+i%200), yard: y}
		p.Host = y.host(fmt.Sprintf("r%02d", i+1), p.addr)
		y.on(p.Host, "relay", "join", token, y.controllers[i%3].addr, "--data", p.data(), "--name", p.Name(), "--address", p.addr)
		y.relays = append(y.relays, p)
	}
	for i, p := range y.relays {
		y.must("relay", "set", p.Name(), "--rack", fmt.Sprintf("rack%d", 1+i/2), "--yes")
	}
}

// addNodes declares machines, in the racks of the relays in turn.
func (y *yard) addNodes(n int, more ...string) string {
	y.t.Helper()
	set := fmt.Sprintf("s[%05d-%05d]", 1, n)
	racks := max(1, (len(y.relays)+1)/2)
	y.must(append([]string{"node", "add", set, "--image", "storm", "--rack", fmt.Sprintf("rack{1+n1%%%d}", racks), "--ipaddr", "10.64.{n1/250}.{n1%250+1}",
		"--hwaddr", "52:54:00:{n1/65536:02x}:{n1/256%256:02x}:{n1%256:02x}", "--yes", "--timeout", "5m"}, more...)...)
	return set
}

func (p *place) data() string   { return filepath.Join(p.yard.dir, p.Name()) }
func (p *place) socket() string { return filepath.Join(p.yard.dir, p.Name()+".sock") }

// start starts the program, on what is in its directory.
func (p *place) start() {
	p.yard.t.Helper()
	argv := []string{p.yard.wulf, p.role, "run", "--data", p.data()}
	if p.role == "controller" {
		argv = append(argv, "--socket", p.socket(), "--agents", p.yard.dir)
	} else {
		argv = append(argv, "--no-ipv6", "--loaders", filepath.Join(p.yard.dir, "ipxe"))
	}
	var err error
	if p.process, err = p.Start(p.Name(), argv...); err != nil {
		p.yard.t.Fatal(err)
	}
}

// all does something to many places at once.
func all(places []*place, do func(*place)) {
	var wg sync.WaitGroup
	for _, p := range places {
		wg.Go(func() { do(p) })
	}
	wg.Wait()
}

// memory is the most that the program's present run has used, in bytes; 0 if it has ended.
func (p *place) memory() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.PID()))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// cpu is the processor time that the program's present run has used.
func (p *place) cpu() time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.process.PID()))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100)
}

// on runs a command on a host.
func (y *yard) on(h *rig.Host, argv ...string) string {
	y.t.Helper()
	out, err := y.run(h.Command(y.ctx, append([]string{y.wulf}, argv...)...))
	if err != nil {
		y.t.Fatal(err)
	}
	return out
}

// at runs a command at a controller.
func (y *yard) at(p *place, argv ...string) (string, error) {
	return y.run(exec.CommandContext(y.ctx, y.wulf, append([]string{"--endpoint", api.UnixScheme + p.socket()}, argv...)...))
}

func (y *yard) run(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %.600s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// must runs a command that has to succeed, at a controller that runs.
func (y *yard) must(argv ...string) string {
	y.t.Helper()
	out, err := y.at(y.alive(), argv...)
	if err != nil {
		y.t.Fatal(err)
	}
	return out
}

// alive is the first controller that runs.
func (y *yard) alive() *place {
	for _, p := range y.controllers {
		if p.process.Running() {
			return p
		}
	}
	y.t.Fatal("no controller runs")
	return nil
}

// read decodes what a command lists; into stays as it is while nobody answers.
func (y *yard) read(into any, argv ...string) {
	if out, err := y.at(y.alive(), append(argv, "-o", "json")...); err == nil {
		_ = json.Unmarshal([]byte(out), into)
	}
}

// leader is the controller that leads.
func (y *yard) leader() *place {
	y.t.Helper()
	var found *place
	y.await("a leader", func() (string, bool) {
		var list api.List[api.ControllerView]
		y.read(&list, "controller", "list")
		for _, v := range list.Items {
			for _, p := range y.controllers {
				if v.Leader && v.Alive && string(v.Name) == p.Name() {
					found = p
				}
			}
		}
		return "none", found != nil
	})
	return found
}

// egress is what each controller has sent.
func (y *yard) egress() map[string]int64 {
	sent := map[string]int64{}
	for _, p := range y.controllers {
		var s api.ControllerStatus
		if out, err := y.at(p, "controller", "status", "-o", "json"); err == nil && json.Unmarshal([]byte(out), &s) == nil {
			sent[p.Name()] = s.BytesOut
		}
	}
	return sent
}

// awaitRelays waits until all relays that run serve the latest revision.
func (y *yard) awaitRelays(n int) {
	y.t.Helper()
	y.await(fmt.Sprintf("%d relays at the latest revision", n), func() (string, bool) {
		var list api.List[api.RelayView]
		y.read(&list, "relay", "list")
		ready := 0
		for _, v := range list.Items {
			if v.Alive && v.Status != nil && v.Status.Revision >= list.Revision {
				ready++
			}
		}
		return fmt.Sprintf("%d are", ready), ready >= n
	})
}

// await asks until something is so, for two minutes at most.
func (y *yard) await(what string, done func() (state string, ok bool)) {
	y.t.Helper()
	y.awaitFor(2*time.Minute, what, done)
}

func (y *yard) awaitFor(limit time.Duration, what string, done func() (state string, ok bool)) {
	y.t.Helper()
	for start := time.Now(); ; {
		state, ok := done()
		if ok {
			return
		}
		if time.Since(start) > limit || y.ctx.Err() != nil {
			y.t.Fatalf("waited in vain for %s: %s", what, state)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-y.ctx.Done():
		}
	}
}
