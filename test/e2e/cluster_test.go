//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/cluster"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// tiny is the name under which the tests publish the busybox image.
const tiny = "tiny"

// newCluster founds a cluster of real processes, with the tiny image published. It ends with the test.
func newCluster(t *testing.T, ctx context.Context) *cluster.Cluster {
	t.Helper()
	state, err := os.MkdirTemp("", "wulf-e2e-") // t.TempDir has too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	c, err := cluster.New(newRoom(t), state, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	// Ends the programs before their data goes; newRoom's own cleanup comes later and finds nothing to do.
	t.Cleanup(func() { c.Room.Close() })
	if err := c.Up(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.ImportImage(ctx, tiny, script(t, ctx, "make-image-busybox")); err != nil {
		t.Fatal(err)
	}
	return c
}

// A node is a machine of a test with its declaration.
type node struct {
	*rig.Machine
	c *cluster.Cluster
}

// addNode declares the i-th node and builds its machine, switched off.
func addNode(t *testing.T, ctx context.Context, c *cluster.Cluster, i int, firmware rig.Firmware, args ...string) *node {
	t.Helper()
	name, mac := fmt.Sprintf("n%d", i), fmt.Sprintf("52:54:00:77:00:%02x", i)
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: name, MAC: mac, Firmware: firmware})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddNode(ctx, name, tiny, mac, fmt.Sprintf("10.77.0.%d", 100+i), args...); err != nil {
		t.Fatal(err)
	}
	return &node{m, c}
}

// boot switches nodes off and on, all at once, and waits until each has told the controllers that it is up.
func boot(t *testing.T, ctx context.Context, nodes ...*node) {
	t.Helper()
	since := time.Now()
	for _, n := range nodes {
		if err := n.PowerCycle(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			b, err := n.c.WaitBoot(ctx, n.Name(), since)
			if err != nil {
				t.Errorf("%v\n%s", err, n.Console().Tail(20))
				return
			}
			t.Logf("%s up %.1f s after power-on, relay %s, revision %d", n.Name(), b.Last.Sub(since).Seconds(), b.Relay, b.Revision)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, n := range nodes {
		if _, err := n.Console().Wait(ctx, "up: host "+n.Name()); err != nil {
			t.Fatal(err)
		}
		n.PowerOff()
	}
}

// The stories of one cluster of real processes. They share it, because founding it costs seconds, and each leaves it
// whole for the next.
func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	bios := addNode(t, ctx, c, 1, rig.BIOS)
	uefi := addNode(t, ctx, c, 2, rig.UEFI)
	web := addNode(t, ctx, c, 3, rig.UEFIHTTP)

	t.Run("ControllersSendEachChunkOnce", func(t *testing.T) { controllersSendEachChunkOnce(t, ctx, c) })
	t.Run("EveryFirmwareBoots", func(t *testing.T) { boot(t, ctx, bios, uefi, web) })
	t.Run("OneStageBoots", func(t *testing.T) {
		boot(t, ctx, addNode(t, ctx, c, 4, rig.BIOS, "--method", "one-stage"))
	})
	t.Run("DamagedChunksNeverReachANode", func(t *testing.T) { damagedChunksNeverReachANode(t, ctx, c, bios) })
	t.Run("KilledLeaderLosesNothingAcknowledged", func(t *testing.T) { killedLeaderLosesNothing(t, ctx, c) })
	t.Run("BootsWithoutAnyController", func(t *testing.T) { bootsWithoutAnyController(t, ctx, c, bios) })
}

// Two relays that both want an image fetch each chunk of it from a controller about once, and from each other besides.
func controllersSendEachChunkOnce(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	if err := c.WaitResident(ctx); err != nil {
		t.Fatal(err)
	}
	distinct := make(map[chunk.ID]bool)
	for _, relay := range c.Room.Relays {
		files, err := c.Chunks(relay.Name())
		if err != nil {
			t.Fatal(err)
		}
		for id := range files {
			distinct[id] = true
		}
	}
	var sent int64
	for _, place := range c.Room.Controllers {
		status, err := c.Status(ctx, place.Name())
		if err != nil {
			t.Fatal(err)
		}
		sent += status.ChunksOut
	}
	t.Logf("%d chunks on two relays, %d sent by controllers", len(distinct), sent)
	if limit := int64(len(distinct) + len(distinct)/4 + 2); sent > limit {
		t.Errorf("controllers sent %d chunks for %d distinct ones, want at most %d", sent, len(distinct), limit)
	}
}

// Two bytes flipped in every chunk of the only living relay: the node boots, from chunks that were fetched anew, and the
// relay reports the damage.
func damagedChunksNeverReachANode(t *testing.T, ctx context.Context, c *cluster.Cluster, n *node) {
	relay, other := c.Room.Relays[0].Name(), c.Room.Relays[1].Name()
	if err := c.WaitResident(ctx); err != nil {
		t.Fatal(err)
	}
	c.Kill(other)
	files, err := c.Chunks(relay)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		flip(t, path)
	}
	boot(t, ctx, n)
	if err := c.WaitDamage(ctx, relay); err != nil {
		t.Error(err)
	}
	if err := c.Start(other); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
}

// flip inverts two bytes in the middle of a file, in place, as a failing disk does.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{^b[0], ^b[1]}, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// With every controller stopped a node comes up, and the controllers learn of it when they are back.
func bootsWithoutAnyController(t *testing.T, ctx context.Context, c *cluster.Cluster, n *node) {
	for _, name := range c.ControllersRunning() {
		if err := c.Stop(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	since := time.Now()
	if err := n.PowerCycle(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Console().Wait(ctx, "up: host "+n.Name()); err != nil {
		t.Fatal(err)
	}
	for _, place := range c.Room.Controllers {
		if err := c.Start(place.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitControllers(ctx, len(c.Room.Controllers)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitBoot(ctx, n.Name(), since); err != nil {
		t.Fatal(err)
	}
	n.PowerOff()
}
