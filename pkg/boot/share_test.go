package boot

import (
	"fmt"
	"slices"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// preferred counts which relays the machines of these names prefer, when some are away.
func preferred(names []string, relays, away []catalog.RelayName) map[catalog.RelayName]int {
	count := map[catalog.RelayName]int{}
	for _, name := range names {
		order := lotOf(name).order(relays)
		count[order[slices.IndexFunc(order, func(r catalog.RelayName) bool { return !slices.Contains(away, r) })]]++
	}
	return count
}

func numbered(format string, from, to, step int) (names []string) {
	for i := from; i < to; i += step {
		names = append(names, fmt.Sprintf(format, i))
	}
	return names
}

func TestRelaysOfARackShareItsNodesEvenly(t *testing.T) {
	pair, trio := []catalog.RelayName{"r1", "r2"}, []catalog.RelayName{"r1", "r2", "r3"}
	for _, c := range []struct {
		what   string
		names  []string
		relays []catalog.RelayName
		away   []catalog.RelayName
		least  int
	}{
		{"a rack that begins with a block", numbered("r07n%02d", 0, 64, 1), pair, nil, 32},
		{"one that begins with 1", numbered("r07n%02d", 1, 129, 1), pair, nil, 62},
		{"one in the middle of a long row", numbered("n%05d", 12345, 12345+128, 1), pair, nil, 60},
		{"even numbers", numbered("n%d", 0, 1024, 2), pair, nil, 220},
		{"hundreds", numbered("n%d", 0, 51200, 100), pair, nil, 200},
		{"no numbers", numbered("n%da", 0, 512, 1), pair, nil, 200},
		{"three relays", numbered("n%d", 0, 960, 1), trio, nil, 300},
		{"one of three is away", numbered("n%d", 0, 960, 1), trio, []catalog.RelayName{"r2"}, 450},
	} {
		got := preferred(c.names, c.relays, c.away)
		if len(got) != len(c.relays)-len(c.away) {
			t.Errorf("%s: %v", c.what, got)
		}
		for relay, n := range got {
			if n < c.least {
				t.Errorf("%s: relay %s has %d of %d", c.what, relay, n, len(c.names))
			}
		}
	}
}

func TestTheOrderOfRelaysIsTheSameForAllWhoAsk(t *testing.T) {
	for _, name := range append(numbered("n%d", 0, 100, 1), "", "login", "52:54:00:12:34:56", "n99999999999999999999") {
		a, b := lotOf(name).order([]catalog.RelayName{"c", "a", "b", "d"}), lotOf(name).order([]catalog.RelayName{"d", "b", "a", "c"})
		if !slices.Equal(a, b) || len(a) != 4 {
			t.Errorf("%q: %v and %v", name, a, b)
		}
	}
}
