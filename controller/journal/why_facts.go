package journal

import (
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/discover"
)

// facts are all that a verdict is made of.
type facts struct {
	catalog *catalog.Catalog
	node    *catalog.Resolved
	boots   []api.Boot // of the node, newest first, with their events
	relays  map[catalog.RelayName]api.RelayView
	now     time.Time

	// What judge makes of boots.
	about *api.Boot // the boot that the verdict is about; nil if there is none
	since time.Time // when the node began to come no further than that
	tries int       // how often it has begun since then

	// What others know.
	strangers []discover.Machine           // that no node claims and that asked lately; of a node of which nothing was seen
	mirror    catalog.NodeName             // asks in this node's network while this one asks in its own
	others    int                          // nodes beside it that came further since it began
	beside    string                       // what they have in common with it
	typical   map[boot.Stage]time.Duration // how long a stage takes there
}

// last is the newest boot, nil if there is none.
func (f *facts) last() *api.Boot {
	if len(f.boots) == 0 {
		return nil
	}
	return &f.boots[0]
}

const (
	// together is how far apart two boots of a machine that restarts again and again begin at most.
	together = 45 * time.Minute
	// apart is how far apart two requests of firmware are that are not of one start.
	apart = 20 * time.Second
	// again is how many starts in a row that end alike are no accident any more.
	again = 3
)

// judge finds the boot that the verdict is about. It is the newest, but where a machine starts over again and again: there
// it is the one that came furthest, and of several of these one that says what went wrong, for the newest has perhaps only
// just begun.
func (f *facts) judge() {
	b := f.last()
	if b == nil {
		return
	}
	f.about, f.since, f.tries = b, b.Started, starts(b)
	if b.Stage == boot.StageUp {
		return
	}
	row := f.boots[:1]
	for i := 1; i < len(f.boots) && f.boots[i].Stage != boot.StageUp && f.boots[i-1].Started.Sub(f.boots[i].Started) < together; i++ {
		row = f.boots[:i+1]
	}
	total := 0
	for i := range row {
		r := &row[i]
		if total += starts(r); total < again && r.Error == "" && reached(r) != reached(b) {
			continue
		}
		f.tries, f.since = total, r.Started
		for j := range row[:i+1] {
			if telling(&row[j]) > telling(f.about) {
				f.about = &row[j]
			}
		}
	}
}

// telling is how much a boot says of why a node does not boot: the further it came the more, and if it has an error.
func telling(b *api.Boot) int {
	n := 2 * reached(b).Index()
	if b.Error != "" {
		n++
	}
	return n
}

// reached is the furthest stage of a boot, also of one that failed.
func reached(b *api.Boot) boot.Stage {
	if b.Stage == boot.StageFailed {
		return b.FailedAt
	}
	return b.Stage
}

// starts counts how often the firmware began within what is known as one boot: what firmware does bears no name.
func starts(b *api.Boot) int {
	n, last := 0, time.Time{}
	for _, e := range b.Events {
		if e.Stage != boot.StageDHCP || e.Firmware == boot.FirmwareIPXE || e.Firmware == boot.FirmwareNone {
			continue
		}
		if n == 0 || e.Time.Sub(last) > apart {
			n++
		}
		last = e.Time
	}
	return max(1, n)
}

// serving lists the relays that serve the node's network, by name.
func (f *facts) serving() []catalog.RelayName {
	if f.node.Primary == nil || f.node.Primary.Network == nil {
		return nil
	}
	var all []catalog.RelayName
	for r := range f.catalog.Relays() {
		if slices.Contains(r.Networks, f.node.Primary.Network.Name) {
			all = append(all, r.Name)
		}
	}
	return all
}

// silentFor is for how long a relay has said nothing; 0 if it is heard, or was never heard by this controller, which
// may have started a moment ago.
func (f *facts) silentFor(name catalog.RelayName) time.Duration {
	v, ok := f.relays[name]
	if !ok || v.Alive || v.Seen.IsZero() {
		return 0
	}
	return age(f.now, v.Seen)
}

// problems are what a relay says of itself that holds one of the words.
func (f *facts) problems(name catalog.RelayName, words ...string) []string {
	v, ok := f.relays[name]
	if !ok || v.Status == nil || !v.Alive {
		return nil
	}
	var found []string
	for _, p := range v.Status.Problems {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(p, w) }) {
			found = append(found, p)
		}
	}
	return found
}
