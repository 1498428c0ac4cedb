package lease

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A board without a battery starts with an old time. Then its leases may be inherited, though its clock says that it was
// away for no time at all.
func TestARelayWhoseClockWentBackTakesItselfForLongAway(t *testing.T) {
	for _, tc := range []struct {
		back time.Duration
		want bool
	}{{10 * time.Second, true}, {time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "leases.json")
			k := newCluster(t, time.Now(), "100-163", "r1", "r2")
			b := k.book("r1", path)
			at, err := b.Offer("rack", hwaddr(1), netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(Grace)
			now := time.Now().Add(tc.back)
			if err := os.WriteFile(path, snapshot("r1", now, now, b.pools).encode(), 0o600); err != nil {
				t.Fatal(err)
			}
			again := k.book("r1", path)
			got, err := again.Offer("rack", hwaddr(1), netip.Addr{})
			if tc.want && (err != nil || got != at) || !tc.want && !errors.Is(err, fault.Unavailable) {
				t.Errorf("after the clock went back by %s: %s, %v", tc.back, got, err)
			}
			time.Sleep(hold)
			if got, err := again.Offer("rack", hwaddr(1), netip.Addr{}); err != nil || got != at {
				t.Errorf("after its wait: %s, %v, want %s", got, err, at)
			}
		})
	}
}
