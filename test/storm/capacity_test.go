//go:build e2e

package storm

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/capacity"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// What wulf plan capacity says beforehand is held against storms of three sizes through relays whose links are the neck:
// they carry 40 Mbit/s each.
func TestWhatCapacitySaysIsWhatStormsTake(t *testing.T) {
	large(t)
	const (
		relays = 4
		mbit   = 40
		image  = 2 << 20
		share  = 0.20      // how far they may be apart
		kernel = 400 << 10 // kernel and stage one
		loader = 70 << 10
	)
	y := newYard(t, 10*time.Minute)
	y.addRelays(relays)
	y.image("storm", image)
	sizes := []int{60, 160, 320}
	y.addNodes(sizes[len(sizes)-1])
	for _, r := range y.relays {
		y.narrow(r, mbit)
	}
	all(y.relays, (*place).start)
	y.awaitRelays(relays)
	for i, nodes := range sizes {
		name := fmt.Sprintf("capacity-%d", nodes)
		r := y.end(name, y.begin(name, fmt.Sprintf("s[%05d-%05d]", 1, nodes), "--spread", "2s", "--fail-after", "5m"))
		y.allUp(r)
		const nothing = time.Nanosecond // simulated machines take no time for themselves
		f, err := capacity.Predict(capacity.Site{
			Nodes: nodes, Relays: relays, Image: r.ImageBytes - kernel, Unpacked: r.ImageBytes, Boot: kernel, Loader: loader, Overlay: 30 << 10,
			NodeLink: capacity.Link(10), RelayLink: capacity.Link(mbit / 1000.0), Over: 2 * time.Second, Cold: i == 0, Chunk: image / 3,
			Machine: capacity.Machine{Firmware: nothing, Spread: nothing, DHCP: nothing, TFTP: 5e6, Chain: nothing, Kernel: nothing, Unpack: 1e12, Init: nothing},
			Costs:   capacity.Costs{Cores: 2},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what          string
			said, measure time.Duration
		}{{"half", f.Up.P50, r.ToUp.P50}, {"the last", f.Up.Max, r.ToUp.Max}} {
			off := c.said.Seconds()/c.measure.Seconds() - 1
			t.Logf("%d machines: %s up after %.1f s, said beforehand: %.1f s (%+.0f %%)", nodes, c.what, c.measure.Seconds(), c.said.Seconds(), 100*off)
			if math.Abs(off) > share {
				t.Errorf("%d machines: %s is %.0f %% off, want 20 at most", nodes, c.what, 100*off)
			}
		}
	}
}

// narrow lets a relay's link carry so many megabits a second, each way.
func (y *yard) narrow(p *place, mbit int) {
	y.t.Helper()
	for dev, h := range map[string]*rig.Host{"eth0": p.Host, "p-" + p.Name(): y.router} {
		out, err := h.Command(y.ctx, "tc", "qdisc", "replace", "dev", dev, "root", "tbf", "rate", fmt.Sprintf("%dmbit", mbit), "burst", "32kb", "latency", "100ms").CombinedOutput()
		if err != nil {
			y.t.Fatalf("tc: %v: %s", err, out)
		}
	}
}
