package lease

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A relay that gives no addresses leaves its share to the others, and takes it back as if it had been away.
func TestARelayThatGivesNoAddressesIsAsGoodAsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, time.Now(), "100-163", "r1", "r2")
		serves := true
		books := map[catalog.RelayName]*Book{}
		for name, cfg := range map[catalog.RelayName]Config{"r1": {Serves: func() bool { return serves }}, "r2": {Live: func() []catalog.RelayName {
			if serves {
				return []catalog.RelayName{"r1", "r2"}
			}
			return []catalog.RelayName{"r2"}
		}}} {
			cfg.Relay, cfg.Catalog, cfg.Log = name, func() *catalog.Catalog { return k.c }, quiet()
			b, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			books[name] = b
		}
		wait := func(d time.Duration) {
			for range int(d / time.Second) {
				time.Sleep(time.Second)
				for _, b := range books {
					w := b.world()
					b.mu.Lock()
					b.look(w)
					b.mu.Unlock()
				}
			}
		}
		wait(hold)
		at := take(t, books["r1"], hwaddr(1))
		serves = false
		if err := books["r1"].Confirm("rack", hwaddr(1), at); !errors.Is(err, fault.NotFound) {
			t.Errorf("a relay that gives no addresses: %v, want not found", err)
		}
		wait(time.Minute)
		if err := books["r2"].Confirm("rack", hwaddr(1), at); !errors.Is(err, fault.NotFound) {
			t.Errorf("its share was inherited at once: %v", err)
		}
		serves = true
		if err := books["r1"].Confirm("rack", hwaddr(1), at); err != nil {
			t.Errorf("back after a minute: %v", err)
		}
		wait(time.Minute)
		serves = false
		wait(2 * hold)
		for i := range 64 {
			take(t, books["r2"], hwaddr(100+i)) // all of the pool
		}
		serves = true
		if _, err := books["r1"].Offer("rack", hwaddr(1), netip.Addr{}); !errors.Is(err, fault.Unavailable) {
			t.Errorf("back after long: %v, want unavailable", err)
		}
		wait(hold)
		if got := take(t, books["r1"], hwaddr(1)); got != at {
			t.Errorf("then it gives %s, want %s", got, at)
		}
	})
}
