package spool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/spool"
)

// controllers are what the spool sends to.
type controllers struct {
	mu    sync.Mutex
	names []string
	away  map[string]bool
	got   map[string][]boot.Event

	refuse string // events that are refused for ever
}

func (c *controllers) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.names...)
}

func (c *controllers) send(_ context.Context, name string, b api.EventBatch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away[name] {
		return errors.New("away")
	}
	if len(b.Events) > api.MaxEventBatch {
		return fmt.Errorf("%d events in a batch", len(b.Events))
	}
	if c.refuse != "" && b.Events[0].Message == c.refuse {
		return fault.New(fault.Invalid, "never")
	}
	c.got[name] = append(c.got[name], b.Events...)
	return nil
}

func (c *controllers) set(name string, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away[name] = away
}

func (c *controllers) count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got[name])
}

// bubble runs a spool that sends to three controllers.
func bubble(t *testing.T, story func(t *testing.T, s *spool.Spool, c *controllers)) {
	synctest.Test(t, func(t *testing.T) {
		c := &controllers{names: []string{"a", "b", "c"}, away: map[string]bool{}, got: map[string][]boot.Event{}}
		s := spool.New(spool.Config{Relay: "r1", Controllers: c.list, Send: c.send, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		story(t, s, c)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestEveryControllerGetsEveryEventOnceAndInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		for i := range 2000 {
			s.Record(boot.Event{Stage: boot.StageDHCP, Message: fmt.Sprint(i)})
		}
		time.Sleep(10 * time.Second)
		for _, name := range c.list() {
			if n := c.count(name); n != 2000 {
				t.Fatalf("%s has %d events", name, n)
			}
			for i, e := range c.got[name] {
				if e.Message != fmt.Sprint(i) || e.Relay != "r1" || e.Time.IsZero() {
					t.Fatalf("event %d at %s is %+v", i, name, e)
				}
			}
		}
		if n := s.Waiting(); n != 0 {
			t.Errorf("%d events are kept though all have them", n)
		}
	})
}

func TestAControllerThatWasAwayGetsWhatItMissedAndHoldsNobodyUp(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		c.set("b", true)
		for range 100 {
			s.Record(boot.Event{Stage: boot.StageDHCP})
			time.Sleep(30 * time.Second)
		}
		if c.count("a") != 100 || c.count("b") != 0 {
			t.Errorf("a has %d, b has %d", c.count("a"), c.count("b"))
		}
		c.set("b", false)
		time.Sleep(time.Minute)
		if c.count("b") != 100 {
			t.Errorf("b has %d after it came back", c.count("b"))
		}
	})
}

func TestAFullSpoolDropsTheOldestAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		s.Record(boot.Event{Stage: boot.StageDHCP})
		time.Sleep(10 * time.Second)
		for _, name := range c.list() {
			c.set(name, true)
		}
		for i := range 60_000 {
			s.Record(boot.Event{Stage: boot.StageDHCP, Message: fmt.Sprint(i)})
		}
		n := s.Waiting()
		if n > 50_000 || n < 40_000 {
			t.Errorf("%d events are kept", n)
		}
		if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], fmt.Sprintf("%d boot events were dropped", 60_000-n)) {
			t.Errorf("%d are gone, and it says %q", 60_000-n, p)
		}
		c.set("a", false)
		time.Sleep(5 * time.Minute)
		if got := c.count("a"); got != n+1 || c.got["a"][n].Message != "59999" {
			t.Errorf("a has %d events, the last is %+v", got, c.got["a"][got-1])
		}
	})
}

func TestOnlyTheLastHeartBeatOfABootIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		for _, name := range c.list() {
			c.set(name, true)
		}
		synctest.Wait()
		for i := range 500 {
			s.Record(boot.Event{Stage: boot.StageAlive, Boot: "b1"})
			s.Record(boot.Event{Stage: boot.StageAlive, Boot: "b2"})
			if i == 250 {
				time.Sleep(time.Hour)
			}
		}
		if n := s.Waiting(); n != 2 {
			t.Errorf("%d heart-beats of two boots are kept", n)
		}
		last := time.Now()
		c.set("a", false)
		time.Sleep(time.Minute)
		if n := c.count("a"); n != 2 || !c.got["a"][n-1].Time.Equal(last.UTC()) {
			t.Errorf("a has %+v", c.got["a"])
		}
		for range 100 { // one that takes them does not make the others keep them
			s.Record(boot.Event{Stage: boot.StageAlive, Boot: "b1"})
			time.Sleep(30 * time.Second)
		}
		if n := s.Waiting(); c.count("a") != 102 || n != 2 {
			t.Errorf("a has %d, %d are kept for the others", c.count("a"), n)
		}
	})
}

// Nodes with a client of Warewulf know no boots, nor does a relay that has started since: each heart-beat is its node's.
func TestTheLastHeartBeatOfEachNodeIsKeptThoughNoneNamesItsBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.json")
	synctest.Test(t, func(t *testing.T) {
		c := &controllers{names: []string{"a"}, away: map[string]bool{"a": true}, got: map[string][]boot.Event{}}
		for range 2 {
			s := spool.New(spool.Config{Relay: "r1", Controllers: c.list, Send: c.send, Path: path, Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			for range 3 {
				for _, node := range []catalog.NodeName{"n1", "n2", "n3"} {
					s.Record(boot.Event{Stage: boot.StageAlive, Node: node})
				}
				time.Sleep(time.Minute)
			}
			if n := s.Waiting(); n != 3 {
				t.Errorf("%d heart-beats of three nodes are kept", n)
			}
			cancel()
			<-done
		}
	})
}

func TestControllersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		c.set("c", true)
		time.Sleep(time.Second)
		s.Record(boot.Event{Stage: boot.StageDHCP})
		c.mu.Lock()
		c.names = []string{"a", "b", "d"}
		c.mu.Unlock()
		time.Sleep(time.Minute)
		s.Record(boot.Event{Stage: boot.StageDHCP})
		time.Sleep(time.Minute)
		if c.count("a") != 2 || c.count("d") < 1 || s.Waiting() != 0 {
			t.Errorf("a has %d, d has %d, %d are kept for one that is gone", c.count("a"), c.count("d"), s.Waiting())
		}
	})
}

func TestWhatAControllerCannotTakeDoesNotHoldTheRestUp(t *testing.T) {
	bubble(t, func(t *testing.T, s *spool.Spool, c *controllers) {
		c.mu.Lock()
		c.refuse = "bad"
		c.mu.Unlock()
		s.Record(boot.Event{Stage: boot.StageDHCP, Message: "bad"})
		time.Sleep(10 * time.Second)
		s.Record(boot.Event{Stage: boot.StageDHCP, Message: "good"})
		time.Sleep(10 * time.Second)
		if n := c.count("a"); n != 1 || c.got["a"][0].Message != "good" {
			t.Errorf("a has %+v", c.got["a"])
		}
	})
}

func TestEventsOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	synctest.Test(t, func(t *testing.T) {
		c := &controllers{names: []string{"a", "b"}, away: map[string]bool{"b": true}, got: map[string][]boot.Event{}}
		run := func(story func(s *spool.Spool)) {
			s := spool.New(spool.Config{Relay: "r1", Controllers: c.list, Send: c.send, Path: path, Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			story(s)
			cancel()
			<-done
		}
		run(func(s *spool.Spool) {
			for i := range 3 {
				s.Record(boot.Event{Stage: boot.StageDHCP, Message: fmt.Sprint(i)})
				s.Record(boot.Event{Stage: boot.StageAlive, Boot: "b1"})
			}
			time.Sleep(10 * time.Second)
		})
		c.set("b", false)
		run(func(s *spool.Spool) {
			s.Record(boot.Event{Stage: boot.StageDHCP, Message: "3"})
			time.Sleep(10 * time.Second)
			if n := s.Waiting(); n != 0 {
				t.Errorf("%d are kept though all have them", n)
			}
		})
		for _, name := range []string{"a", "b"} {
			var steps []string
			for _, e := range c.got[name] {
				if e.Stage == boot.StageDHCP {
					steps = append(steps, e.Message)
				}
			}
			if got := strings.Join(steps, " "); got != "0 1 2 3" {
				t.Errorf("%s has %s", name, got)
			}
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
		if err := os.WriteFile(path, []byte("{rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(func(s *spool.Spool) { // starts all the same
			s.Record(boot.Event{Stage: boot.StageDHCP, Message: "4"})
			time.Sleep(10 * time.Second)
		})
		if n := len(c.got["b"]); c.got["b"][n-1].Message != "4" {
			t.Errorf("b has %+v", c.got["b"])
		}
	})
}
