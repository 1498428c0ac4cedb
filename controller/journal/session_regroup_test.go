package journal_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
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
