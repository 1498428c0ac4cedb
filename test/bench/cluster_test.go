//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// cluster is the programs of one cluster on this machine's loopback.
type cluster struct {
	t           *testing.T
	ctx         context.Context
	wulf, dir   string
	wrap        []string // comes before the programs' own command lines, as within has it
	controllers []*program
	relays      []*program
}

// program is a controller or a relay, which can be killed and started again.
type program struct {
	name, role, addr string
	cluster          *cluster
	cmd              *exec.Cmd
}

// newCluster founds a cluster of bin/wulf. Its programs end with the test; their logs stay if it failed.
func newCluster(t *testing.T, ctx context.Context, controllers, relays int) *cluster {
	t.Helper()
	c := foundCluster(t, ctx, nil, controllers)
	c.must("network", "add", "rack", "--cidr", "10.0.0.0/8")
	for i := range relays {
		c.addRelay(i + 1)
	}
	c.awaitRelays()
	return c
}

// foundCluster is one with neither networks nor relays.
func foundCluster(t *testing.T, ctx context.Context, wrap []string, controllers int) *cluster {
	t.Helper()
	root, err := rig.Repository()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, ctx: ctx, wulf: filepath.Join(root, "bin", "wulf"), wrap: wrap}
	if _, err := os.Stat(c.wulf); err != nil {
		t.Fatal("bin/wulf is not built: run make build")
	}
	if c.dir, err = os.MkdirTemp(os.Getenv("WULF_BENCH_DIR"), "wulf-bench-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range append(c.controllers, c.relays...) {
			p.kill()
		}
		if t.Failed() {
			t.Logf("data and logs: %s", c.dir)
		} else if err := os.RemoveAll(c.dir); err != nil {
			t.Error(err)
		}
	})
	for i := range controllers {
		c.addController(i + 1)
	}
	c.await("all controllers to vote", func() (string, bool) {
		var list api.List[api.ControllerView]
		c.read(&list, "controller", "list")
		voters := 0
		for _, v := range list.Items {
			if v.Voter && v.Alive {
				voters++
			}
		}
		return fmt.Sprintf("%d do", voters), voters == controllers
	})
	return c
}

// within wraps a command so that it runs in a network namespace, before what else this machine does. The process is that
// of the program itself.
func within(space string) []string {
	return []string{"nice", "-n", "-20", "ip", "netns", "exec", space}
}

// addController makes the next controller and starts it.
func (c *cluster) addController(i int) {
	c.t.Helper()
	p := &program{name: fmt.Sprintf("c%d", i), role: "controller", addr: c.freePort(), cluster: c}
	place := []string{"--data", p.data(), "--name", p.name, "--listen", p.addr, "--advertise", p.addr}
	if i == 1 {
		c.must(append([]string{"controller", "init", "--cluster", "bench"}, place...)...)
	} else {
		token := strings.TrimSpace(c.must("controller", "token", "--name", p.name))
		c.must(append([]string{"controller", "join", token, c.controllers[0].addr}, place...)...)
	}
	c.controllers = append(c.controllers, p)
	p.start()
	c.await(p.name+" to answer", func() (string, bool) {
		_, _, err := p.run("controller", "status")
		return fmt.Sprint(err), err == nil
	})
}

// addRelay makes the next relay and starts it. It serves no DHCP and no TFTP, and says that nodes reach it at an address
// that nobody has (RFC 5737): nothing boots here.
func (c *cluster) addRelay(i int) {
	c.t.Helper()
	p := &program{name: fmt.Sprintf("r%d", i), role: "relay", cluster: c}
	token := strings.TrimSpace(c.must("relay", "token", "--name", p.name, "--rack", fmt.Sprintf("rack%d", i), "--networks", "rack"))
	argv := []string{"relay", "join", token, c.controllers[0].addr, "--data", p.data(), "--address", fmt.Sprintf("198.51.100.%d", i), "--advertise", "127.0.0.1"}
	for _, flag := range []string{"--boot-port", "--mesh-port", "--gossip-port"} {
		_, port, _ := net.SplitHostPort(c.freePort())
		argv = append(argv, flag, port)
	}
	c.must(argv...)
	c.relays = append(c.relays, p)
	p.start("--no-dhcp", "--no-tftp", "--no-ipv6")
}

// freePort is an address of the loopback where nobody listens now.
func (c *cluster) freePort() string {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *program) data() string   { return filepath.Join(p.cluster.dir, p.name) }
func (p *program) socket() string { return filepath.Join(p.cluster.dir, p.name+".sock") }

// start starts the program on what is in its directory, and does not wait for anything. It does not outlive the test.
func (p *program) start(flags ...string) {
	p.cluster.t.Helper()
	argv := append([]string{p.role, "run", "--data", p.data()}, flags...)
	if p.role == "controller" {
		argv = append(argv, "--socket", p.socket())
	}
	log, err := os.OpenFile(filepath.Join(p.cluster.dir, p.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.cluster.t.Fatal(err)
	}
	defer log.Close()
	argv = slices.Concat(p.cluster.wrap, []string{p.cluster.wulf}, argv)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.cluster.t.Fatal(err)
	}
}

// kill ends the program as kill -9 does.
func (p *program) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
	_ = p.cmd.Wait()
	p.cmd = nil
}

// peak is the most memory that the program's present run has used, in MB.
func (p *program) peak() (float64, error) { return peakOf(p.cmd.Process.Pid) }

func peakOf(pid int) (float64, error) {
	kb, err := strconv.Atoi(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM"), " kB"))
	return float64(kb) * 1024 / 1e6, err
}

// run runs a command at this controller, and returns what it printed and how long it took from start to exit.
func (p *program) run(argv ...string) (string, time.Duration, error) {
	return p.cluster.run(append([]string{"--endpoint", api.UnixScheme + p.socket()}, argv...)...)
}

func (c *cluster) run(argv ...string) (string, time.Duration, error) {
	line := slices.Concat(c.wrap, []string{c.wulf}, argv)
	cmd := exec.CommandContext(c.ctx, line[0], line[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if err != nil {
		err = fmt.Errorf("wulf %s: %w after %s: %.400s", strings.Join(argv, " "), err, took.Round(time.Millisecond), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), took, err
}

// must runs a command that has to succeed, at the first controller if there is one.
func (c *cluster) must(argv ...string) string {
	c.t.Helper()
	run := c.run
	if len(c.controllers) > 0 && argv[1] != "join" {
		run = c.controllers[0].run
	}
	out, _, err := run(argv...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// read decodes what a command lists; it stays empty while nobody answers.
func (c *cluster) read(into any, argv ...string) {
	if out, _, err := c.controllers[0].run(append(argv, "-o", "json")...); err == nil {
		_ = json.Unmarshal([]byte(out), into)
	}
}

// leader waits for a leader and returns it.
func (c *cluster) leader() *program {
	c.t.Helper()
	var leader *program
	c.await("a leader", func() (string, bool) {
		var list api.List[api.ControllerView]
		c.read(&list, "controller", "list")
		for i, v := range list.Items {
			if v.Leader && v.Alive {
				leader = c.controllers[i]
			}
		}
		return "none", leader != nil
	})
	return leader
}

// awaitRelays waits until all relays serve the latest revision.
func (c *cluster) awaitRelays() {
	c.t.Helper()
	c.await("all relays to serve the latest revision", func() (string, bool) {
		var list api.List[api.RelayView]
		c.read(&list, "relay", "list")
		n := 0
		for _, v := range list.Items {
			if v.Alive && v.Status != nil && v.Status.Revision >= list.Revision {
				n++
			}
		}
		return fmt.Sprintf("%d do", n), n == len(c.relays)
	})
}

// await asks until something is so, for a minute at most.
func (c *cluster) await(what string, done func() (state string, ok bool)) {
	c.t.Helper()
	for start := time.Now(); ; {
		state, ok := done()
		if ok {
			return
		}
		if time.Since(start) > time.Minute || c.ctx.Err() != nil {
			c.t.Fatalf("waited in vain for %s: %s", what, state)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-c.ctx.Done():
		}
	}
}
