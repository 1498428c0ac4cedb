package lease

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// An address is found with few looks however large the pool is, and whether nobody or everybody had one.
func TestAnAddressIsFoundWithFewLooks(t *testing.T) {
	now, looks := time.Now(), 0
	p := newPool("rack", "r1")
	p.begin(now, nil, past{known: true})
	// Six addresses are somebody's.
	own := map[netip.Addr]bool{}
	rng := catalog.Range{First: netip.MustParseAddr("10.1.0.0"), Last: netip.MustParseAddr("10.1.15.255")}
	for a, i := rng.First, 0; i < 6; a, i = a.Next(), i+1 {
		own[a] = true
	}
	p.observe(now, rng, nil, func(a netip.Addr) bool { looks++; return own[a] })
	size, most := len(p.share)-len(own), 0
	ask := func(i int) {
		t.Helper()
		looks = 0
		at, err := p.offer(now, hwaddr(i), netip.Addr{})
		if err != nil || own[at] {
			t.Fatalf("machine %d: %s, %v", i, at, err)
		}
		most = max(most, looks)
	}
	for i := range size {
		ask(i)
	}
	if _, err := p.offer(now, hwaddr(1<<15), netip.Addr{}); err == nil {
		t.Fatal("more addresses than there are")
	}
	if !now.Before(p.fullUntil) {
		t.Error("nobody is told that the pool is used up")
	}
	now = now.Add(2 * offerHold)
	for i := range size {
		ask(size + i)
	}
	if most > len(own)+2 {
		t.Errorf("%d looks for one address of %d", most, size)
	}
}

// Where somebody uses nearly all of the pool, the one address that is free is found, though few are put aside at a time.
func TestAllAddressesAreTriedBeforeOneIsTriedAgain(t *testing.T) {
	now := time.Now()
	for i := range 64 {
		p := newPool("rack", "r1")
		p.begin(now, nil, past{known: true})
		p.observe(now, rangeOf(t, "100-163"), nil, func(netip.Addr) bool { return false })
		free, tries := addr(p.share[i]), 0
		for at := (netip.Addr{}); at != free; tries++ {
			var err error
			if at, err = p.offer(now, hwaddr(1), netip.Addr{}); err != nil {
				t.Fatal(err)
			}
			if at != free {
				p.decline(now, hwaddr(1), at)
			}
		}
		if tries > 64 {
			t.Errorf("%d tries for %s, of 64", tries, free)
		}
	}
}

// Whatever happens, the address on top is the one that may be given first.
func TestTurnsStayInOrder(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	p := newPool("rack", "r1")
	p.begin(now, nil, past{known: true})
	owned := netip.Addr{}
	peers := []peer{{name: "r2", live: true}, {name: "r3", live: true}}
	for range 20_000 {
		now = now.Add(time.Duration(dice.IntN(3000)) * time.Millisecond)
		if dice.IntN(200) == 0 {
			peers[dice.IntN(2)].live = dice.IntN(2) == 0
			owned = addr(number(netip.MustParseAddr("10.1.0.100")) + uint32(dice.IntN(64)))
		}
		p.observe(now, rangeOf(t, "100-163"), peers, func(a netip.Addr) bool { return a == owned })
		hw := hwaddr(dice.IntN(100))
		switch b := p.bound[hw]; {
		case b != nil && dice.IntN(20) == 0:
			p.decline(now, hw, addr(b.at))
		case b != nil && dice.IntN(4) == 0:
			p.release(now, hw, addr(b.at))
		case b != nil && dice.IntN(3) == 0:
			p.forget(hw)
		case b != nil:
			p.confirm(now, hw, addr(b.at))
		default:
			p.offer(now, hw, netip.Addr{})
		}
		for _, line := range []turns{p.homeTurns, p.otherTurns} {
			for i, s := range line {
				if p.slots[s.at] != s || s.index != i || line.Less(i, max(0, i-1)/2) {
					t.Fatalf("%s is out of its turn", addr(s.at))
				}
				if from := p.from(s.at); from.After(s.from) {
					t.Fatalf("%s has its turn at %s, which is another's until %s", addr(s.at), s.from, from)
				}
			}
		}
		if len(p.homeTurns)+len(p.otherTurns) != len(p.share) || len(p.homeTurns) != p.homes {
			t.Fatalf("%d and %d addresses in line, of %d", len(p.homeTurns), len(p.otherTurns), len(p.share))
		}
	}
}
