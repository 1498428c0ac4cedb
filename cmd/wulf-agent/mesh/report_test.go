package mesh_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// spool is a relay that takes events.
type spool struct {
	mu     sync.Mutex
	events []boot.Event
}

func (s *spool) take(w http.ResponseWriter, r *http.Request) {
	var batch api.EventBatch
	if err := api.ReadJSON(w, r, &batch); err != nil {
		api.WriteError(w, err)
		return
	}
	if sent, err := time.Parse(time.RFC3339Nano, r.Header.Get(api.HeaderSent)); err != nil || time.Since(sent) > 10*time.Second {
		api.WriteError(w, fault.New(fault.Invalid, "it does not say when it was sent: %q", r.Header.Get(api.HeaderSent)))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, batch.Events...)
	w.WriteHeader(http.StatusNoContent)
}

// got are the events that have come since it was asked last.
func (s *spool) got() []boot.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.events
	s.events = nil
	return was
}

// messages tells what has come since it was asked last, in order: stages, with what they say.
func (s *spool) messages() string {
	var all []string
	for _, e := range s.got() {
		all = append(all, strings.TrimSpace(string(e.Stage)+" "+e.Message))
	}
	return strings.Join(all, ", ")
}

// reporting runs a reporter until the test ends, and hands it to f.
func reporting(l *lab, f func(r *mesh.Reporter)) {
	ctx, cancel := context.WithCancel(l.t.Context())
	r := mesh.NewReporter(l.mesh, boot.Event{Node: "n1", Hardware: "52:54:00:00:00:01", Boot: "b1", Revision: 7, Manifest: chunk.Of([]byte("m"))})
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	f(r)
	cancel()
	<-done
}

func TestEventsArriveInOrderWithWhatTheyShare(t *testing.T) {
	bubble(t, func(l *lab) {
		var s spool
		l.serve("r1", s.take)
		reporting(l, func(r *mesh.Reporter) {
			for i := range 20 {
				r.Record(boot.Event{Stage: boot.StageImage, Message: fmt.Sprint(i)})
				time.Sleep(time.Duration(i%3) * time.Millisecond)
			}
			r.Record(boot.Event{Stage: boot.StageFailed, Error: strings.Repeat("e", 9999), Console: strings.Repeat("c", 99999) + "last"})
			r.Flush(time.Minute)
		})
		got := s.got()
		if len(got) != 21 {
			l.t.Fatalf("%d events came", len(got))
		}
		for i, e := range got[:20] {
			if e.Message != fmt.Sprint(i) || e.Node != "n1" || e.Hardware != "52:54:00:00:00:01" || e.Boot != "b1" || e.Revision != 7 || e.Manifest.IsZero() || e.Time.IsZero() {
				l.t.Errorf("event %d is %+v", i, e)
			}
		}
		if e := got[20]; len(e.Error) != boot.MaxEventText || len(e.Console) != boot.MaxEventConsole || !strings.HasSuffix(e.Console, "last") {
			l.t.Errorf("an error of %d bytes and a console of %d", len(e.Error), len(e.Console))
		}
	})
}

// Relays that are away for long cost neither memory nor the story of the boot.
func TestEventsWaitForARelayWithinBounds(t *testing.T) {
	bubble(t, func(l *lab) {
		var s spool
		reporting(l, func(r *mesh.Reporter) {
			start := time.Now()
			for _, stage := range []boot.Stage{boot.StageStageOne, boot.StageImage, boot.StageInit} {
				r.Record(boot.Event{Stage: stage})
				time.Sleep(time.Second)
			}
			for i := range 120 { // an hour of heart-beats
				if i == 60 {
					r.Record(boot.Event{Stage: boot.StageUp})
				}
				r.Record(boot.Event{Stage: boot.StageAlive, Message: fmt.Sprint(i)})
				time.Sleep(30 * time.Second)
			}
			l.serve("r2", s.take)
			r.Flush(time.Minute)
			if took := time.Since(start); took > 62*time.Minute {
				l.t.Errorf("it took %s", took)
			}
			if got, want := s.messages(), "stage-one, image, init, up, alive 119"; got != want {
				l.t.Errorf("got %s, want %s", got, want)
			}
			l.net.Kill("r2")
			for i := range 500 {
				r.Record(boot.Event{Stage: boot.StageInit, Message: fmt.Sprint(i)})
			}
			s.got()
			l.serve("r1", s.take)
			r.Flush(2 * time.Minute)
			if got := s.got(); len(got) < 64 || len(got) > 130 || got[len(got)-1].Message != "499" {
				l.t.Errorf("%d events came", len(got))
			}
		})
	})
}

func TestFlushWaitsForWhatIsRecordedButNotForever(t *testing.T) {
	bubble(t, func(l *lab) {
		var s spool
		l.serve("r1", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			s.take(w, r)
		})
		reporting(l, func(r *mesh.Reporter) {
			start := time.Now()
			r.Flush(time.Minute)
			if took := time.Since(start); took != 0 {
				l.t.Errorf("nothing to send took %s", took)
			}
			r.Record(boot.Event{Stage: boot.StageUp})
			r.Flush(time.Minute)
			if got, took := s.messages(), time.Since(start); got != "up" || took > 3*time.Second {
				l.t.Errorf("sent %q after %s", got, took)
			}
			l.net.Stall("r1")
			start = time.Now()
			r.Record(boot.Event{Stage: boot.StageFailed})
			r.Flush(5 * time.Second)
			if took := time.Since(start); took != 5*time.Second {
				l.t.Errorf("gave up after %s", took)
			}
			l.net.Heal()
		})
	})
}
