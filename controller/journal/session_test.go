package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// booted are the events of a node's boot, each stage two seconds after the one before.
func booted(node int, from time.Duration, stages int) []boot.Event {
	var all []boot.Event
	for i, s := range boot.Stages()[:stages] {
		e := boot.Event{
			Time: t0.Add(from + time.Duration(2*i)*time.Second), Node: catalog.NodeName(fmt.Sprintf("n%03d", node)),
			Hardware: catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:%02x:%02x", node>>8, node&255)), Stage: s, Relay: catalog.RelayName(fmt.Sprintf("r%d", node%4)),
		}
		if s.Index() >= boot.StageScript.Index() {
			e.Boot = fmt.Sprintf("%d-%s", node, from)
		}
		if s == boot.StageKernel {
			e.Image, e.Manifest = "debian", chunk.Of([]byte("m"))
		}
		if s == boot.StageImage {
			e.Bytes = 1000
		}
		all = append(all, e)
	}
	return all
}

func failing(events []boot.Event, text string) []boot.Event {
	e := events[len(events)-1]
	e.Stage, e.Error, e.Time, e.Bytes = boot.StageFailed, text, e.Time.Add(time.Second), 0
	return append(events, e)
}

func TestBootsThatBeginTogetherAreASession(t *testing.T) {
	minute := time.Minute
	for name, tc := range map[string]struct {
		starts []time.Duration
		want   []int // machines of each session, the newest first
	}{
		"one":                        {[]time.Duration{0}, []int{1}},
		"a storm":                    {[]time.Duration{0, 10 * time.Second, 3 * minute, 7 * minute, 12 * minute}, []int{5}},
		"after quiet another begins": {[]time.Duration{0, 1 * minute, 8 * minute, 9 * minute, 30 * minute}, []int{1, 2, 2}},
		"one that goes on is cut":    {times(0, 4*minute, 60), []int{30, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, "")
			for i, from := range tc.starts {
				j.Record(booted(i, from, 9))
			}
			var got []int
			for _, s := range j.Sessions(t0.Add(24 * time.Hour)) {
				got = append(got, s.Nodes)
				if s.State != api.SessionOver || s.Up != s.Nodes || s.Took < 16*time.Second {
					t.Errorf("session %+v", s)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("sessions of %v machines, want %v", got, tc.want)
			}
		})
	}
}

func times(from, every time.Duration, n int) []time.Duration {
	var all []time.Duration
	for i := range n {
		all = append(all, from+time.Duration(i)*every)
	}
	return all
}

// What is told of a session is the same on every controller, in whatever order relays reach it, with what comes twice.
func TestControllersThatHearInDifferentOrdersAgree(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	var streams [][]boot.Event // of each machine; relays keep its order, but not that among machines
	for i := range 120 {
		from := time.Duration(dice.IntN(40*60)) * time.Second
		switch events := booted(i, from, 1+dice.IntN(9)); i % 5 {
		case 0:
			streams = append(streams, failing(events, fmt.Sprintf("chunk %x of n%03d: connection reset by 10.1.0.%d:4481", chunk.Of([]byte{byte(i)}), i, i)))
		case 1: // the whole again a while later
			streams = append(streams, append(booted(i, from, 9), booted(i, from+20*time.Minute, 9)...))
		default:
			streams = append(streams, booted(i, from, 9))
		}
	}
	var want []byte
	for round := range 8 {
		j := open(t, "")
		dice.Shuffle(len(streams), func(a, b int) { streams[a], streams[b] = streams[b], streams[a] })
		left := make([][]boot.Event, len(streams))
		copy(left, streams)
		for len(left) > 0 {
			i := dice.IntN(len(left))
			n := min(1+dice.IntN(4), len(left[i]))
			batch := slices.Clone(left[i][:n])
			if round%2 == 1 { // what belongs to one boot for certain may come in any order
				dice.Shuffle(n, func(a, b int) {
					if batch[a].Boot != "" && batch[a].Boot == batch[b].Boot {
						batch[a], batch[b] = batch[b], batch[a]
					}
				})
			}
			j.Record(batch)
			j.Record(batch[:1])
			if left[i] = left[i][n:]; len(left[i]) == 0 {
				left = slices.Delete(left, i, i+1)
			}
		}
		var told []any
		now := t0.Add(70 * time.Minute)
		for _, s := range j.Sessions(now) {
			whole, err := j.Session(fmt.Sprint(s.Number), nil, now)
			nodes, nodesErr := j.SessionNodes(fmt.Sprint(s.Number), now)
			if err != nil || nodesErr != nil {
				t.Fatal(err, nodesErr)
			}
			s.Since, whole.Since = time.Time{}, time.Time{}
			told = append(told, s, whole, nodes)
		}
		got, err := json.MarshalIndent(told, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if string(got) != string(want) {
			t.Fatalf("round %d differs:\n%s\nfirst:\n%s", round, got, want)
		}
	}
}

func TestASessionTellsHowItGoes(t *testing.T) {
	j := open(t, "")
	for i := range 100 {
		j.Record(booted(i, time.Duration(i)*time.Second, 9)) // up after 16 s
	}
	for i := range 6 {
		j.Record(failing(booted(100+i, 10*time.Second, 5), fmt.Sprintf("connection to 10.1.0.%d:4481 was reset after %d bytes", i, 1000*i)))
	}
	j.Record(failing(booted(106, 20*time.Second, 6), "no space left on device"))
	for i := range 4 {
		j.Record(booted(110+i, 30*time.Second, 1))
	}
	for i := range 20 {
		j.Record(booted(120+i, 100*time.Second, 4))
	}
	j.Record([]boot.Event{{Time: t0.Add(100 * time.Second), Hardware: "52:54:00:00:ff:01", Stage: boot.StageDHCP, Relay: "r1", Firmware: boot.FirmwareBIOS, Error: "no node has this address"}})
	now := t0.Add(117 * time.Second)
	s, err := j.Session(journal.LastSession, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if s.State != api.SessionRunning || s.Nodes != 132 || s.Up != 100 || s.Failed != 7 || s.Silent != 0 || s.Booting != 25 || !s.Started.Equal(t0) || s.Took != 117*time.Second {
		t.Errorf("%+v", s)
	}
	if s.ToUp != (api.Spread{Count: 100, P50: 16 * time.Second, P95: 16 * time.Second, P99: 16 * time.Second, Max: 16 * time.Second}) {
		t.Errorf("to up: %+v", s.ToUp)
	}
	if p := s.Phases[boot.StageKernel.Index()]; p.At != 20 || p.Passed != 127 || p.P50 != 2*time.Second {
		t.Errorf("kernel: %+v", p)
	}
	// One came up in each second of the last minute, and 25 are to come.
	if s.Rate < 0.9 || s.Rate > 1.1 || s.ETA < 23*time.Second || s.ETA > 28*time.Second {
		t.Errorf("rate %.2f, ETA %s", s.Rate, s.ETA)
	}
	want := []api.SessionError{
		{State: "failed", Stage: boot.StageStageOne, Text: "connection to # was reset after # bytes", Count: 6, Nodes: "n[100-105]"},
		{State: "failed", Stage: boot.StageImage, Text: "no space left on device", Count: 1, Nodes: "n106"},
		{State: "booting", Stage: boot.StageDHCP, Text: "no node has this address", Count: 1, Nodes: "52:54:00:00:ff:01"},
	}
	if !reflect.DeepEqual(s.Errors, want) {
		t.Errorf("errors %+v", s.Errors)
	}
	if len(s.Relays) != 4 || s.Relays[0].Failed != 2 || s.Relays[0].P95 != 16*time.Second {
		t.Errorf("relays %+v", s.Relays)
	}
	if len(s.Images) != 1 || s.Images[0].Nodes != 127 || s.Bytes != 101_000 {
		t.Errorf("images %+v, %d bytes", s.Images, s.Bytes)
	}

	later := now.Add(10 * time.Minute)
	if s, err = j.Session(journal.LastSession, nil, later); err != nil || s.State != api.SessionOver || s.Silent != 25 || s.Booting != 0 || s.ETA != 0 {
		t.Errorf("later: %v, %+v", err, s)
	}
	for name, count := range map[string]int{"": 131, "-failed": 7, "-silent": 24, "-up": 100, "-booting": 0} {
		for _, ref := range []string{journal.LastSession, fmt.Sprint(s.Number)} {
			if nodes, err := j.InSession(ref+name, later); err != nil || len(nodes) != count {
				t.Errorf("@boot:%s%s: %d nodes, %v; want %d", ref, name, len(nodes), err, count)
			}
		}
	}
	if s, err = j.Session(journal.LastSession, []string{"n001", "n106", "n777"}, later); err != nil || s.Nodes != 2 || s.Up != 1 || s.Failed != 1 {
		t.Errorf("of two nodes: %v, %+v", err, s)
	}
	for _, ref := range []string{"1", "x", ""} {
		if _, err := j.Session(ref, nil, later); err == nil {
			t.Errorf("session %q is there", ref)
		}
	}
	if _, err := j.InSession("last-happy", later); !errors.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}

// What moved on is counted where it is: a node that fails and goes on, one that begins anew, one whose first event comes late.
func TestAMachineCountsOnceAndAsItIs(t *testing.T) {
	j := open(t, "")
	one := booted(1, time.Minute, 9)
	broken := one[4]
	broken.Stage, broken.Error, broken.Time = boot.StageFailed, "no memory", broken.Time.Add(time.Millisecond)
	j.Record(append(slices.Clone(one[2:5]), broken))
	if s := j.Sessions(t0.Add(2 * time.Minute)); len(s) != 1 || s[0].Failed != 1 {
		t.Fatalf("%+v", s)
	}
	j.Record(one[5:])
	j.Record(booted(1, 4*time.Minute, 9))
	j.Record(one[:2])
	s := j.Sessions(t0.Add(10 * time.Minute))
	if len(s) != 1 || s[0].Nodes != 1 || s[0].Up != 1 || s[0].Failed != 0 || s[0].Again != 1 || len(s[0].Errors) != 0 || !s[0].Started.Equal(t0.Add(4*time.Minute)) {
		t.Errorf("%+v", s)
	}
}

// A controller that begins to listen hears the heart-beats of nodes that booted long ago. They are no storm.
func TestHeartBeatsAreNoSession(t *testing.T) {
	j := open(t, "")
	all := booted(1, 0, 9)
	beat := all[8]
	beat.Stage, beat.Time = boot.StageAlive, t0.Add(time.Hour)
	j.Record([]boot.Event{beat})
	if s := j.Sessions(t0.Add(time.Hour)); len(s) != 0 {
		t.Errorf("%+v", s)
	}
	j.Record(all[:5]) // a relay was cut off, and tells late what it saw
	if s := j.Sessions(t0.Add(time.Hour)); len(s) != 1 || s[0].Nodes != 1 || s[0].Up != 1 || s[0].ToUp.Max < 59*time.Minute {
		t.Errorf("%+v", s)
	}
}

func TestAnEarlierEventMovesABootAndMayJoinSessions(t *testing.T) {
	j := open(t, "")
	for i, from := range []time.Duration{0, 16 * time.Minute, 12 * time.Minute} {
		j.Record(booted(i, from, 9)[2:])
	}
	if s := j.Sessions(t0.Add(time.Hour)); len(s) != 2 || s[0].Nodes != 2 {
		t.Fatalf("%+v", s)
	}
	number := j.Sessions(t0)[0].Number
	j.Record(booted(7, 6*time.Minute, 9)) // between them, and within five minutes of neither
	j.Record(booted(8, 5*time.Minute, 9))
	j.Record(booted(9, 10*time.Minute, 9))
	s := j.Sessions(t0.Add(2 * time.Hour))
	if len(s) != 1 || s[0].Nodes != 6 || s[0].Up != 6 {
		t.Fatalf("%+v", s)
	}
	if joined, err := j.Session(fmt.Sprint(number), nil, t0); err != nil || joined.Number != s[0].Number {
		t.Errorf("the number that it had leads to %+v, %v", joined, err)
	}
}
