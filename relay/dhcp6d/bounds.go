package dhcp6d

import (
	"cmp"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/relay/guard"
)

// How often who may ask.
const (
	// A machine that asks more often than this is in trouble, and gets no better of being answered.
	machineRate, machineBurst = 20, 60
	// All machines together that no node claims: a few racks of new ones may be switched on at once.
	strangerRate, strangerBurst = 500, 2000

	machineBuckets = 1 << 14
)

// limits drops what is too much.
type limits struct{ machines, strangers *guard.Limiter }

func newLimits() limits {
	return limits{guard.NewLimiter(machineRate, machineBurst, machineBuckets), guard.NewLimiter(strangerRate, strangerBurst, 1)}
}

// admits tells whether a machine's packet may be answered.
func (l *limits) admits(now time.Time, c *catalog.Catalog, q *query) bool {
	name, known := "", false
	for _, hw := range q.machines {
		name = cmp.Or(name, string(hw))
		_, is := c.NodeByHardware(hw)
		known = known || is
	}
	for _, uuid := range q.uuids {
		name = cmp.Or(name, uuid)
		_, is := c.NodeByUUID(uuid)
		known = known || is
	}
	return l.machines.Take([]byte(name), now) && (known || l.strangers.Take(nil, now))
}
