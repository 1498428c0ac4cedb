package spool_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/spool"
)

// 20 000 nodes are switched on within two minutes, with all that they tell of their boots, and their relays report
// how they are meanwhile: no more than 500 messages arrive at one controller in any second.
func TestAStormIsFewMessagesForAController(t *testing.T) {
	for relays, nodes := range map[int]int{312: 64, 625: 32} {
		t.Run(fmt.Sprint(relays), func(t *testing.T) {
			if testing.Short() {
				nodes /= 16
			}
			synctest.Test(t, func(t *testing.T) { storm(t, relays, nodes) })
		})
	}
}

func storm(t *testing.T, relays, nodes int) {
	began := time.Now()
	var mu sync.Mutex
	arrived := map[time.Duration]int{} // messages, by the tenth of a second in which they came
	events := 0
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		arrived[time.Since(began)/(100*time.Millisecond)]++
		events += n
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	for i := range relays {
		s := spool.New(spool.Config{
			Relay: catalog.RelayName(fmt.Sprintf("r%03d", i)), Log: slog.New(slog.DiscardHandler),
			Controllers: func() []string { return []string{"c1"} }, Relays: func() int { return relays },
			Send: func(_ context.Context, _ string, b api.EventBatch) error { count(len(b.Events)); return nil },
		})
		g.Go(func() { _ = s.Run(ctx) })
		g.Go(func() { // as relay/feed does
			for ctx.Err() == nil {
				count(0)
				every := api.ReportEvery(relays)
				sleep(ctx, every/2+rand.N(every))
			}
		})
		g.Go(func() { rack(ctx, s, nodes) })
	}
	time.Sleep(5 * time.Minute)
	cancel()
	g.Wait()

	most, all := 0, 0
	for at := range 5 * time.Minute / (100 * time.Millisecond) {
		second := 0
		for i := range time.Duration(10) {
			second += arrived[at+i]
		}
		if at > 10 { // all relays of a test begin to report in the same instant
			most = max(most, second)
		}
		all += arrived[at]
	}
	t.Logf("%d relays, %d nodes, %d events: %d messages in five minutes, at most %d in a second", relays, relays*nodes, events, all, most)
	if most > api.MaxMessages {
		t.Errorf("%d messages arrived within a second", most)
	}
	if events != relays*nodes*len(boot.Stages()) {
		t.Errorf("%d events arrived", events)
	}
}

// rack is what a relay sees of its nodes: each begins within two minutes and takes three seconds or so for each stage.
func rack(ctx context.Context, s *spool.Spool, nodes int) {
	told := map[time.Duration][]boot.Event{}
	for n := range nodes {
		at := rand.N(2 * time.Minute)
		for _, stage := range boot.Stages() {
			at += rand.N(6 * time.Second)
			slot := at.Round(10 * time.Millisecond)
			told[slot] = append(told[slot], boot.Event{Node: catalog.NodeName(fmt.Sprintf("n%02d", n)), Stage: stage})
		}
	}
	began := time.Now()
	for slot := time.Duration(0); slot < 4*time.Minute && ctx.Err() == nil; slot += 10 * time.Millisecond {
		if len(told[slot]) > 0 {
			sleep(ctx, slot-time.Since(began))
			for _, e := range told[slot] {
				s.Record(e)
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Firmware that asks again and again says nothing new; what differs in anything is told.
func TestTheSameOfOneMachineIsToldOnceInABatch(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		synctest.Wait()
		for range 5 {
			s.Record(boot.Event{Stage: boot.StageDHCP, Hardware: "52:54:00:00:00:01"})
			s.Record(boot.Event{Stage: boot.StageDHCP, Hardware: "52:54:00:00:00:02", Error: "no address is left"})
		}
		s.Record(boot.Event{Stage: boot.StageDHCP, Hardware: "52:54:00:00:00:01", Firmware: boot.FirmwareIPXE})
		s.Record(boot.Event{Stage: boot.StageScript, Hardware: "52:54:00:00:00:01", Boot: "b1"})
		time.Sleep(10 * time.Second)
		if n := c.count("a"); n != 4 || s.Waiting() != 0 {
			t.Errorf("%d events came: %+v", n, c.got["a"])
		}
		s.Record(boot.Event{Stage: boot.StageDHCP, Hardware: "52:54:00:00:00:01"})
		time.Sleep(10 * time.Second)
		if n := c.count("a"); n != 5 {
			t.Errorf("later it came %d times", n)
		}
	})
}

// The second question of an unknown machine says what it is, and comes a moment after the first, which does not.
func TestWhatAnUnknownMachineSaysOfItselfIsNotLost(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		asked := boot.Event{Hardware: "52:54:00:00:00:99", Stage: boot.StageScript, Firmware: boot.FirmwareIPXE, Error: "no node has it"}
		for _, facts := range []catalog.Facts{{Network: "rack"}, {Network: "rack", Serial: "S1"}, {Network: "rack", Serial: "S1"}} {
			e := asked
			e.Machine = &facts
			s.Record(e)
		}
		time.Sleep(time.Minute)
		c.mu.Lock()
		defer c.mu.Unlock()
		if got := c.got["a"]; len(got) != 2 || got[1].Machine.Serial != "S1" {
			t.Errorf("a was told %+v", got)
		}
	})
}
