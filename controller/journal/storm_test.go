package journal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// avalanche are the boots of many nodes behind relays of 64, begun within two minutes, in the order in which relays
// would tell them: a batch of a relay at a time.
func avalanche(nodes int) [][]boot.Event {
	dice := rand.New(rand.NewPCG(3, 4))
	var all []boot.Event
	for i := range nodes {
		for _, e := range booted(i, time.Duration(dice.IntN(120_000))*time.Millisecond, 9) {
			e.Hardware = catalog.HardwareAddr(fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255))
			e.Node, e.Relay = catalog.NodeName(fmt.Sprintf("n%05d", i)), catalog.RelayName(fmt.Sprintf("r%03d", i/64))
			if i%100 == 7 && e.Stage == boot.StageImage {
				e.Stage, e.Error = boot.StageFailed, fmt.Sprintf("connection to 10.1.%d.%d:4481 was reset", i>>8&255, i&255)
			}
			if i%100 != 7 || e.Stage.Index() < boot.StageImage.Index() {
				all = append(all, e)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b boot.Event) int { return a.Time.Compare(b.Time) })
	by := map[catalog.RelayName][]boot.Event{}
	var batches [][]boot.Event
	for _, e := range all {
		by[e.Relay] = append(by[e.Relay], e)
		if len(by[e.Relay]) >= 25 {
			batches = append(batches, by[e.Relay])
			delete(by, e.Relay)
		}
	}
	for _, rest := range by {
		batches = append(batches, rest)
	}
	return batches
}

// A storm of 20 000 nodes is 180 000 events, and comes within a few minutes.
func BenchmarkRecordOfAStorm(b *testing.B) {
	batches := avalanche(20_000)
	events := 0
	for _, batch := range batches {
		events += len(batch)
	}
	b.ReportAllocs()
	for b.Loop() {
		j, err := journal.New(journal.Config{})
		if err != nil {
			b.Fatal(err)
		}
		for _, batch := range batches {
			j.Record(batch)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
}

func BenchmarkSummaryOfAStorm(b *testing.B) {
	j, err := journal.New(journal.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for _, batch := range avalanche(40_000) {
		j.Record(batch[:len(batch)*2/3])
	}
	now := t0.Add(2 * time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		j.Record([]boot.Event{{Time: now, Node: "x", Hardware: "52:54:00:ff:00:01", Boot: "x", Stage: boot.StageScript}})
		j.Sessions(now)
	}
}

// A summary is as long for twenty thousand machines as for a hundred, but for the digits, and memory stays within its bounds.
func TestASummaryIsAsLongForAnyNumberOfMachines(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	var before, after runtime.MemStats
	batches := avalanche(20_000)
	runtime.GC()
	runtime.ReadMemStats(&before)
	j := open(t, "")
	for _, batch := range batches {
		j.Record(batch)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	s := j.Sessions(t0.Add(time.Hour))
	if len(s) != 1 || s[0].Nodes != 20_000 || s[0].Up != 19_800 || s[0].Failed != 200 {
		t.Fatalf("%+v", s)
	}
	if len(s[0].Errors) != 1 || len(s[0].Errors[0].Nodes) > 200 || len(s[0].Relays) > 5 {
		t.Errorf("%+v", s)
	}
	t.Logf("%d MB for 20 000 machines with all their events", (after.HeapAlloc-before.HeapAlloc)>>20)
	runtime.KeepAlive(batches)
	runtime.KeepAlive(j)
}

// Sessions outlive a restart, also those whose events gave way to newer ones in the file.
func TestSessionsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	run := func(j *journal.Journal, events []boot.Event) {
		synctest.Test(t, func(t *testing.T) {
			done := make(chan error)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { done <- j.Run(ctx) }()
			j.Record(events)
			time.Sleep(5 * time.Second)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
	now := t0.Add(5 * time.Hour)
	j := open(t, dir)
	run(j, slices.Concat(booted(1, 0, 9), booted(2, 0, 9), failing(booted(3, 0, 5), "no memory")))
	run(j, slices.Concat(booted(1, time.Hour, 9), booted(2, time.Hour, 4)))
	want := j.Sessions(now)
	if len(want) != 2 {
		t.Fatalf("%+v", want)
	}
	same := func(what string, j *journal.Journal) {
		t.Helper()
		got := j.Sessions(now)
		for i := range got {
			got[i].Since = want[min(i, len(want)-1)].Since
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", what, got, want)
		}
	}
	same("after a restart", open(t, dir))
	if err := j.Rewrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "events.ndjson")); err != nil || len(b) == 0 {
		t.Fatal(err)
	}
	again := open(t, dir)
	same("after the file was written anew", again)
	run(again, booted(2, time.Hour, 9)[4:])
	if s := again.Sessions(now.Add(time.Hour)); len(s) != 2 || s[0].Up != 2 || s[1].Up != 2 || s[1].Failed != 1 {
		t.Errorf("what went on: %+v", s)
	}
}

// A boot every minute for weeks: each costs as much as the first, also where they are heard in no order.
func BenchmarkRecordOfLoneBoots(b *testing.B) {
	for _, boots := range []int{1000, 30_000} {
		for _, order := range []string{"in order", "in none"} {
			b.Run(fmt.Sprintf("%d %s", boots, order), func(b *testing.B) {
				all := times(0, time.Minute, boots)
				if order == "in none" {
					rand.New(rand.NewPCG(5, 6)).Shuffle(boots, func(x, y int) { all[x], all[y] = all[y], all[x] })
				}
				var events []boot.Event
				for i, from := range all {
					events = append(events, booted(i, from, 1)...)
				}
				for b.Loop() {
					j, err := journal.New(journal.Config{})
					if err != nil {
						b.Fatal(err)
					}
					j.Record(events)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*boots), "ns/boot")
			})
		}
	}
}
