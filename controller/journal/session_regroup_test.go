package journal_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// named are the events of a boot that all bear its ID.
func named(node int, from time.Duration, stages int) []boot.Event {
	all := booted(node, from, stages)
	for i := range all {
		all[i].Boot = fmt.Sprintf("%d-%s", node, from)
	}
	return all
}

// check fails where the sessions are not what their results make them, and returns how many machines are in each.
func check(t *testing.T, j *journal.Journal) []int {
	t.Helper()
	machines, err := j.CheckSessions(t0.Add(24 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return machines
}

func TestABootIsCountedInOneSessionOnly(t *testing.T) {
	j := open(t, "")
	for i, from := range times(0, 5*time.Minute, 41) {
		j.Record(named(i, from, 9))
	}
	if got := check(t, j); !slices.Equal(got, []int{24, 17}) {
		t.Errorf("sessions of %v machines", got)
	}
	j.Record(named(99, -5*time.Minute, 9)) // the cut lies five minutes earlier now
	if got := check(t, j); !slices.Equal(got, []int{24, 18}) {
		t.Errorf("sessions of %v machines after a late event", got)
	}
}

// The boot in the middle is alone in its minute: while it moves to another, those beside it are not in one session.
func TestABootThatMovesMayCutASessionAndJoinItAgain(t *testing.T) {
	j := open(t, "")
	for i, from := range []time.Duration{0, 4 * time.Minute, 8 * time.Minute} {
		j.Record(named(i, from, 9)[1:])
	}
	late := named(1, 4*time.Minute, 1)
	late[0].Time = t0.Add(3*time.Minute + time.Second)
	j.Record(late)
	if got := check(t, j); !slices.Equal(got, []int{3}) {
		t.Errorf("sessions of %v machines", got)
	}
}

// Boots lie so far apart that a minute more or less cuts sessions and joins them.
func TestSessionsAreWhatTheirBootsMakeThem(t *testing.T) {
	for seed := range uint64(20) {
		dice := rand.New(rand.NewPCG(seed, 7))
		var all []boot.Event
		for node := range 40 {
			for range 1 + dice.IntN(3) {
				from := time.Duration(dice.IntN(400*60)) * time.Second
				events := named(node, from, 1+dice.IntN(9))
				events[0].Time = events[0].Time.Add(-time.Duration(dice.IntN(10*60)) * time.Second)
				for i := range events {
					if seed%2 == 1 && i < 2 { // the node claims its machine later
						events[i].Node = ""
					}
				}
				all = append(all, events...)
			}
		}
		dice.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		j := open(t, "")
		for batch := range slices.Chunk(all, 16) {
			j.Record(batch)
			check(t, j)
		}
	}
}

// Each relay tells what it saw in order, and late; what firmware does bears no ID, and is taken for another boot's until more
// is heard. Only what firmware did without ever getting a script may be one start or two.
func TestTheOrderInWhichRelaysSpeakChangesNoSession(t *testing.T) {
	for seed := range uint64(60) {
		dice := rand.New(rand.NewPCG(seed, 8))
		by := map[catalog.RelayName][]boot.Event{}
		for node := range 30 {
			from := time.Duration(dice.IntN(300*60)) * time.Second
			for range 1 + dice.IntN(3) {
				stages := 9
				if dice.IntN(4) == 0 {
					stages = 3 + dice.IntN(6)
				}
				firmware, scripts, agent := dice.IntN(4), dice.IntN(4), dice.IntN(4)
				for i, e := range booted(node, from, stages) {
					switch {
					case i < 2:
						e.Relay = catalog.RelayName(fmt.Sprintf("r%d", firmware))
					case i < 4:
						e.Relay = catalog.RelayName(fmt.Sprintf("r%d", scripts))
					default:
						e.Relay = catalog.RelayName(fmt.Sprintf("r%d", agent))
					}
					by[e.Relay] = append(by[e.Relay], e)
				}
				gap := 40*time.Second + time.Duration(dice.IntN(30*60))*time.Second
				if (gap - 10*time.Minute).Abs() < 30*time.Second { // where what firmware did may be of this boot or the next
					gap += time.Minute
				}
				from += gap
			}
		}
		relays := slices.Sorted(maps.Keys(by))
		for _, r := range relays {
			slices.SortStableFunc(by[r], func(a, b boot.Event) int { return a.Time.Compare(b.Time) })
		}
		var want string
		for range 4 {
			j := open(t, "")
			left := maps.Clone(by)
			for len(left) > 0 {
				r := relays[dice.IntN(len(relays))]
				if n := min(1+dice.IntN(40), len(left[r])); n > 0 {
					j.Record(left[r][:n])
					left[r] = left[r][n:]
				} else {
					delete(left, r)
				}
			}
			check(t, j)
			now := t0.Add(24 * time.Hour)
			got := ""
			for _, s := range j.Sessions(now) {
				nodes, err := j.SessionNodes(fmt.Sprint(s.Number), now)
				if err != nil {
					t.Fatal(err)
				}
				s.Since = time.Time{}
				got += fmt.Sprintf("%+v\n", s)
				for _, n := range nodes {
					got += fmt.Sprintf("  %+v\n", n)
				}
			}
			if want == "" {
				want = got
			}
			if got != want {
				a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
				for i := range min(len(a), len(b)) {
					if a[i] != b[i] {
						t.Errorf("seed %d:\n%s\n%s", seed, a[i], b[i])
					}
				}
				break
			}
		}
	}
}
