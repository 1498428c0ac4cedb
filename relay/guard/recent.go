package guard

import "sync"

// recentLen is how many entries a Recent keeps at least, and half of how many it keeps at most.
const recentLen = 16384

// Recent is a bounded map of what was put or asked for lately. It has two generations: when the young one is full it
// becomes the old one, and the old one is forgotten, but for what was asked for meanwhile. The zero value is ready for
// use.
type Recent[K comparable, V any] struct {
	mu         sync.Mutex
	young, old map[K]V
}

// Put remembers v.
func (r *Recent[K, V]) Put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(k, v)
}

// set is Put. r.mu is held.
func (r *Recent[K, V]) set(k K, v V) {
	if r.young == nil || len(r.young) >= recentLen {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[k] = v
}

// Get returns what was put last.
func (r *Recent[K, V]) Get(k K) (V, bool) {
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
