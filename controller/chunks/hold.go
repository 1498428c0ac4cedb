package chunks

import (
	"sync"
	"time"
)

// maxHold bounds how long one Hold counts: who forgets to let go, or hangs, does not keep what nobody needs for ever.
const maxHold = 24 * time.Hour

// hold is work that relies on what it finds in the store.
type hold struct{ since time.Time }

// Hold keeps every chunk from being collected that is used from now on, whatever the grace of the collection, until the
// returned function is called, or for a day. Whoever makes a version holds the chunks until something refers to them.
func (k *Keeper) Hold() (release func()) { return k.store.hold() }

func (g *guard) hold() (release func()) {
	h := &hold{time.Now()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds[h] = struct{}{}
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.holds, h)
	})
}

// held tells whether somebody holds what was used last at a time. The lock is taken.
func (g *guard) held(last time.Time) bool {
	for h := range g.holds {
		if time.Since(h.since) < maxHold && !last.Before(h.since) {
			return true
		}
	}
	return false
}
