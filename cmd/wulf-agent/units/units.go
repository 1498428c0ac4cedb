// Package units tells the node's systemd when files have changed that its units are made of, or read.
package units

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// Owed is what units are still to be told, by the name of the unit. It is kept until it has been done.
type Owed map[string]Debt

// Debt is what a unit is to be told.
type Debt struct {
	Restart bool      `json:"restart,omitempty"` // to start anew; else to read its files again
	Tries   int       `json:"tries,omitempty"`   // that have failed
	Next    time.Time `json:"next,omitzero"`     // when to try again
}

// manager stands for systemd itself among the units: it is told to read the files of its units.
const manager = "systemd"

// agent is the unit in which this program runs. It cannot wait for its own restart.
const agent = "wulf-agent.service"

// unitDirs are where systemd looks for the files of its units.
var unitDirs = []string{"etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// Add adds what is to be done because files have changed. A unit is told once, however many files it is about; who is to
// be restarted need not be reloaded. A change begins a debt anew that could not be paid.
func (o Owed) Add(hooks []overlay.Hook, changed []string) {
	for _, p := range changed {
		if slices.ContainsFunc(unitDirs, func(dir string) bool { return strings.HasPrefix(path.Clean(p), dir+"/") }) {
			o[manager] = Debt{}
		}
		for _, h := range hooks {
			switch {
			case !h.Matches(p):
			case h.Restart != "":
				o[h.Restart] = Debt{Restart: true}
			case h.Reload != "":
				o[h.Reload] = Debt{Restart: o[h.Reload].Restart}
			}
		}
	}
}

// Due makes all that is owed due now, however often it has failed.
func (o Owed) Due() {
	for unit, debt := range o {
		debt.Next = time.Time{}
		o[unit] = debt
	}
}

// due lists what is to be done now, in order: systemd first, for it must know what the others are; this program last.
func (o Owed) due(now time.Time) []string {
	rank := func(unit string) string {
		switch unit {
		case manager:
			return "0"
		case agent:
			return "2"
		}
		return "1" + unit
	}
	all := slices.SortedFunc(maps.Keys(o), func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	return slices.DeleteFunc(all, func(unit string) bool { return now.Before(o[unit].Next) })
}
