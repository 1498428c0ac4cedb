package apiserver

import "sync"

// flights are requests under way, and what they have set going. Unlike with a sync.WaitGroup, some may begin while
// somebody waits for the end of all.
type flights struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n is 0; nil while nobody waits
}

// run does f, and counts it until it ends.
func (f *flights) run(do func()) {
	f.mu.Lock()
	f.n++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.n--; f.n == 0 && f.idle != nil {
			close(f.idle)
			f.idle = nil
		}
	}()
	do()
}

// wait returns when nothing is under way.
func (f *flights) wait() {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	<-idle
}
