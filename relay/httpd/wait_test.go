package httpd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// waiter is a running node whose request is held back.
type waiter struct {
	done  chan *httptest.ResponseRecorder
	began time.Time
}

// wait lets a node ask with what it has.
func wait(s *Server, node, has, prefer string) *waiter {
	w := &waiter{make(chan *httptest.ResponseRecorder, 1), time.Now()}
	go func() { w.done <- await(s, node, overlay.KindRuntime, has, prefer) }()
	synctest.Wait()
	return w
}

// answer is the status, revision and body of the answer, and how long it took.
func (w *waiter) answer() (status int, revision, body string, took time.Duration) {
	a := <-w.done
	return a.Code, a.Header().Get(api.HeaderRevision), a.Body.String(), time.Since(w.began)
}

// waiting is a relay with node n-open, which has its overlays and their tag.
func waiting(t *testing.T, f func(s *Server, a *armory, tag string)) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := armed(t)
		a.give("open sesame")
		f(s, a, fetch(s, "n-open", overlay.KindRuntime, "").Header().Get("ETag"))
	})
}

func comment(node catalog.NodeName, text string) catalog.Change {
	return catalog.SetNodes{Nodes: catalog.NodeSet{node}, Set: catalog.Settings{Comment: &text}}
}

const soon = settle + spread

func TestAnAnswerIsHeldBackUntilThereIsSomethingNew(t *testing.T) {
	waiting(t, func(s *Server, a *armory, tag string) {
		w := wait(s, "n-open", tag, "wait=30")
		if status, _, _, took := w.answer(); status != http.StatusNotModified || took != 30*time.Second {
			t.Errorf("nothing new: status %d after %s", status, took)
		}
		w = wait(s, "n-open", tag, "respond-async, wait=30")
		time.Sleep(10 * time.Second)
		a.give("another")
		if status, _, body, took := w.answer(); status != http.StatusOK || !strings.Contains(body, "another") || took > 10*time.Second+soon {
			t.Errorf("a new secret: status %d after %s: %q", status, took, body)
		}
		for _, prefer := range []string{"", "wait=0", "wait=-1", "wait=x", "wait"} {
			if status, _, _, took := wait(s, "n-open", fetch(s, "n-open", overlay.KindRuntime, "").Header().Get("ETag"), prefer).answer(); status != http.StatusNotModified || took != 0 {
				t.Errorf("%q: status %d after %s", prefer, status, took)
			}
		}
		if got := waitOf(&http.Request{Header: http.Header{"Prefer": {"wait=9999"}}}); got != maxWait {
			t.Errorf("a wait without end is %s", got)
		}
	})
}

// What changes nothing for a node wakes nobody; in the end it is told which revision that was looked at for.
func TestAChangeThatIsNothingToANodeDoesNotWakeIt(t *testing.T) {
	waiting(t, func(s *Server, a *armory, tag string) {
		w := wait(s, "n-open", tag, "wait=30")
		for n := range 20 {
			time.Sleep(time.Second)
			a.declare(t, comment("n-closed", fmt.Sprint(n)))
		}
		status, revision, _, took := w.answer()
		if status != http.StatusNotModified || took != 30*time.Second || revision != fmt.Sprint(a.Catalog().Revision) {
			t.Errorf("status %d after %s, revision %s of %d", status, took, revision, a.Catalog().Revision)
		}
	})
}

// A burst of changes is looked at as one.
func TestManyChangesInARowAreOneAnswer(t *testing.T) {
	waiting(t, func(s *Server, a *armory, tag string) {
		before := s.overlays.renderer.Stats()
		w := wait(s, "n-open", tag, "wait=30")
		for n := range 200 {
			a.declare(t, comment("n-far", fmt.Sprint(n)))
			time.Sleep(time.Millisecond)
		}
		a.declare(t, catalog.SyncNodes{Nodes: catalog.NodeSet{"n-open"}})
		if status, _, _, took := w.answer(); status != http.StatusOK || took > 200*time.Millisecond+soon {
			t.Errorf("status %d after %s", status, took)
		}
		after := s.overlays.renderer.Stats()
		if n := after.Rendered + after.Reused - before.Rendered - before.Reused; n > 10 {
			t.Errorf("200 changes were looked at with %d templates", n)
		}
	})
}

// Who is asked is told all again, and nobody else is.
func TestANodeThatIsAskedIsAnswered(t *testing.T) {
	waiting(t, func(s *Server, a *armory, tag string) {
		other := wait(s, "n-closed", fetch(s, "n-closed", overlay.KindRuntime, "").Header().Get("ETag"), "wait=30")
		w := wait(s, "n-open", tag, "wait=30")
		a.declare(t, catalog.SyncNodes{Nodes: catalog.NodeSet{"n-open"}})
		status, revision, body, took := w.answer()
		if status != http.StatusOK || took > soon || revision != fmt.Sprint(a.Catalog().Revision) || !strings.Contains(body, "open sesame") {
			t.Errorf("status %d after %s, revision %s: %q", status, took, revision, body)
		}
		if status, _, _, took := other.answer(); status != http.StatusNotModified || took != 30*time.Second {
			t.Errorf("the other: status %d after %s", status, took)
		}
		system := fetch(s, "n-open", overlay.KindSystem, "").Header().Get("ETag")
		a.declare(t, catalog.SyncNodes{Nodes: catalog.NodeSet{"n-open"}})
		if w := fetch(s, "n-open", overlay.KindSystem, system); w.Code != http.StatusNotModified {
			t.Errorf("the system overlays, which only a boot takes: status %d", w.Code)
		}
	})
}

// A secret that is on its way does not wake a node for a listing without it.
func TestANodeThatWaitsKeepsItsFilesUntilItsSecretIsThere(t *testing.T) {
	waiting(t, func(s *Server, a *armory, tag string) {
		w := wait(s, "n-open", tag, "wait=30")
		a.give("")
		time.Sleep(10 * time.Second)
		a.give("another")
		if status, _, body, took := w.answer(); status != http.StatusOK || !strings.Contains(body, "another") || took < 10*time.Second || took > 10*time.Second+2*soon {
			t.Errorf("status %d after %s: %q", status, took, body)
		}
	})
}

func TestOfANodeOneRequestIsHeldBackAndNotTooManyAreInAll(t *testing.T) {
	waiting(t, func(s *Server, _ *armory, tag string) {
		first := wait(s, "n-open", tag, "wait=30")
		second := wait(s, "n-open", tag, "wait=30")
		if status, _, _, took := first.answer(); status != http.StatusNotModified || took != 0 {
			t.Errorf("the first: status %d after %s", status, took)
		}
		for n := range maxWaiting - 1 {
			s.waits.of[listingKey{catalog.NodeName(fmt.Sprint(n)), overlay.KindRuntime}] = make(chan struct{})
		}
		closed := fetch(s, "n-closed", overlay.KindRuntime, "").Header().Get("ETag")
		if status, _, _, took := wait(s, "n-closed", closed, "wait=30").answer(); status != http.StatusNotModified || took != 0 {
			t.Errorf("one too many: status %d after %s", status, took)
		}
		s.waits.end()
		if status, _, body, took := second.answer(); status != 0 || !strings.Contains(body, "relay r1 ends") || took != 0 {
			t.Errorf("when the relay ends: status %d after %s: %q", status, took, body)
		}
		if _, ok := s.waits.of[listingKey{"n-open", overlay.KindRuntime}]; ok {
			t.Error("it is not forgotten")
		}
	})
}
