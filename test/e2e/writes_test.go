//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wulfmesh/wulfmesh/test/cluster"
)

// killedLeaderLosesNothing writes to every controller at once, kills the leader with SIGKILL in the middle, and holds the
// catalogs of all controllers against what was acknowledged.
func killedLeaderLosesNothing(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	const before, after = 40, 40 // acknowledged writes around the kill
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var (
		acknowledged sync.Map
		count        atomic.Int64
		refused      atomic.Int64
		killed       = make(chan struct{})
		enough       = make(chan struct{})
		wg           sync.WaitGroup
	)
	for w, place := range c.Room.Controllers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-enough:
					return
				case <-ctx.Done():
					return
				default:
				}
				name := fmt.Sprintf("w%d-%04d", w, i)
				_, err := c.At(ctx, place.Name(), "node", "add", name)
				if err != nil {
					refused.Add(1)
					if exit, ok := errors.AsType[*cluster.ExitError](err); !ok || exit.Code != 6 && exit.Code != 4 {
						t.Errorf("writing %s at %s: %v", name, place.Name(), err)
						return
					}
					if place.Name() == leader {
						<-killed
						return // it does not come back before the writing is over
					}
					continue
				}
				acknowledged.Store(name, place.Name())
				switch count.Add(1) {
				case before:
					c.Kill(leader)
					close(killed)
				case before + after:
					close(enough)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatalf("only %d writes were acknowledged in time", count.Load())
	}
	if err := c.Start(leader); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitControllers(ctx, len(c.Room.Controllers)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d writes acknowledged, %d not, leader %s killed after %d", count.Load(), refused.Load(), leader, before)

	hashes := make(map[string][]string)
	for _, place := range c.Room.Controllers {
		nodes, err := c.NodesAt(ctx, place.Name())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range nodes {
			names = append(names, string(n.Name))
		}
		acknowledged.Range(func(name, by any) bool {
			if !slices.Contains(names, name.(string)) {
				t.Errorf("%s, acknowledged by %s, is lost on %s", name, by, place.Name())
			}
			return true
		})
		if sorted := slices.Sorted(slices.Values(names)); len(slices.Compact(sorted)) != len(names) {
			t.Errorf("%s lists a node twice: %s", place.Name(), strings.Join(names, " "))
		}
		status, err := c.Status(ctx, place.Name())
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("revision %d hash %v", status.Revision, status.Hash)
		hashes[key] = append(hashes[key], place.Name())
	}
	if len(hashes) != 1 {
		t.Errorf("the controllers differ: %v", hashes)
	}
}
