package replication

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestOneMemberBeginsAndContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("c1")
		c.leader()
		if rev, result, err := c.at["c1"].Propose(t.Context(), []byte("a")); err != nil || result != 1 {
			t.Fatalf("Propose = %d, %v, %v", rev, result, err)
		}
		rev, result, err := c.at["c1"].Propose(t.Context(), []byte("nope"))
		if err != nil || fmt.Sprint(result) != "rejected nope" {
			t.Fatalf("a rejected command: %v, %v", result, err)
		}
		if got, err := c.at["c1"].ReadIndex(t.Context()); err != nil || got != rev {
			t.Fatalf("ReadIndex = %d, %v, want %d", got, err, rev)
		}
		if err := c.stop("c1"); err != nil {
			t.Fatalf("Run = %v after its context ended", err)
		}
		begun := time.Now()
		c.start("c1")
		c.propose("b")
		t.Logf("a restarted member orders again after %v", time.Since(begun))
		if got, want := c.agree(), []string{"a", "b"}; !slices.Equal(got, want) {
			t.Fatalf("after a restart the machine has %q, want %q", got, want)
		}
	})
}

func TestBeforeAndAfterRunEverythingIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("c1")
		n := c.at["c1"].Node
		c.leader()
		if err := n.Run(t.Context()); !errors.Is(err, fault.Internal) {
			t.Errorf("a second Run = %v", err)
		}
		c.stop("c1")
		_, _, perr := n.Propose(t.Context(), nil)
		_, rerr := n.ReadIndex(t.Context())
		for what, err := range map[string]error{
			"Propose": perr, "ReadIndex": rerr, "Wait": n.Wait(t.Context(), 1000),
			"Remove": n.Remove(t.Context(), "c1"), "Snapshot": n.Snapshot(t.Context()),
		} {
			if !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s after Run: %v", what, err)
			}
		}
		if got := n.Status().Role; got != Stopped {
			t.Errorf("role %s after Run", got)
		}
	})
}
