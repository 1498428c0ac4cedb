package dhcpd

import (
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// recentLen is how many entries a recent keeps at least, and half of how many it keeps at most.
const recentLen = 16384

// recent is a bounded map of what was put or asked for lately. It has two generations: when the young one is full it
// becomes the old one, and the old one is forgotten, but for what was asked for meanwhile. The zero value is ready for
// use.
type recent[K comparable, V any] struct {
	mu         sync.Mutex
	young, old map[K]V
}

func (r *recent[K, V]) put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(k, v)
}

// set is put. r.mu is held.
func (r *recent[K, V]) set(k K, v V) {
	if r.young == nil || len(r.young) >= recentLen {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[k] = v
}

func (r *recent[K, V]) get(k K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	if ok {
		r.set(k, v)
	}
	return v, ok
}

// machine is who was given an address.
type machine struct {
	node catalog.NodeName
	hw   catalog.HardwareAddr
}

// tellEvery is how often the same is recorded of one machine at most.
const tellEvery = 10 * time.Second

// telling is what was recorded of a machine last.
type telling struct {
	firmware boot.Firmware
	address  string
	err      string
	at       time.Time
}

func (t telling) same(u telling) bool {
	t.at = u.at
	return t == u
}
