package boot

import (
	"fmt"
	"slices"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func itself(r catalog.RelayName) catalog.RelayName { return r }

// preferred counts which relays the machines of these names prefer, when some are away.
func preferred(names []string, relays, away []catalog.RelayName) map[catalog.RelayName]int {
	count := map[catalog.RelayName]int{}
	for _, name := range names {
		all := order(lotOf(name), relays, itself)
		count[all[slices.IndexFunc(all, func(r catalog.RelayName) bool { return !slices.Contains(away, r) })]]++
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
		{"a small rack", numbered("r07n%02d", 0, 16, 1), pair, nil, 7},
		{"a rack", numbered("r07n%02d", 1, 65, 1), pair, nil, 31},
		{"a large rack", numbered("r07n%03d", 1, 129, 1), pair, nil, 62},
		{"one in the middle of a long row", numbered("n%05d", 12345, 12345+128, 1), pair, nil, 62},
		{"even numbers", numbered("n%d", 0, 256, 2), pair, nil, 62},
		{"every tenth", numbered("n%d", 3, 1283, 10), pair, nil, 62},
		{"every 25th", numbered("n%d", 7, 3207, 25), pair, nil, 62},
		{"hundreds", numbered("n%d", 0, 12800, 100), pair, nil, 62},
		{"no numbers", numbered("n%da", 0, 512, 1), pair, nil, 200},
		{"three relays", numbered("n%d", 0, 96, 1), trio, nil, 31},
		{"one of three is away", numbered("n%d", 0, 96, 1), trio, []catalog.RelayName{"r2"}, 46},
		{"two of five are away", numbered("n%d", 0, 120, 1), []catalog.RelayName{"a", "b", "c", "d", "e"}, []catalog.RelayName{"a", "d"}, 36},
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
		a, b := order(lotOf(name), []catalog.RelayName{"c", "a", "b", "d"}, itself), order(lotOf(name), []catalog.RelayName{"d", "b", "a", "c"}, itself)
		if !slices.Equal(a, b) || len(a) != 4 {
			t.Errorf("%q: %v and %v", name, a, b)
		}
	}
}
