//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// Firmware that finds no DHCPv4 is given an address and iPXE, by TFTP or by HTTP, and iPXE its script, kernel and stage one,
// all by IPv6. Only then do the relays get their IPv4 addresses back, by which the agent goes on.
func TestFirmwareBootsByIPv6(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	address := func(verb, format string) {
		t.Helper()
		for i, relay := range c.Room.Relays {
			if out, err := relay.Command(ctx, "ip", "addr", verb, fmt.Sprintf(format, i+1), "dev", rig.RackDev).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	address("add", "fd00:77::%d/64")
	if _, err := c.Wulf(ctx, "network", "set", "rack", "--cidr6", "fd00:77::/64"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitResident(ctx); err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct {
		firmware rig.Firmware
		start    string
	}{{rig.UEFI6, ">>Start PXE over IPv6"}, {rig.UEFIHTTP6, ">>Start HTTP Boot over IPv6"}} {
		t.Run(string(tc.firmware), func(t *testing.T) {
			n := addNode(t, ctx, c, i+1, tc.firmware, "--ipaddr6", fmt.Sprintf("fd00:77::1:%d", i+1))
			address("del", "10.77.0.%d/24")
			since := time.Now()
			if err := n.PowerOn(); err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{tc.start, "Filename: http://[fd00:77::", "] Command line: "} {
				line, err := n.Console().Wait(ctx, text)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%5.1f s %.80s", line.After.Seconds(), line.Text)
			}
			address("add", "10.77.0.%d/24")
			if _, err := c.WaitBoot(ctx, n.Name(), since); err != nil {
				t.Fatalf("%v\n%s", err, n.Console().Tail(20))
			}
			if _, err := n.Console().Wait(ctx, "up: host "+n.Name()); err != nil {
				t.Fatal(err)
			}
			t.Logf("up %.1f s after power-on", time.Since(since).Seconds())
			n.PowerOff()
			why, err := c.Why(ctx, n.Name())
			if err != nil {
				t.Fatal(err)
			}
			if own := fmt.Sprintf("fd00:77::1:%d", i+1); !strings.Contains(why, own) {
				t.Errorf("the boot tells nothing of %s:\n%s", own, why)
			}
		})
	}
	// What a machine says of itself by IPv6 alone.
	const uuid, mac = "4c4c4544-0042-3510-8054-b4c04f564433", "52:54:00:77:00:63"
	address("del", "10.77.0.%d/24")
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: "stranger", MAC: mac, Firmware: rig.UEFI6, UUID: uuid})
	if err != nil {
		t.Fatal(err)
	}
	script := func(t *testing.T, want string) {
		t.Helper()
		defer m.PowerOff()
		if err := m.PowerOn(); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Console().Wait(ctx, want); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("unknown", func(t *testing.T) {
		if _, err := c.Wulf(ctx, "network", "set", "rack", "--pool", "10.77.0.200-10.77.0.210"); err != nil {
			t.Fatal(err)
		}
		script(t, "wulf discover claim "+mac+" NODE")
		if inbox, err := c.Wulf(ctx, "discover", "list", "-o", "csv", "--columns", "hardware,uuid,network", "--no-headers"); err != nil || !strings.Contains(inbox, mac+","+uuid+",rack") {
			t.Errorf("the inbox has %q, %v", inbox, err)
		}
	})
	t.Run("uuid", func(t *testing.T) { // a card that nobody has declared, in a machine that somebody has
		if err := c.AddNode(ctx, "n9", tiny, "52:54:00:77:00:09", "10.77.0.109", "--uuid", uuid); err != nil {
			t.Fatal(err)
		}
		script(t, "node n9 boots image "+tiny)
	})
}
