package mesh_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/mesh"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// inLine answers as a relay does that has a line, until the time is over.
func inLine(until time.Time, seconds string, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !time.Now().Before(until) {
			then(w, r)
			return
		}
		w.Header().Set("Retry-After", seconds)
		w.Header().Set(api.HeaderPlace, "37")
		api.WriteError(w, fault.New(fault.Unavailable, "relay r1 is busy: 37 are before this machine, for about 12s"))
	}
}

// A turn that is near is waited for; to ask the other relays would take a place in their lines.
func TestTurnThatIsNearIsWaitedFor(t *testing.T) {
	want := bytesOf(1, 10)
	bubble(t, func(l *lab) {
		l.serve("r1", inLine(time.Now().Add(5*time.Second), "3", sends(want)))
		l.serve("r2", sends(want))
		if _, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil {
			l.t.Fatal(err)
		}
		l.wantReached("a turn that is near", "r1", "r1", "r1")
	})
}

// One that never comes is not waited for, for ever.
func TestTurnThatIsAlwaysNearIsNotBelieved(t *testing.T) {
	want := bytesOf(1, 10)
	bubble(t, func(l *lab) {
		began := time.Now()
		l.serve("r1", inLine(began.Add(time.Hour), "2", sends(want)))
		l.serve("r2", sends(want))
		if _, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || time.Since(began) > time.Minute {
			l.t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestRelayWithoutLineIsAskedWhenTheTurnIsFar(t *testing.T) {
	want := bytesOf(1, 10)
	bubble(t, func(l *lab) {
		began := time.Now()
		l.serve("r1", inLine(began.Add(time.Hour), "40", sends(want)))
		l.serve("r2", sends(want))
		if _, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(want)); err != nil || time.Since(began) > time.Second {
			l.t.Errorf("%v after %v", err, time.Since(began))
		}
		l.wantReached("a turn that is far", "r1", "r2")
	})
}

// All requests of a node share its place: one is told to come back, the others do not ask meanwhile, and the console is
// told once. As long as relays say how long it takes, there is progress.
func TestPlaceInLineIsTheNodes(t *testing.T) {
	bodies := [][]byte{bytesOf(1, 10), bytesOf(2, 10), bytesOf(3, 10), bytesOf(4, 10)}
	bubble(t, func(l *lab) {
		var console bytes.Buffer
		progress := 0
		var mu sync.Mutex
		l.mesh = mesh.New(mesh.Config{
			Trust: l.ca.Trust(), Relays: []string{"r1:4481"}, Dial: l.host["n1"].Dial, Log: slog.New(slog.NewTextHandler(&console, nil)),
			Progress: func() { mu.Lock(); defer mu.Unlock(); progress++ },
		})
		l.serve("r1", inLine(time.Now().Add(20*time.Second), "30", func(w http.ResponseWriter, r *http.Request) {
			for _, b := range bodies {
				if strings.HasSuffix(r.URL.Path, chunk.Of(b).String()) {
					_, _ = w.Write(b)
				}
			}
		}))
		var wg sync.WaitGroup
		fetch := func(b []byte) {
			if _, err := l.mesh.Fetch(l.t.Context(), chunk.RefOf(b)); err != nil {
				l.t.Error(err)
			}
		}
		wg.Go(func() { fetch(bodies[0]) })
		time.Sleep(time.Second)
		for _, b := range bodies[1:] {
			wg.Go(func() { fetch(b) })
		}
		wg.Wait()
		l.wantReached("a node in line", "r1", "r1", "r1", "r1", "r1")
		if n := strings.Count(console.String(), "37 are before this machine, for about 12s"); n != 1 {
			l.t.Errorf("the console is told %d times:\n%s", n, console.String())
		}
		if progress != 5 {
			l.t.Errorf("progress was made %d times", progress)
		}
	})
}
