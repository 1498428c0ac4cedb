package journal_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// told is what the agent on node n1 says after so many seconds.
func told(after int, stage boot.Stage, revision catalog.Revision, err string) boot.Event {
	e := event(after, stage, "b1")
	e.Revision, e.Error = revision, err
	return e
}

func TestHowRuntimeOverlaysAreIsWhatTheNodeToldLast(t *testing.T) {
	j := open(t, "")
	j.Record(whole("b1", 0))
	now := func(after int) time.Time { return t0.Add(time.Duration(after) * time.Second) }
	want := func(text string, settled catalog.Revision, at int) {
		t.Helper()
		b := j.Last("n1")
		if got := api.RuntimeOf(b, settled, now(at)); got != text {
			t.Errorf("got %q, want %q: %+v", got, text, b.Runtime)
		}
		if b.Stage != boot.StageUp || b.Error != "" || b.Revision != 0 || !b.Last.Equal(now(8)) {
			t.Errorf("a refresh has changed the boot itself: %+v", b)
		}
	}
	want("", 5, 20)
	j.Record([]boot.Event{told(30, boot.StageAlive, 5, "")})
	want("in step", 5, 40)
	want("behind", 6, 40)
	j.Record([]boot.Event{told(50, boot.StageRefresh, 6, "")})
	want("in step", 6, 60)
	j.Record([]boot.Event{told(45, boot.StageAlive, 5, "")}) // late
	want("in step", 6, 60)
	j.Record([]boot.Event{told(70, boot.StageRefresh, 7, "a directory is in the way")})
	want("failed: a directory is in the way", 7, 80)
	j.Record([]boot.Event{told(90, boot.StageAlive, 8, "a directory is in the way")})
	want("failed: a directory is in the way", 7, 100)
	if r := j.Last("n1").Runtime; r.Revision != 8 || !r.Changed.Equal(now(70)) || !r.Seen.Equal(now(90)) {
		t.Errorf("it is %+v", r)
	}
	j.Record([]boot.Event{told(120, boot.StageAlive, 8, "")})
	want("in step", 7, 130)
	want("", 7, 1000) // silent
}

// A node that runs for months must not push the story of its boot out.
func TestOnlyTheLastRefreshesAreKept(t *testing.T) {
	j := open(t, "")
	j.Record(whole("b1", 0))
	for n := range 200 {
		e := told(20+n, boot.StageRefresh, catalog.Revision(n), "")
		e.Message = fmt.Sprint("refresh ", n)
		j.Record([]boot.Event{e})
	}
	events := j.Boot("n1")[0].Events
	if len(events) != len(boot.Stages())+8 || events[len(events)-1].Message != "refresh 199" || events[0].Stage != boot.StageDHCP {
		t.Errorf("%d events are kept: %+v", len(events), events)
	}
}

// A controller that begins to listen in the middle learns from the first word that the node is up.
func TestARefreshOfAnUnknownBootIsThatOfANodeThatIsUp(t *testing.T) {
	j := open(t, "")
	j.Record([]boot.Event{told(0, boot.StageRefresh, 3, "x")})
	if b := j.Last("n1"); b.Stage != boot.StageUp || b.Runtime == nil || b.Runtime.Error != "x" {
		t.Errorf("boot %+v", b)
	}
	j = open(t, "")
	j.Record([]boot.Event{told(0, boot.StageAlive, 3, "x")})
	if b := j.Last("n1"); b.Stage != boot.StageUp || b.Error != "" || b.Revision != 0 {
		t.Errorf("boot %+v", b)
	}
}

func TestWhyTellsOfRuntimeOverlays(t *testing.T) {
	j, c := open(t, ""), lab(t, relay()...)
	up := whole("b1", 0)
	for i := range up {
		up[i].Manifest = chunk.Of([]byte("m"))
	}
	j.Record(up)
	for _, step := range []struct {
		event boot.Event
		want  string
	}{
		{told(150, boot.StageAlive, c.Revision, ""), "nothing is wrong"},
		{told(151, boot.StageAlive, 1, ""), "its runtime overlays follow revision 1; what was declared since has not reached it"},
		{told(152, boot.StageRefresh, c.Revision, "a directory is in the way"), "its runtime overlays are not as declared: a directory is in the way"},
	} {
		j.Record([]boot.Event{step.event})
		w, err := j.Why(c, "n1", nil, t0.Add(160*time.Second))
		if err != nil || !strings.HasPrefix(w.Verdict, step.want) {
			t.Errorf("got %q, %v, want %q", w.Verdict, err, step.want)
		}
	}
}
