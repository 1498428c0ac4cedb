package apiserver

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

func TestEgressIsThatOfTheMinutesOfASession(t *testing.T) {
	var e egress
	t0 := time.Unix(60*1000, 0)
	at := func(minutes int) time.Time { return t0.Add(time.Duration(minutes) * time.Minute) }
	if n := e.between(t0, at(5)); n != 0 {
		t.Errorf("before anything was sent: %d", n)
	}
	for minute, bytes := range []int64{100, 100, 250, 250, 900} {
		e.sent(bytes, at(minute).Add(20*time.Second))
		e.sent(bytes, at(minute).Add(30*time.Second))
	}
	for _, tc := range []struct {
		from, to int
		want     int64
	}{{0, 4, 900}, {0, 0, 100}, {1, 2, 150}, {3, 4, 650}, {5, 9, 0}} {
		if n := e.between(at(tc.from), at(tc.to)); n != tc.want {
			t.Errorf("from minute %d to %d: %d bytes, want %d", tc.from, tc.to, n, tc.want)
		}
	}
}

// A relay that has a queue or does not report any more is told of first, also if it has no machine of the session.
func TestASessionTellsOfDeadRelaysAndQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i, name := range []string{"r1", "r2", "r3"} {
			b.admitRelay(name, fmt.Sprintf("10.1.0.%d", i+1), "rack")
			b.relays.put(api.RelayStatus{Name: catalog.RelayName(name), Load: api.RelayLoad{Queued: len(name)}}, time.Now(), b.cfg.State.Current())
		}
		time.Sleep(time.Minute)
		b.relays.put(api.RelayStatus{Name: "r1"}, time.Now(), b.cfg.State.Current())
		b.relays.put(api.RelayStatus{Name: "r2", Load: api.RelayLoad{Queued: 7}}, time.Now(), b.cfg.State.Current())
		var events []boot.Event
		for _, n := range []catalog.NodeName{"n1", "n2", "n3"} {
			events = append(events, boot.Event{Time: time.Now(), Node: n, Boot: "b-" + string(n), Stage: boot.StageScript, Relay: "r1"})
		}
		b.cfg.Journal.Record(events)
		var v api.BootSession
		if err := unmarshal(b.local(0, "GET", "/v1/boots/sessions/last", nil).Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if len(v.Relays) != 3 || v.Relays[0].Relay != "r3" || !v.Relays[0].Dead || v.Relays[1].Queue != 7 || v.Relays[2].Nodes != 3 || v.Queued != 3 {
			t.Errorf("relays %+v, %d queued", v.Relays, v.Queued)
		}
	})
}

// A watch of the last session begins before there is one, and tells at most two summaries a second, whatever happens.
func TestASessionIsWatchedInFewSummaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		answer := make(chan string, 1)
		go func() { answer <- b.local(0, "GET", "/v1/boots/sessions/last?watch=true", nil).Body.String() }()
		synctest.Wait()
		for i := range 1000 {
			b.cfg.Journal.Record([]boot.Event{{Time: time.Now(), Node: "n1", Boot: "b1", Stage: boot.Stages()[2+i%7], Relay: "r1"}})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		close(b.draining)
		lines := strings.Split(strings.TrimSpace(<-answer), "\n")
		var last api.BootSession
		if err := unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatal(err)
		}
		if n := len(lines); n < 10 || n > 23 || last.Nodes != 1 || last.Up != 1 {
			t.Errorf("%d summaries in eleven seconds, the last %+v", n, last)
		}
		b.inFlight.wait()
	})
}

func TestWhatRelaysTellIsCounted(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	for range 3 {
		b.ask(r1, "POST", api.PathEvents, api.EventBatch{})
	}
	b.ask(r1, "POST", "/v1/relays/r1/status", api.RelayStatus{})
	text := b.local(0, "GET", api.PathMetrics, nil).Body.String()
	for _, want := range []string{"wulf_controller_requests_total{path=\"/v1/events\"} 3\n", "\nwulf_controller_messages_total 4\n", "\nwulf_controller_messages_most "} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %q:\n%s", want, text)
		}
	}
}
