package cli

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

func TestTablesAreCutOnTerminalsOnly(t *testing.T) {
	rows := [][]string{{"NAME", "ERROR"}, {"n1", strings.Repeat("long ", 20)}}
	for _, tc := range []struct {
		width   int
		longest int
	}{{0, 6 + 99}, {40, 40}} {
		var b strings.Builder
		if err := (&table{rows: rows, width: tc.width}).write(&b); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(b.String(), "\n"), "\n") {
			if n := len([]rune(line)); n > tc.longest || line != strings.TrimRight(line, " ") {
				t.Errorf("width %d: line of %d characters: %q", tc.width, n, line)
			}
		}
		if got := strings.Contains(b.String(), "…"); got != (tc.width > 0) {
			t.Errorf("width %d: cut %v", tc.width, got)
		}
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	for _, tc := range []struct {
		tty  bool
		env  map[string]string
		want bool
	}{
		{true, nil, true}, {false, nil, false}, {true, map[string]string{"NO_COLOR": "1"}, false}, {true, map[string]string{"TERM": "dumb"}, false},
	} {
		p := testProgram()
		p.tty.out, p.env.Getenv = tc.tty, func(k string) string { return tc.env[k] }
		if got := p.colour(); got != tc.want {
			t.Errorf("terminal %v, %v: %v", tc.tty, tc.env, got)
		}
	}
	if got := (&table{colour: true}).paint("up", false); got != green+"up"+reset {
		t.Errorf("up is painted %q", got)
	}
}

// A hardware address is a number to readers of YAML 1.1, if nobody quotes it.
func TestYAMLKeepsWhatIsText(t *testing.T) {
	in := map[string]any{"mac": "52:54:00:00:00:01", "time": "2026-11-23T10:00:00Z", "version": "1e3", "yes": "no", "empty": "", "n": 5.0, "word": "debian", "list": []any{"a: b", "- c"}}
	var b strings.Builder
	if err := writeYAML(&b, in); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `mac: "52:54:00:00:00:01"`) || !strings.Contains(b.String(), "word: debian") {
		t.Errorf("got\n%s", b.String())
	}
	var out map[string]any
	if err := yaml.Unmarshal([]byte(b.String()), &out); err != nil {
		t.Fatal(err)
	}
	for k, v := range in {
		if s, is := v.(string); is && out[k] != s {
			t.Errorf("%s: %#v comes back as %#v", k, v, out[k])
		}
	}
}

func TestStateOfANodeInAWord(t *testing.T) {
	now := time.Now()
	for want, b := range map[string]*api.Boot{
		"never":  nil,
		"image":  {Stage: boot.StageImage},
		"failed": {Stage: boot.StageFailed},
		"up":     {Stage: boot.StageUp, Seen: now},
		"silent": {Stage: boot.StageUp, Seen: now.Add(-time.Hour)},
	} {
		if got := api.StateOf(b, now); got != want || !api.IsState(want) {
			t.Errorf("got %s, want %s; a state: %v", got, want, api.IsState(want))
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 10 << 20: "10 MiB", 3 << 40: "3.0 TiB", 5 << 50: "5120 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "0ms", 5 * time.Millisecond: "5ms", 90 * time.Second: "1m", 47 * time.Hour: "47h", 72 * time.Hour: "3d"} {
		if got := brief(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
	for s, want := range map[string]int64{"": 0, "17": 17, "200GiB": 200 << 30, "1 T": 1 << 40, "5K": 5 << 10, "200MB": 200e6} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"x", "-1", "1GG", "99999999TiB", "1.5G"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
}
