package cli

import (
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// stormy is a session in the middle of a storm.
func stormy() api.BootSession {
	started := time.Date(2026, 11, 23, 14, 2, 10, 0, time.UTC)
	v := api.BootSession{
		Number: 94056, State: api.SessionRunning, Started: started, Last: started.Add(3*time.Minute + 41*time.Second), Took: 3*time.Minute + 41*time.Second,
		Nodes: 38_400, Up: 31_210, Failed: 197, Silent: 71, Booting: 6922, Queued: 2020, Again: 12,
		ToUp: api.Spread{Count: 31_210, P50: 92 * time.Second, P95: 171 * time.Second, P99: 200 * time.Second, Max: 214 * time.Second}, ETA: 70 * time.Second,
		Errors: []api.SessionError{
			{State: api.ResultFailed, Stage: boot.StageStageOne, Text: "connection reset by #", Count: 192, Nodes: "r[117-120]n[01-48]"},
			{State: api.ResultFailed, Stage: boot.StageStageOne, Text: "no space left on device", Count: 5, Nodes: "r200n[01-05]"},
			{State: api.ResultSilent, Stage: boot.StageDHCP, Count: 71, Nodes: "r003n[07,19],…"},
		},
		Relays: []api.SessionRelay{{Relay: "r117", Nodes: 48, Failed: 48, Dead: true}, {Relay: "r044", Nodes: 48, Up: 20, Queue: 61}, {Relay: "r001", Nodes: 48, Up: 48}},
		By:     "c1", Since: started.Add(-time.Hour),
	}
	for _, stage := range boot.Stages() {
		p := api.SessionPhase{Stage: stage}
		p.At = map[boot.Stage]int{boot.StageDHCP: 12, boot.StageScript: 40, boot.StageKernel: 88, boot.StageStageOne: 6114, boot.StageImage: 301, boot.StageOverlay: 20, boot.StageInit: 347}[stage]
		v.Phases = append(v.Phases, p)
	}
	return v
}

func TestAStormIsAFewLinesOnATerminal(t *testing.T) {
	got := strings.Join(sessionBlock(stormy(), 120), "\n") + "\n"
	const file = "testdata/storm.block"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	all := stormy()
	for range 60 {
		all.Errors = append(all.Errors, all.Errors...)[:min(2*len(all.Errors), 200)]
	}
	all.Since = all.Last
	if n := len(sessionBlock(all, 120)); n > 14 {
		t.Errorf("%d lines", n)
	}
}

// What is drawn again takes the place of what stands there, and no line is longer than the terminal.
func TestABlockIsWrittenOverTheOneBefore(t *testing.T) {
	var out strings.Builder
	w := &sessionWatcher{p: &program{out: &out}}
	if err := w.draw(stormy()); err != nil {
		t.Fatal(err)
	}
	first := out.String()
	lines := strings.Count(first, "\n")
	out.Reset()
	if err := w.draw(stormy()); err != nil {
		t.Fatal(err)
	}
	if up := "\x1b[" + string(rune('0'+lines%10)) + "A\r"; lines < 10 && !strings.HasPrefix(out.String(), up) || strings.Count(out.String(), "\n") != lines || !strings.HasSuffix(out.String(), "\x1b[J") {
		t.Errorf("after %d lines: %q", lines, out.String())
	}
	for line := range strings.Lines(first) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\x1b[K\n")); n > 80 {
			t.Errorf("%d characters: %q", n, line)
		}
	}
}

// In a pipe there is a line when the state is another one, and one in ten seconds where the counts are.
func TestAPipeGetsALineForWhatIsNew(t *testing.T) {
	var out strings.Builder
	w := &sessionWatcher{p: &program{out: &out}, format: formatTable}
	v, now := stormy(), time.Date(2026, 11, 23, 14, 6, 0, 0, time.UTC)
	for i := range 60 { // half a minute
		v.Up, v.Booting = v.Up+10, v.Booting-10
		if i == 50 {
			v.State = api.SessionOver
		}
		if err := w.tell(v, now.Add(time.Duration(i)*time.Second/2)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 4 || !strings.Contains(out.String(), "#94056 over, 38,400 nodes: 31,720 up, 197 failed, 71 silent, 6,412 booting, 2,020 of them queued") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

func TestAComparisonNamesWhatBecameWorse(t *testing.T) {
	a, b := stormy(), stormy()
	b.Errors = append(b.Errors[1:], api.SessionError{State: api.ResultFailed, Text: "new", Count: 3, Nodes: "n[7-9]"})
	b.Errors[1].Count++
	b.Relays = []api.SessionRelay{{Relay: "r001", P95: 3 * time.Minute}}
	a.Relays = []api.SessionRelay{{Relay: "r001", P95: time.Minute}}
	node := func(name, state string, took time.Duration) api.SessionNode {
		return api.SessionNode{Node: catalog.NodeName("n" + name), State: state, Took: took}
	}
	v := compare([2]api.BootSession{a, b}, [2][]api.SessionNode{
		{node("1", "up", time.Minute), node("2", "up", time.Minute), node("3", "failed", 0), node("4", "up", time.Minute)},
		{node("1", "up", 3*time.Minute), node("2", "silent", 0), node("3", "up", time.Minute), node("4", "up", time.Minute+time.Second), node("5", "up", time.Hour)},
	}, 30*time.Second)
	if len(v.Errors) != 2 || v.Errors[0].Before != 71 || v.Errors[0].After != 72 || v.Errors[1].Before != 0 || len(v.Gone) != 1 || v.Gone[0].Before != 192 {
		t.Errorf("errors %+v, gone %+v", v.Errors, v.Gone)
	}
	if v.Slower.Nodes != "n1" || v.Worse != "n2" || v.Better != "n3" || len(v.Relays) != 1 {
		t.Errorf("%+v", v)
	}
}
