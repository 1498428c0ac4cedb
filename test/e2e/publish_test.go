//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/test/cluster"
)

// A controller that dies while an image is published leaves the version before or the new one, the same on all
// controllers and whole on a majority; nothing of what failed stays after gc, and a node boots what there is.
func TestKilledControllerLeavesNoMixture(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.CommandContext(ctx, "cp", "-a", script(t, ctx, "make-image"), root).CombinedOutput(); err != nil {
		t.Fatalf("copying the root: %v: %s", err, out)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where wulf remembers what it has built
	c := newCluster(t, ctx)
	others, err := c.Chunks(c.Room.Controllers[0].Name()) // of the other image, and of overlays
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ImportImage(ctx, debian, root); err != nil {
		t.Fatal(err)
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// The time of an import decides when controllers are killed: at any point of the next ones.
	change(t, root, 0)
	began := time.Now()
	if err := c.ImportImage(ctx, debian, root); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	acknowledged := 0
	for round, victim := range []string{leader, "c1", "c2", "c3", "", ""} {
		if victim == "" {
			if victim, err = c.Leader(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if killWhileImporting(t, ctx, c, root, round+1, victim, time.Duration(rand.Int64N(int64(took)))) {
			acknowledged++
		}
	}
	t.Logf("an import takes %.1f s; %d of 6 were acknowledged", took.Seconds(), acknowledged)
	nothingStrayIsLeft(t, ctx, c, others)

	since := time.Now()
	n := debianNode(t, ctx, c, 1, 768)
	if _, err := c.WaitBoot(ctx, n.Name(), since); err != nil {
		t.Fatalf("%v\n%s", err, n.Console().Tail(20))
	}
}

// change makes the tree another one: with a few megabytes that no version had.
func change(t *testing.T, root string, round int) {
	t.Helper()
	b := make([]byte, 12<<20)
	if _, err := rand.NewChaCha8([32]byte{byte(round), 1}).Read(b); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("srv-%d", i)), b[i<<21:(i+1)<<21], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// killWhileImporting imports a changed tree at a controller, kills one after some time and starts it again, and tells
// whether the import was acknowledged.
func killWhileImporting(t *testing.T, ctx context.Context, c *cluster.Cluster, root string, round int, victim string, after time.Duration) bool {
	t.Helper()
	change(t, root, round)
	before, err := c.Image(ctx, debian)
	if err != nil {
		t.Fatal(err)
	}
	at := c.Room.Controllers[round%len(c.Room.Controllers)].Name()
	imported := make(chan error, 1)
	go func() {
		_, err := c.At(ctx, at, "image", "import", debian, root, "-m", fmt.Sprint("round ", round))
		imported <- err
	}()
	select {
	case <-time.After(after):
	case <-ctx.Done():
	}
	c.Kill(victim)
	said := <-imported
	if err := c.Start(victim); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitControllers(ctx, len(c.Room.Controllers)); err != nil {
		t.Fatal(err)
	}

	var now catalog.Image
	for i, place := range c.Room.Controllers {
		is, err := c.ImageAt(ctx, place.Name(), debian)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			now = is
		} else if !reflect.DeepEqual(is, now) {
			t.Errorf("round %d: %s has %+v, %s has %+v", round, c.Room.Controllers[0].Name(), now, place.Name(), is)
		}
	}
	isNew := now.Tags[catalog.TagLatest] != before.Tags[catalog.TagLatest]
	latest, _ := now.Version(catalog.TagLatest)
	switch {
	case isNew && latest.Message != fmt.Sprint("round ", round), len(now.Versions)-len(before.Versions) > 1:
		t.Errorf("round %d: latest is neither the version before nor the new one: %+v", round, latest)
	case said == nil && !isNew:
		t.Errorf("round %d: the import was acknowledged and is not there", round)
	}
	verified, err := c.VerifyImage(ctx, debian)
	whole := 0
	for _, v := range verified {
		if v.Error == nil && v.Missing == 0 && v.Damaged == 0 {
			whole++
		}
	}
	if err != nil || whole <= len(c.Room.Controllers)/2 {
		t.Errorf("round %d: latest is whole on %d controllers: %+v, %v", round, whole, verified, err)
	}
	t.Logf("round %d: at %s, %s killed after %.2f s: acknowledged %v, new version %v, whole on %d", round, at, victim, after.Seconds(), said == nil, isNew, whole)
	return said == nil
}

// nothingStrayIsLeft collects what nothing needs and holds every controller's disk to what the versions of the image, and
// others, need.
func nothingStrayIsLeft(t *testing.T, ctx context.Context, c *cluster.Cluster, others map[chunk.ID]string) {
	t.Helper()
	if _, err := c.Wulf(ctx, "image", "gc", "--keep", "1", "--older", "0s", "--grace", "0s", "--yes"); err != nil {
		t.Fatal(err)
	}
	i, err := c.Image(ctx, debian)
	if err != nil {
		t.Fatal(err)
	}
	needed := make(map[chunk.ID]bool)
	for id := range others {
		needed[id] = true
	}
	for _, v := range i.Versions {
		files, err := c.Chunks(c.Room.Controllers[0].Name())
		if err != nil {
			t.Fatal(err)
		}
		signed, err := os.ReadFile(files[v.Manifest.ID])
		if err != nil {
			t.Fatal(err)
		}
		m, err := chunk.Read(signed)
		if err != nil {
			t.Fatal(err)
		}
		needed[v.Manifest.ID] = true
		for _, ref := range m.Refs() {
			needed[ref.ID] = true
		}
	}
	for _, place := range c.Room.Controllers {
		files, err := c.Chunks(place.Name())
		if err != nil {
			t.Fatal(err)
		}
		stray := 0
		for id := range files {
			if !needed[id] {
				stray++
			}
		}
		t.Logf("after gc %s keeps %d chunks, %d of them stray, of %d that are needed", place.Name(), len(files), stray, len(needed))
		if stray > 0 || len(files) != len(needed) {
			t.Errorf("%s does not keep what is needed", place.Name())
		}
	}
}
