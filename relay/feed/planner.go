package feed

import (
	"slices"
	"sync/atomic"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Planner plans for one who keeps what he makes of plans until something changes. Its methods may be called by any number
// of goroutines.
type Planner struct {
	feed *Feed
	live func() []catalog.RelayName
	last atomic.Pointer[edition]
}

// Planner is one that has an order of its own in plans: the relays that live tells of come first.
func (f *Feed) Planner(live func() []catalog.RelayName) *Planner {
	return &Planner{feed: f, live: live}
}

// Plan is Feed.Plan in the planner's order.
func (p *Planner) Plan(req boot.Request) (boot.Plan, error) {
	req.Live = p.live()
	return p.feed.Plan(req)
}

// Known tells whether a node claims a machine.
func (p *Planner) Known(hw catalog.HardwareAddr) bool {
	_, ok := p.feed.Catalog().NodeByHardware(hw)
	return ok
}

// edition is what plans are made of.
type edition struct {
	catalog *catalog.Catalog
	removed bool
	unwell  bool
	live    []catalog.RelayName
}

func (e *edition) same(o *edition) bool {
	return e.catalog == o.catalog && e.removed == o.removed && e.unwell == o.unwell && (e.live == nil) == (o.live == nil) && sameList(e.live, o.live)
}

// sameList compares the names only where the lists are not one and the same.
func sameList(a, b []catalog.RelayName) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// Edition is equal to an earlier one as long as Plan and Known give the same answers as then. It is asked for every
// packet of DHCP, so it costs next to nothing while nothing changes.
func (p *Planner) Edition() any {
	now := edition{p.feed.Catalog(), p.feed.removed.Load(), p.feed.unwell(), p.live()}
	if last := p.last.Load(); last != nil && last.same(&now) {
		return last
	}
	next := now // on the heap, unlike the one above
	p.last.Store(&next)
	return &next
}
