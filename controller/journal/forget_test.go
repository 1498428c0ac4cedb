package journal

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// A flood of invented machines drives out invented machines, and then the nodes that were silent longest: not those that run
// longest.
func TestNodesThatRunForLongAreNotForgottenFirst(t *testing.T) {
	j, err := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	node := func(n int, stage boot.Stage, at time.Time) {
		j.Record([]boot.Event{{Time: at, Node: catalog.NodeName(fmt.Sprintf("n%02d", n)), Hardware: catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:00:%02x", n)), Boot: fmt.Sprintf("b%d", n), Stage: stage}})
	}
	for n := range 40 { // all are up for a year, but the last ten only for a day; these are silent
		if n >= 30 {
			node(n, boot.StageUp, now.AddDate(0, 0, -1))
			continue
		}
		node(n, boot.StageUp, now.AddDate(-1, 0, 0))
		node(n, boot.StageAlive, now)
	}
	for n := range 10 {
		j.Record([]boot.Event{{Time: now.Add(time.Hour), Hardware: catalog.HardwareAddr(fmt.Sprintf("02:00:00:00:00:%02x", n)), Stage: boot.StageDHCP}})
	}
	left := func() (running, silent, invented int) {
		j.mu.Lock()
		j.forget()
		j.mu.Unlock()
		for _, b := range j.Boots() {
			switch {
			case b.Node == "":
				invented++
			case b.Node < "n30":
				running++
			default:
				silent++
			}
		}
		return running, silent, invented
	}
	for i, want := range [][3]int{{30, 10, 5}, {30, 10, 1}, {30, 7, 0}, {30, 4, 0}} {
		if running, silent, invented := left(); [3]int{running, silent, invented} != want {
			t.Errorf("after %d times: %d that run, %d silent, %d invented, want %v", i+1, running, silent, invented, want)
		}
	}
}
