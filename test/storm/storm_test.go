//go:build e2e

package storm

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/storm"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// begin starts the generator.
func (y *yard) begin(name, set string, more ...string) *rig.Process {
	y.t.Helper()
	var endpoints []string
	for _, c := range y.controllers {
		endpoints = append(endpoints, c.addr)
	}
	// It goes before the relays, with which it shares the processors here: an answer that nobody reads in time was never given.
	p, err := y.gen.Start(name, append([]string{"nice", "-n", "-5", y.wulf, "--endpoint", strings.Join(endpoints, ","), "--credentials", y.creds, "--timeout", "2m",
		"storm", "run", set, "--agent", agentAddr, "--report", filepath.Join(y.out, name), "--yes"}, more...)...)
	if err != nil {
		y.t.Fatal(err)
	}
	return p
}

// end waits for the generator and reads its report.
func (y *yard) end(name string, p *rig.Process) *storm.Report {
	y.t.Helper()
	select {
	case <-p.Done():
	case <-y.ctx.Done():
		y.t.Fatalf("%s did not end in time:\n%s", name, p.Output().Tail(30))
	}
	b, err := os.ReadFile(filepath.Join(y.out, name, "report.json"))
	if err != nil {
		y.t.Fatalf("%v; it said:\n%s", err, p.Output().Tail(30))
	}
	var r storm.Report
	if err := json.Unmarshal(b, &r); err != nil {
		y.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(y.out, name, "report.txt"))
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Logf("%s\n%s", name, text)
	return &r
}

// upTo waits until so many machines of a storm are up, or it has ended.
func (y *yard) upTo(p *rig.Process, n int) {
	y.awaitFor(15*time.Minute, fmt.Sprintf("%d machines", n), func() (string, bool) {
		up := 0
		for _, l := range p.Output().Lines() {
			var at float64
			var of int
			_, _ = fmt.Sscanf(strings.TrimSpace(l.Text), "%f s: %d of %d up", &at, &up, &of) // other lines change nothing
		}
		return fmt.Sprintf("%d are up", up), up >= n || !p.Running()
	})
}

func (y *yard) allUp(r *storm.Report) {
	y.t.Helper()
	if r.Up != r.Machines {
		y.t.Errorf("%d of %d machines are up; not: %s", r.Up, r.Machines, r.Down)
	}
	if r.Unverified != 0 {
		y.t.Errorf("%d bytes were not verified", r.Unverified)
	}
}

func TestMachinesBootThroughOneRelay(t *testing.T) {
	y := newYard(t, 5*time.Minute)
	y.addRelays(1)
	y.image("storm", 2<<20)
	set := y.addNodes(100)
	y.relays[0].start()
	y.awaitRelays(1)
	p := y.begin("one", set, "--spread", "2s", "--fail-after", "2m")
	r := y.end("one", p)
	y.allUp(r)
	t.Logf("relay: %d MB at most, %s of processor time", y.relays[0].memory()>>20, y.relays[0].cpu())
}

// The whole: every relay starts with an empty cache as the machines do, and in the middle the leader and every twentieth
// relay are killed.
func TestAStormWithDeathsInTheMiddle(t *testing.T) {
	nodes, relays := size("WULF_STORM_NODES", 500), size("WULF_STORM_RELAYS", 6)
	y := newYard(t, time.Duration(size("WULF_STORM_MINUTES", 10))*time.Minute)
	y.addRelays(relays)
	y.image("storm", size("WULF_STORM_IMAGE_KB", 2048)<<10)
	set := y.addNodes(nodes)
	leader := y.leader()
	before := y.egress()
	all(y.relays, (*place).start)
	p := y.begin("storm", set, "--spread", fmt.Sprintf("%ds", size("WULF_STORM_SPREAD", 10)), "--fail-after", "15m")
	y.upTo(p, nodes/4)
	after := y.egress()
	dead := map[*place]bool{leader: true}
	for i := range max(1, (relays+19)/20) { // 5 %, or more
		dead[y.relays[(i*20+1)%relays]] = true
	}
	for victim := range dead {
		victim.process.Kill()
		t.Logf("killed %s", victim.Name())
	}
	r := y.end("storm", p)
	y.allUp(r)
	y.resources(dead)
	maps.Copy(after, y.egress()) // of the leader, what it had said before it died
	total := int64(0)
	for name, n := range after {
		total += n - before[name]
	}
	copies := float64(total) / float64(r.ImageBytes)
	t.Logf("controllers sent %.2f copies of the image from the start of the relays on", copies)
	if copies > 4 {
		t.Errorf("controllers sent %.1f copies, want 4 at most", copies)
	}
}

// resources tells what programs used.
func (y *yard) resources(dead map[*place]bool) {
	y.t.Helper()
	var memory, most int64
	var cpu time.Duration
	for _, r := range y.relays {
		if !dead[r] {
			m := r.memory()
			memory, most, cpu = memory+m, max(most, m), cpu+r.cpu()
		}
	}
	y.t.Logf("relays: %d MB at most, %d MB on average, %s of processor time in all", most>>20, memory>>20/int64(len(y.relays)), cpu.Round(time.Millisecond))
	for _, c := range y.controllers {
		if !dead[c] {
			y.t.Logf("controller %s: %d MB at most, %s of processor time", c.Name(), c.memory()>>20, c.cpu())
		}
	}
}
