//go:build e2e

package storm

import (
	"encoding/json"
	"fmt"
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
	p, err := y.gen.Start(name, append([]string{y.wulf, "--endpoint", strings.Join(endpoints, ","), "--credentials", y.creds, "--timeout", "2m",
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
	y.await(fmt.Sprintf("%d machines", n), func() (string, bool) {
		up := 0
		lines := p.Output().Lines()
		for _, l := range lines {
			var at float64
			var of int
			if k, _ := fmt.Sscanf(strings.TrimSpace(l.Text), "%f s: %d of %d up", &at, &up, &of); k < 3 {
				continue
			}
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
	set := y.addNodes(size("WULF_STORM_NODES", 100))
	y.relays[0].start()
	y.awaitRelays(1)
	p := y.begin("one", set, "--spread", "2s", "--fail-after", "2m")
	r := y.end("one", p)
	y.allUp(r)
	t.Logf("relay: %d MB at most, %s of processor time", y.relays[0].memory()>>20, y.relays[0].cpu())
}
