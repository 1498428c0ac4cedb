package guard

import (
	"maps"
	"slices"
	"sync"
)

// Topic is what may go wrong, and on which link; "" where that is none's.
type Topic struct{ What, Link string }

// Trouble is what goes wrong, for as long as it does. The zero value is that all is well.
type Trouble struct {
	mu   sync.Mutex
	what map[Topic]string
}

// Set says what is wrong with something; "" says that it is well again.
func (t *Trouble) Set(at Topic, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.what[at] == what:
	case what == "":
		delete(t.what, at)
	default:
		if t.what == nil {
			t.what = map[Topic]string{}
		}
		t.what[at] = what
	}
}

// Keep forgets what went wrong on links that are not to be served any more.
func (t *Trouble) Keep(served func(link string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.what, func(at Topic, _ string) bool { return at.Link != "" && !served(at.Link) })
}

// Lines are what a person should know.
func (t *Trouble) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Values(t.what))
}
