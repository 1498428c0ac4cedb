package dhcp6d

import (
	"cmp"
	"hash/maphash"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// How often who may ask.
const (
	// A machine that asks more often than this is in trouble, and gets no better of being answered.
	machineRate, machineBurst = 20, 60
	// All machines together that no node claims: a few racks of new ones may be switched on at once.
	strangerRate, strangerBurst = 500, 2000

	machineBuckets = 1 << 14
)

// bucket has tokens that come back with time.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	b.left, b.at = min(burst, b.left+rate*max(0, now.Sub(b.at).Seconds())), now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// limits drops what is too much. It never grows: machines that fall to one bucket share it.
type limits struct {
	seed maphash.Seed

	mu        sync.Mutex
	machines  []bucket
	strangers bucket
}

func newLimits() limits {
	return limits{seed: maphash.MakeSeed(), machines: make([]bucket, machineBuckets)}
}

// admits tells whether a machine's packet may be answered.
func (l *limits) admits(now time.Time, c *catalog.Catalog, q *query) bool {
	name, known := "", false
	for _, hw := range q.machines {
		name = cmp.Or(name, string(hw))
		_, is := c.NodeByHardware(hw)
		known = known || is
	}
	for _, uuid := range q.uuids() {
		name = cmp.Or(name, uuid)
		_, is := c.NodeByUUID(uuid)
		known = known || is
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := maphash.String(l.seed, name) % machineBuckets
	return l.machines[at].take(now, machineRate, machineBurst) && (known || l.strangers.take(now, strangerRate, strangerBurst))
}

const (
	tellEvery = 10 * time.Second // how often the same is recorded of one machine at most
	maxTold   = 8192             // machines of which that is remembered
)

// told is what was recorded of machines lately.
type told struct {
	mu sync.Mutex
	of map[catalog.HardwareAddr]boot.Event
}

// news tells whether an event says something that was not said of its machine a moment ago.
func (x *told) news(e boot.Event) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if last, ok := x.of[e.Hardware]; ok && e.Time.Sub(last.Time) < tellEvery && last.Firmware == e.Firmware && last.Address == e.Address && last.Error == e.Error {
		return false
	}
	if x.of == nil || len(x.of) >= maxTold {
		x.of = map[catalog.HardwareAddr]boot.Event{}
	}
	e.Machine = nil
	x.of[e.Hardware] = e
	return true
}
