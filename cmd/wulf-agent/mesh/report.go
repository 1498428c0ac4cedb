package mesh

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxQueue bounds the events that wait for a relay; beyond, the oldest go.
const maxQueue = 64

// Reporter sends events in the background, so that no stage of a boot waits for a relay that is away.
type Reporter struct {
	mesh *Mesh
	base boot.Event // what all events of this boot have in common
	wake chan struct{}

	mu      sync.Mutex
	queue   []boot.Event
	sending bool
	idle    *sync.Cond
}

// NewReporter makes a reporter of one boot; Run sends.
func NewReporter(m *Mesh, base boot.Event) *Reporter {
	r := &Reporter{mesh: m, base: base, wake: make(chan struct{}, 1)}
	r.idle = sync.NewCond(&r.mu)
	return r
}

// Record queues an event; what all have in common is filled in.
func (r *Reporter) Record(e boot.Event) {
	e.Time, e.Node, e.Hardware, e.Boot = time.Now().UTC(), r.base.Node, r.base.Hardware, r.base.Boot
	e.Revision, e.Manifest = cmp.Or(e.Revision, r.base.Revision), r.base.Manifest
	for _, text := range []*string{&e.Error, &e.Fix, &e.Message, &e.Without} {
		*text = (*text)[:min(len(*text), boot.MaxEventText)]
	}
	if len(e.Console) > boot.MaxEventConsole {
		e.Console = e.Console[len(e.Console)-boot.MaxEventConsole:]
	}
	r.mu.Lock()
	if e.Stage == boot.StageAlive { // the latest heart-beat says it all, and must not push the stages of a boot out
		r.queue = slices.DeleteFunc(r.queue, func(old boot.Event) bool { return old.Stage == boot.StageAlive })
	}
	r.queue = append(r.queue, e)
	r.queue = r.queue[max(0, len(r.queue)-maxQueue):]
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Trouble records what does not succeed in stage one, and is tried again: for Config.Trouble. What is about reporting
// itself cannot be reported.
func (r *Reporter) Trouble(what string, err error, waiting bool) {
	switch {
	case what == reporting:
	case waiting:
		r.Record(boot.Event{Stage: boot.StageStageOne, Message: fmt.Sprintf("%s: %s: %v", boot.AgentWaits, what, err)})
	default:
		r.Record(boot.Event{Stage: boot.StageStageOne, Error: fmt.Sprintf("%s: %v", what, err), Fix: fault.Fix(err)})
	}
}

// Run sends what is recorded, in order, until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		batch := r.queue
		r.queue, r.sending = nil, len(batch) > 0
		r.mu.Unlock()
		if len(batch) > 0 {
			if err := r.mesh.Report(ctx, batch); err != nil && ctx.Err() == nil {
				r.mesh.log.Warn("events were not taken", "err", err)
			}
		}
		r.mu.Lock()
		r.sending = false
		r.idle.Broadcast()
		r.mu.Unlock()
	}
}

// Flush waits until everything recorded is sent, but no longer than for the time given.
func (r *Reporter) Flush(within time.Duration) {
	expired := false
	timer := time.AfterFunc(within, func() {
		r.mu.Lock()
		expired = true
		r.idle.Broadcast()
		r.mu.Unlock()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for (len(r.queue) > 0 || r.sending) && !expired {
		r.idle.Wait()
	}
}
