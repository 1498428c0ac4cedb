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
}
