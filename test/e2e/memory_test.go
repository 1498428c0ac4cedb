//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/cluster"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// debian is the name under which tests publish the distribution's image.
const debian = "debian"

// besidesTheImage is how much memory a node may need while it unpacks, besides what is unpacked and stage one.
const besidesTheImage = 64 << 20

// A node with its root in memory needs the image's size and little more; one that has less says so before it fetches
// anything, and how much it would need.
func TestMemoryOfANode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := newCluster(t, ctx)
	if err := c.ImportImage(ctx, debian, script(t, ctx, "make-image")); err != nil {
		t.Fatal(err)
	}
	i, err := c.Image(ctx, debian)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := i.Version(catalog.TagLatest)
	if !ok {
		t.Fatalf("no latest version: %+v", i)
	}

	least := 0 // MiB that the node needs, as one with less says
	t.Run("TooLittleIsToldAtOnce", func(t *testing.T) { least = tooLittleIsToldAtOnce(t, ctx, c, v) })
	t.Run("EnoughIsLittleMoreThanTheImage", func(t *testing.T) { enoughIsLittleMore(t, ctx, c, v, least) })
}

// debianNode declares a node of the distribution's image and switches its machine on.
func debianNode(t *testing.T, ctx context.Context, c *cluster.Cluster, i, memory int) *node {
	t.Helper()
	name, mac := fmt.Sprintf("n%d", i), fmt.Sprintf("52:54:00:77:00:%02x", i)
	m, err := c.Room.Rack.Machine(rig.MachineConfig{Name: name, MAC: mac, Firmware: rig.BIOS, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddNode(ctx, name, debian, mac, fmt.Sprintf("10.77.0.%d", 100+i)); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitRelays(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.PowerOff)
	return &node{m, c}
}

func tooLittleIsToldAtOnce(t *testing.T, ctx context.Context, c *cluster.Cluster, v catalog.ImageVersion) int {
	has := 128 + int(v.Unpacked>>20)
	n := debianNode(t, ctx, c, 1, has)
	line, err := n.Console().Wait(ctx, "MiB are left")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(line.Text)
	fix, err := n.Console().Wait(ctx, "keeps files from nodes")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Console().Wait(ctx, "restarting in"); err != nil { // it has told by then
		t.Fatal(err)
	}
	n.PowerOff()
	if err := c.WaitWhy(ctx, n.Name(), "the image does not fit"); err != nil {
		t.Error(err)
	}
	mib := regexp.MustCompile(`(\d+) MiB more`).FindStringSubmatch(fix.Text)
	if mib == nil {
		t.Fatalf("no number in %q", fix.Text)
	}
	more, err := strconv.Atoi(mib[1])
	if err != nil {
		t.Fatal(err)
	}
	return has + more
}

func enoughIsLittleMore(t *testing.T, ctx context.Context, c *cluster.Cluster, v catalog.ImageVersion, least int) {
	since := time.Now()
	// What is enough to unpack is not enough to live: the distribution's own services need some once they start.
	n := debianNode(t, ctx, c, 2, least+96)
	b, err := c.WaitBoot(ctx, n.Name(), since)
	if err != nil {
		t.Fatalf("%v\n%s", err, n.Console().Tail(20))
	}
	before, _ := memory(t, b, "stage-one")
	peak, took := memory(t, b, "image")
	used := peak - before // stage one itself is in use before
	t.Logf("machine %d MiB, unpacked %d MiB; in use before %d MiB, at most %d MiB: %d MiB besides the image; %.1f s", least+96,
		v.Unpacked>>20, before>>20, peak>>20, (used-v.Unpacked)>>20, took.Seconds())
	if limit := v.Unpacked + besidesTheImage; used > limit {
		t.Errorf("unpacking took %d MiB, want at most %d", used>>20, limit>>20)
	}
	n.PowerOff()
}

// memory is what a node had in use at most when its boot was at a stage, and how long the stage took.
func memory(t *testing.T, b api.Boot, stage string) (int64, time.Duration) {
	t.Helper()
	for _, e := range b.Events {
		if string(e.Stage) == stage && e.Memory > 0 {
			return e.Memory, e.Took
		}
	}
	t.Fatalf("the boot does not tell its memory at %s: %+v", stage, b.Events)
	return 0, 0
}
