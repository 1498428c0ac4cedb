package httpd

import (
	"net/netip"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Bounds of what is remembered of machines that fetch their kernel now.
const (
	maxBooting  = 10_000
	bootingTime = 15 * time.Minute
)

// booting remembers which address has been given a script for which boot, so that its fetch of the kernel can be told
// to be a stage of that boot: the paths of chunks name no node, so that they are the same for all.
type booting struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*begun
}

type begun struct {
	event   boot.Event
	waiting map[chunk.ID]bool // what it must have fetched for the stage to be reached
	at      time.Time
	bytes   int64
}

func newBooting() *booting { return &booting{byAddr: map[netip.Addr]*begun{}} }

// begin notes a script.
func (b *booting) begin(addr netip.Addr, p *boot.Plan, id string) {
	n := &begun{at: time.Now(), waiting: map[chunk.ID]bool{p.Kernel.Kernel.ID: true, p.Kernel.StageOne.ID: true}}
	switch {
	case p.Method == catalog.MethodOneStage:
		n.waiting[p.Manifest.ID] = true
	case p.Method == catalog.MethodWarewulf:
		n.waiting = map[chunk.ID]bool{p.Kernel.Kernel.ID: true}
		if !p.Warewulf.Dracut {
			n.waiting[p.Manifest.ID] = true
		}
	}
	n.event = boot.Event{Stage: boot.StageKernel, Node: p.Node, Hardware: p.BootHardware, Boot: id, Revision: p.Revision, Image: p.Image, Manifest: p.Manifest.ID}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.byAddr) >= maxBooting {
		for a, old := range b.byAddr {
			if time.Since(old.at) > bootingTime {
				delete(b.byAddr, a)
			}
		}
	}
	if len(b.byAddr) < maxBooting {
		b.byAddr[addr] = n
	}
}

// fetched notes that something was sent as a whole, and returns the event if all that a boot waits for has been by now.
//
// A machine whose script came from another relay is known here by its declared address alone. Its event names no boot;
// the journal puts it where it belongs.
func (s *Server) fetched(addr netip.Addr, id chunk.ID, size int64) (boot.Event, bool) {
	if !s.booting.knows(addr) {
		n, ok := s.cfg.Feed.Catalog().NodeByAddress(addr)
		if !ok {
			return boot.Event{}, false
		}
		p, err := s.planOf(n.Name)
		if err != nil || p.Problem != nil || id != p.Kernel.Kernel.ID && id != p.Kernel.StageOne.ID {
			return boot.Event{}, false
		}
		s.booting.begin(addr, &p, "")
	}
	return s.booting.fetched(addr, id, size)
}

// name is the boot of which an address was given the script, "" if it is not known.
func (b *booting) name(addr netip.Addr) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, ok := b.byAddr[addr]; ok {
		return n.event.Boot
	}
	return ""
}

func (b *booting) knows(addr netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.byAddr[addr]
	return ok && time.Since(n.at) < bootingTime
}

func (b *booting) fetched(addr netip.Addr, id chunk.ID, size int64) (boot.Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.byAddr[addr]
	if n == nil || !n.waiting[id] {
		return boot.Event{}, false
	}
	delete(n.waiting, id)
	n.bytes += size
	if len(n.waiting) > 0 {
		return boot.Event{}, false
	}
	delete(b.byAddr, addr)
	e := n.event
	e.Bytes, e.Took, e.Address = n.bytes, time.Since(n.at), addr.String()
	return e, true
}
