package journal_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/journal"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
)

// A disk that is full is so for a while: all that is in memory is not written for nothing every other second. When there is
// room again, the file has everything.
func TestAFullDiskIsTriedMoreAndMoreSeldom(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		tries := 0
		disk := durable.FS{Hook: func(op durable.Op, path string) error {
			if op == durable.OpCreate && filepath.Base(path) == "events.ndjson" {
				tries++
			}
			if op == durable.OpWrite && full.Load() {
				return syscall.ENOSPC
			}
			return nil
		}}
		j, err := journal.New(journal.Config{Dir: dir, Disk: disk, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "events.ndjson"), make([]byte, 65<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- j.Run(ctx) }()
		full.Store(true)
		n := 0
		during := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); n++ {
				j.Record(boots(n, boot.StageUp))
				time.Sleep(time.Second)
			}
		}
		during(20 * time.Minute)
		if tries < 5 || tries > 12 {
			t.Errorf("within 20 minutes the file was begun %d times", tries)
		}
		full.Store(false)
		during(6 * time.Minute)
		cancel()
		<-done
		again := open(t, dir)
		if got := len(again.Boots()); got != n {
			t.Errorf("%d of %d machines are known after a restart", got, n)
		}
	})
}

// Events come while the file is made anew: none is lost, and no boot is counted twice.
func TestTheFileIsMadeAnewWhileEventsCome(t *testing.T) {
	dir := t.TempDir()
	const machines = 600
	synctest.Test(t, func(t *testing.T) {
		j := open(t, dir)
		for n := range machines {
			j.Record(boots(n, boot.StageKernel))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		var g sync.WaitGroup
		g.Go(func() {
			for n := range machines {
				j.Record(boots(n, boot.StageUp)) // goes on
				later := boots(n, boot.StageInit)
				for i := range later {
					later[i].Time = later[i].Time.Add(5 * time.Hour)
					if later[i].Boot != "" {
						later[i].Boot = fmt.Sprintf("c%d", n)
					}
				}
				j.Record(later)
			}
		})
		for range 3 {
			if err := j.Rewrite(); err != nil {
				t.Error(err)
			}
		}
		g.Wait()
		go func() { done <- j.Run(ctx) }()
		time.Sleep(5 * time.Second)
		cancel()
		<-done
		now := t0.Add(6 * time.Hour)
		want, got := j.Sessions(now), open(t, dir).Sessions(now)
		if len(want) != 2 || len(got) != 2 {
			t.Fatalf("%d sessions, after a restart %d", len(want), len(got))
		}
		for i := range got {
			got[i].Since = want[i].Since
			if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
				t.Errorf("after a restart %+v\nwant %+v", got[i], want[i])
			}
		}
	})
}
