package lease

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestAMachineKeepsItsAddressWhileTheLeaseLastsAndAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-103", "r1").book("r1", "")
		got := take(t, b, hwaddr(1))
		time.Sleep(Lease / 2)
		if again := take(t, b, hwaddr(1)); again != got {
			t.Errorf("got %s while it holds %s", again, got)
		}
		for i := 2; i <= 4; i++ {
			take(t, b, hwaddr(i))
		}
		time.Sleep(2 * Lease)
		if again := take(t, b, hwaddr(1)); again != got {
			t.Errorf("after the lease it got %s, want its old %s, which nobody needed", again, got)
		}
	})
}

func TestAnAddressGoesToAnotherOnlyAfterItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-100", "r1").book("r1", "")
		a := take(t, b, hwaddr(1))
		time.Sleep(Lease - time.Second)
		if _, err := b.Offer("rack", hwaddr(2), netip.Addr{}); !errors.Is(err, fault.Full) {
			t.Errorf("offer while the only address is leased: %v, want full", err)
		}
		if err := b.Confirm("rack", hwaddr(2), a); !errors.Is(err, fault.Conflict) {
			t.Errorf("confirming another machine's address: %v, want conflict", err)
		}
		if lines := b.Problems(); len(lines) != 1 {
			t.Errorf("problems %q, want the pool that is used up", lines)
		}
		time.Sleep(time.Second)
		if got := take(t, b, hwaddr(2)); got != a {
			t.Errorf("got %s, want %s", got, a)
		}
		if err := b.Confirm("rack", hwaddr(1), a); !errors.Is(err, fault.Conflict) {
			t.Errorf("the old owner renews: %v, want conflict", err)
		}
	})
}

func TestAnAddressThatSomebodyHasIsNeverGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The relay, the gateway and the broadcast address are in the pool.
		b := newCluster(t, time.Now(), "239-255", "r1").book("r1", "")
		for i := range 14 {
			a := take(t, b, hwaddr(i))
			if last := a.As4()[3]; last == 240 || last == 254 || last == 255 {
				t.Errorf("%s was given, which is somebody's", a)
			}
		}
		for _, a := range []string{"10.1.0.240", "10.1.0.254", "10.1.0.255"} {
			if err := b.Confirm("rack", hwaddr(99), netip.MustParseAddr(a)); !errors.Is(err, fault.Conflict) {
				t.Errorf("confirming %s: %v, want conflict", a, err)
			}
		}
		if a, err := b.Offer("rack", hwaddr(99), netip.MustParseAddr("10.1.0.254")); !errors.Is(err, fault.Full) {
			t.Errorf("a fifteenth machine got %s, %v, want full", a, err)
		}
	})
}

// The catalog refuses a node's address in a pool; should it ever slip through, the node wins.
func TestADeclaredAddressIsTakenFromItsHolder(t *testing.T) {
	now := time.Now()
	declared := netip.Addr{}
	p := newPool("rack", "r1")
	p.begin(now, nil, past{known: true})
	p.observe(now, rangeOf(t, "100-101"), nil, func(a netip.Addr) bool { return a == declared })
	at, err := p.offer(now, hwaddr(1), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	declared = at
	if err := p.confirm(now, hwaddr(1), at); !errors.Is(err, fault.Conflict) {
		t.Errorf("renewing an address that is a node's now: %v, want conflict", err)
	}
	if got, err := p.offer(now, hwaddr(1), at); err != nil || got == at {
		t.Errorf("then it is offered %s, %v, want another than %s", got, err, at)
	}
}

func TestADeclinedAddressRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-107", "r1").book("r1", "")
		a := take(t, b, hwaddr(1))
		if b.Decline("rack", hwaddr(2), a) {
			t.Error("a machine declined another's address")
		}
		if !b.Decline("rack", hwaddr(1), a) {
			t.Error("the machine cannot decline its own address")
		}
		for i := 1; i <= 7; i++ {
			if got := take(t, b, hwaddr(i)); got == a {
				t.Errorf("machine %d got the declined address", i)
			}
		}
		if _, err := b.Offer("rack", hwaddr(8), a); !errors.Is(err, fault.Full) {
			t.Errorf("offer with only the declined address left: %v, want full", err)
		}
		time.Sleep(quarantine)
		if got, err := b.Offer("rack", hwaddr(8), a); err != nil || got != a {
			t.Errorf("after its rest: %s, %v, want %s", got, err, a)
		}
	})
}

func TestAMachineThatDeclinesEverythingCannotEmptyThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-119", "r1").book("r1", "")
		for range 200 {
			b.Decline("rack", hwaddr(1), take(t, b, hwaddr(1)))
		}
		for i := range 14 {
			take(t, b, hwaddr(2+i))
		}
	})
}

func TestReleaseAndForgetFreeTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-100", "r1").book("r1", "")
		a := take(t, b, hwaddr(1))
		b.Release("rack", hwaddr(2), a)
		if _, err := b.Offer("rack", hwaddr(2), netip.Addr{}); !errors.Is(err, fault.Full) {
			t.Errorf("another machine released it: %v, want full", err)
		}
		b.Release("rack", hwaddr(1), a)
		if _, err := b.Offer("rack", hwaddr(2), netip.Addr{}); err != nil {
			t.Errorf("after the release: %v", err)
		}
		b.Forget("rack", hwaddr(2))
		take(t, b, hwaddr(3))
	})
}

func TestOneMachineHoldsOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-109", "r1").book("r1", "")
		a := take(t, b, hwaddr(1))
		other := netip.MustParseAddr("10.1.0.100")
		if a == other {
			other = other.Next()
		}
		if err := b.Confirm("rack", hwaddr(1), other); !errors.Is(err, fault.Conflict) {
			t.Errorf("a second address for one machine: %v, want conflict", err)
		}
		if got, err := b.Offer("rack", hwaddr(1), other); err != nil || got != a {
			t.Errorf("a wish beside its lease: %s, %v, want %s", got, err, a)
		}
	})
}

func TestWhatIsNotOursIsNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, time.Now(), "100-163", "r1", "r2")
		r1 := k.book("r1", "")
		shares := map[bool]int{}
		for i := range 64 {
			a := netip.AddrFrom4([4]byte{10, 1, 0, byte(100 + i)})
			err := r1.Confirm("rack", hwaddr(i), a)
			if err != nil && !errors.Is(err, fault.NotFound) {
				t.Fatalf("%s: %v", a, err)
			}
			shares[err == nil]++
		}
		if shares[true] < 16 || shares[false] < 16 {
			t.Errorf("r1 speaks about %d of 64 addresses, want about half", shares[true])
		}
		if err := r1.Confirm("rack", hwaddr(1), netip.MustParseAddr("10.1.0.7")); !errors.Is(err, fault.NotFound) {
			t.Errorf("an address beside the pool: %v, want not found", err)
		}
		if _, err := r1.Offer("elsewhere", hwaddr(1), netip.Addr{}); !errors.Is(err, fault.NotFound) {
			t.Errorf("a network that it does not serve: %v, want not found", err)
		}
	})
}

func TestOnlyTheFirstRelayGivesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, time.Now(), "100-163", "r1", "r2")
		r1, r2 := k.book("r1", ""), k.book("r2", "")
		take(t, r1, hwaddr(1))
		if _, err := r2.Offer("rack", hwaddr(2), netip.Addr{}); !errors.Is(err, fault.Unavailable) {
			t.Errorf("the second relay offers at once: %v, want unavailable", err)
		}
		time.Sleep(hold)
		take(t, r2, hwaddr(2))
	})
}

func TestALonelyRelayThatStartsLateGivesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, time.Now(), "100-163", "r1")
		time.Sleep(24 * time.Hour)
		take(t, k.book("r1", ""), hwaddr(1))
	})
}

func TestARelayThatWaitsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCluster(t, time.Now(), "100-163", "r1", "r2").book("r2", "")
		b.Offer("rack", hwaddr(1), netip.Addr{})
		if lines := b.Problems(); len(lines) != 1 || !strings.Contains(lines[0], "before 00:05:30") {
			t.Errorf("problems %q, want until when it waits", lines)
		}
		time.Sleep(hold)
		if lines := b.Problems(); len(lines) != 0 {
			t.Errorf("problems %q afterwards", lines)
		}
	})
}

func TestARestartForgetsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.json")
		k := newCluster(t, time.Now(), "100-119", "r1", "r2")
		run := func(use func(*Book)) {
			b := k.book("r1", path)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- b.Run(ctx) }()
			use(b)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		had := map[int]netip.Addr{}
		run(func(b *Book) {
			for i := 0; ; i++ {
				a, err := b.Offer("rack", hwaddr(i), netip.Addr{})
				if errors.Is(err, fault.Full) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if err := b.Confirm("rack", hwaddr(i), a); i == 0 && !errors.Is(err, fault.Unavailable) {
					t.Errorf("granted before it is on disk: %v", err)
				}
				time.Sleep(20 * time.Millisecond)
				if err := b.Confirm("rack", hwaddr(i), a); err != nil {
					t.Errorf("granted once it is on disk: %v", err)
				}
				had[i] = a
			}
			time.Sleep(Grace) // so that r2 is sure to have noticed it
		})
		time.Sleep(Lease / 2)
		run(func(b *Book) {
			if _, err := b.Offer("rack", hwaddr(99), netip.Addr{}); !errors.Is(err, fault.Full) {
				t.Errorf("a new machine after the restart: %v, want full", err)
			}
			for i := range had {
				if err := b.Confirm("rack", hwaddr(i), had[i]); err != nil {
					t.Errorf("machine %d renews after the restart: %v", i, err)
				}
			}
		})
		// Away for longer than a lease: another relay may have inherited the share meanwhile.
		time.Sleep(2 * Lease)
		run(func(b *Book) {
			if _, err := b.Offer("rack", hwaddr(1), netip.Addr{}); !errors.Is(err, fault.Unavailable) {
				t.Errorf("right after a long absence: %v, want unavailable", err)
			}
			time.Sleep(hold)
			if a, err := b.Offer("rack", hwaddr(1), netip.Addr{}); err != nil || a != had[1] {
				t.Errorf("then it gets %s, %v, want its old %s", a, err, had[1])
			}
		})
	})
}

// A renewal alone is not worth a write; still, the machine keeps its address when the relay is killed after it.
func TestARenewalOutlivesAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.json")
		k := newCluster(t, time.Now(), "100-100", "r1")
		b := k.book("r1", path)
		a, err := b.Offer("rack", hwaddr(1), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.write(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(stampEvery)
		if err := b.Confirm("rack", hwaddr(1), a); err != nil {
			t.Fatal(err)
		}
		b = k.book("r1", path)
		time.Sleep(Lease - time.Second)
		if _, err := b.Offer("rack", hwaddr(2), netip.Addr{}); !errors.Is(err, fault.Full) {
			t.Errorf("the address went to another while its lease lasts: %v", err)
		}
	})
}

// A relay that lived for a few seconds only may have been noticed by nobody: that life does not count.
func TestALifeThatNobodyNoticedDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.json")
		k := newCluster(t, time.Now(), "100-163", "r1", "r2")
		live := func(d time.Duration) error {
			b := k.book("r1", path)
			_, err := b.Offer("rack", hwaddr(1), netip.Addr{})
			time.Sleep(d)
			if err := b.write(); err != nil {
				t.Fatal(err)
			}
			return err
		}
		if err := live(Grace); err != nil {
			t.Fatal(err)
		}
		time.Sleep(Lease - time.Minute)
		if err := live(time.Second); err != nil {
			t.Errorf("back in time: %v", err)
		}
		time.Sleep(Lease - time.Minute)
		if err := live(time.Second); !errors.Is(err, fault.Unavailable) {
			t.Errorf("away for nearly twice as long but for a second: %v, want unavailable", err)
		}
	})
}

func TestALonelyRelayNeverWaitsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.json")
		k := newCluster(t, time.Now(), "100-109", "r1")
		b := k.book("r1", path)
		if _, err := b.Offer("rack", hwaddr(1), netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		if err := b.write(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if _, err := k.book("r1", path).Offer("rack", hwaddr(1), netip.Addr{}); err != nil {
			t.Error(err)
		}
	})
}

func TestADamagedFileCostsOnlyAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases.json")
		k := newCluster(t, time.Now(), "100-109", "r1")
		for _, bad := range []string{"{", `{"version":9}`, `{"version":1,"relay":"r2"}`, `{"version":1,"relay":"r1","networks":[{"name":"rack","leases":[{"hardware":"x"}]}]}`} {
			if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			b := k.book("r1", path)
			if _, err := b.Offer("rack", hwaddr(1), netip.Addr{}); !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v, want unavailable", bad, err)
			}
		}
	})
}

func TestWithoutADiskNothingIsGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		k := newCluster(t, time.Now(), "100-109", "r1")
		b, err := New(Config{Relay: "r1", Catalog: func() *catalog.Catalog { return k.c }, Path: filepath.Join(t.TempDir(), "leases.json"), Log: quiet(),
			FS: durable.FS{Hook: func(op durable.Op, _ string) error {
				if full.Load() && op == durable.OpSync {
					return syscall.ENOSPC
				}
				return nil
			}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		a, err := b.Offer("rack", hwaddr(1), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := b.Confirm("rack", hwaddr(1), a); !errors.Is(err, fault.Unavailable) || len(b.Problems()) != 1 {
			t.Errorf("with a full disk: %v, problems %q", err, b.Problems())
		}
		full.Store(false)
		time.Sleep(2 * time.Second)
		if err := b.Confirm("rack", hwaddr(1), a); err != nil || len(b.Problems()) != 0 {
			t.Errorf("with space again: %v, problems %q", err, b.Problems())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	k := newPool("rack", "r1")
	k.bind("52:54:00:00:00:01", number(netip.MustParseAddr("10.1.0.100")), time.Unix(1, 0))
	f.Add(snapshot("r1", time.Unix(0, 0), time.Unix(0, 0), map[catalog.NetworkName]*pool{"rack": k}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data, "r1")
		if err == nil && r.Relay != "r1" {
			t.Errorf("took the file of %q", r.Relay)
		}
	})
}
