//go:build bench

package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	hostilePackets = 10_000_000 // mutated ones, of DHCP and TFTP together; WULF_BENCH_PACKETS is another number
	hostileRelay   = "10.255.0.1"
	hostileWithin  = 2 * time.Second // an honest client is served
	hostileShare   = 99              // per cent of them
	hostileNodes   = 32
	hostileRounds  = 2  // in which all of them come
	hostileMemory  = 16 // MB that a round after the first may leave behind
)

// vitals are what must be the same after an attack as before.
type vitals struct {
	goroutines, files int
	memory            float64 // MB
}

// TestHostile sends a relay what nobody should: mutated packets, garbage, slow clients, floods; all the while honest clients
// ask for addresses, boot programs and files. The relay must serve them, not fail inside, and keep nothing.
func TestHostile(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	y := newSiege(t)
	dir := t.TempDir()
	program := make([]byte, 64<<10)
	for i := range program {
		program[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(dir, tftpProgram), program, 0o644); err != nil {
		t.Fatal(err)
	}
	r := newReport(t, "hostile traffic: a relay and its honest clients")
	c := newCluster(t, ctx, 1, 0)
	c.await("a pool", func() (string, bool) {
		_, _, err := c.controllers[0].run("network", "set", "rack", "--pool", "10.1.0.1-10.1.255.254")
		return fmt.Sprint(err), err == nil
	})
	c.must("node", "add", fmt.Sprintf("n[001-%03d]", hostileNodes), "--ipaddr", "10.2.0.{n1}", "--hwaddr", "52:54:00:00:00:{n1:02x}")
	p := c.addBootRelay(hostileRelay, "--loaders", dir)
	packets := hostilePackets
	if v, err := strconv.Atoi(os.Getenv("WULF_BENCH_PACKETS")); err == nil && v > 0 {
		packets = v
	}
	h := &honest{yard: y, program: program}
	warm, stopWarm := context.WithTimeout(ctx, 5*time.Second)
	h.run(warm)
	stopWarm()
	if h.problem() != "" {
		t.Fatalf("before any attack: %s", h.report())
	}
	calm := p.vitals(t)
	fmt.Printf("\n%s, %d cores, load %.1f before\nbefore:      %+v\n", r.machine.CPU, r.machine.Cores, r.machine.Load, calm)
	var after [hostileRounds]vitals // a program that works has more memory than one that never did, but no more each time
	for round := range after {
		for _, a := range y.attacks(packets / hostileRounds) {
			probes := &honest{yard: y, program: program}
			until, stop := context.WithCancel(ctx)
			var running sync.WaitGroup
			running.Go(func() { probes.run(until) })
			began := time.Now()
			what := a.run(ctx)
			took := time.Since(began)
			select {
			case <-time.After(3 * time.Second): // honest clients right after it, too
			case <-ctx.Done():
			}
			stop()
			running.Wait()
			fmt.Printf("%-20s %-40s %6.1f s   %s\n", a.name, what, took.Seconds(), probes.report())
			if bad := probes.problem(); bad != "" {
				t.Errorf("%s: %s", a.name, bad)
			}
		}
		after[round] = p.settle(t, calm)
		fmt.Printf("after this:  %+v\n\n", after[round])
	}
	first, last := after[0], after[hostileRounds-1]
	if last.goroutines > calm.goroutines+10 || last.files > calm.files+10 || last.memory > first.memory+hostileMemory {
		t.Errorf("something stays behind: %+v before, %+v after", calm, after)
	}
	log, err := os.ReadFile(filepath.Join(c.dir, p.name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "panic") || strings.Contains(line, "failed inside") || strings.Contains(line, "could not be handled") {
			t.Errorf("the relay failed inside: %s", line)
		}
	}
}

// attack is one kind of it. run tells what was sent.
type attack struct {
	name string
	run  func(ctx context.Context) string
}

// attacks are all kinds, with that many mutated packets.
func (y *siege) attacks(packets int) []attack {
	const full = hostilePackets
	return []attack{
		{"mutated DHCP", func(ctx context.Context) string { return y.mutated(ctx, dhcpSeeds(), 67, packets/2, 64) }},
		{"mutated TFTP", func(ctx context.Context) string { return y.mutated(ctx, tftpSeeds(), 69, packets/2, 64) }},
		{"spoofed requests", func(ctx context.Context) string { return y.spoofed(ctx, 20_000, 500*time.Millisecond) }},
		{"DHCP from one port", func(ctx context.Context) string { return y.flood(ctx, dhcpSeeds()[0], 67, packets/20) }},
		{"TFTP from one port", func(ctx context.Context) string { return y.flood(ctx, tftpSeeds()[0], 69, packets/20) }},
		{"HTTP garbage", func(ctx context.Context) string { return y.garbage(ctx, max(100, 2000*packets/full)) }},
		{"slow HTTP clients", func(ctx context.Context) string {
			return y.slow(ctx, max(100, 400*packets/full), max(2*time.Second, 20*time.Second*time.Duration(packets)/full))
		}},
	}
}

// settle waits until the program has as few goroutines and files as it had, and returns what it uses then.
func (p *program) settle(t *testing.T, was vitals) (now vitals) {
	t.Helper()
	for range 45 { // slow clients are given half a minute
		time.Sleep(time.Second)
		if now = p.vitals(t); now.goroutines <= was.goroutines+10 && now.files <= was.files+10 {
			break
		}
	}
	return now
}

// vitals reads what the program uses now. A program that ended fails the test.
func (p *program) vitals(t *testing.T) vitals {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	var v vitals
	a, err := http.Get("http://" + netip.AddrPortFrom(netip.MustParseAddr(hostileRelay), 4480).String() + "/metrics")
	if err != nil {
		t.Fatalf("the relay does not answer: %v", err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "wulf_relay_goroutines "); ok {
			v.goroutines, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	files, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	v.files = len(files)
	kb, err := strconv.Atoi(strings.TrimSuffix(field(proc+"/status", "VmRSS"), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	v.memory = float64(kb) * 1024 / 1e6
	return v
}
