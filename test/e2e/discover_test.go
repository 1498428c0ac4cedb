//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// A machine that nobody knows shows what to type, and waits. What its board says is words, whatever it is: iPXE's shell
// makes nothing of it. When somebody types that, it boots, without a hand on it and within seconds.
func TestAnUnknownMachineBootsWhenItIsClaimed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	const mac, serial = "52:54:00:77:00:63", "SN-1 || reboot ; ${net0/mac} && poweroff"
	for _, argv := range [][]string{
		{"network", "set", "rack", "--pool", "10.77.0.200-10.77.0.210"},
		{"node", "add", "n1", "--image", tiny, "--network", "rack", "--ipaddr", "10.77.0.101", "--kernelargs", "console=ttyS0"},
	} {
		if _, err := c.Wulf(ctx, argv...); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitResident(ctx); err != nil {
		t.Fatal(err)
	}
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: "n1", MAC: mac, Firmware: rig.BIOS, Serial: serial})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Console().Wait(ctx, "wulf discover claim "+mac+" NODE"); err != nil {
		t.Fatal(err)
	}
	// The question was held, answered, and is asked again.
	if _, err := m.Console().Wait(ctx, "still waiting for: wulf discover claim "+mac); err != nil {
		t.Fatal(err)
	}
	inbox, err := c.Wulf(ctx, "discover", "list", "-o", "csv", "--columns", "hardware,serial,network,state", "--no-headers")
	if err != nil || !strings.Contains(inbox, mac+",SN-1 || reboot ;") {
		t.Errorf("the inbox has %q, %v", inbox, err)
	}
	since := time.Now()
	if _, err = c.Wulf(ctx, "discover", "claim", mac, "n1"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Console().Wait(ctx, "node n1 boots image "+tiny); err != nil {
		t.Fatal(err)
	}
	t.Logf("it boots %.1f s after the claim", time.Since(since).Seconds())
	if _, err := c.WaitBoot(ctx, "n1", begun); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Console().Wait(ctx, "up: host n1"); err != nil {
		t.Fatal(err)
	}
	m.PowerOff()
}
