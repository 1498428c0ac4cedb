package overlay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func showTemplate(t *testing.T, text string) (*Shown, error) {
	t.Helper()
	b, err := NewBundle([]File{{Path: "etc/x", Type: TypeFile, Template: true, Content: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return Show(context.Background(), View{World: &World{}, Node: &Node{Name: "n1"}}, Layer{Name: "site", Bundle: b, Changed: time.Date(2026, 3, 4, 23, 6, 7, 0, time.FixedZone("", -3600))}, 0)
}

func TestShownTemplatesTellTheirFiles(t *testing.T) {
	for _, c := range []struct{ name, template, want, quiet string }{
		{"its own file", "a {{.Id}}", "backupFile: true\nwriteFile: true\nFilename: etc/x\na n1\n", "a n1\n"},
		{"named files", "{{nobackup}}dropped{{file \"y\"}}1{{file \"/z\"}}{{softlink \"t\"}}",
			"backupFile: false\nwriteFile: true\nFilename: y\n1\nbackupFile: false\nwriteFile: true\nFilename: /z\nSymlink: t\n", "1\n"},
		{"nothing", "", "backupFile: true\nwriteFile: true\nFilename: etc/x\n\n", "\n"},
		{"times", `{{now | date "2006-01-02 15:04 MST"}} {{date "2006" 0}} {{now | date_modify "-24h" | htmlDate}} {{.BuildTimeUnix | int64 | date "15:04"}} {{now | unixEpoch}}`,
			"backupFile: true\nwriteFile: true\nFilename: etc/x\n2026-03-05 00:06 UTC 1970 2026-03-04 00:06 1772669167\n", "2026-03-05 00:06 UTC 1970 2026-03-04 00:06 1772669167\n"},
		{"what is aborted", "before{{abort}}{{index .Profiles 7}}", "backupFile: true\nwriteFile: false\nbefore\nAborted\n", "before\n"},
	} {
		s, err := showTemplate(t, c.template)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := s.Text("etc/x.ww", false); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
		if got := s.Text("etc/x.ww", true); got != c.quiet {
			t.Errorf("%s: quietly %q, want %q", c.name, got, c.quiet)
		}
	}
	for _, text := range []string{"{{index .Profiles 7}}", `{{date "2006" "never"}}`, `{{date_modify "soon" now}}`} {
		if _, err := showTemplate(t, text); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBoolsAreWarewulfsWords(t *testing.T) {
	for word, want := range map[Bool][2]bool{
		"": {false, true}, "true": {true, true}, "false": {false, false}, "YES": {true, true}, "no": {false, false}, "0": {false, false}, "1": {true, true},
		"UNDEF": {false, false}, "on": {false, true},
	} {
		if got := [2]bool{word.Bool(), word.BoolDefaultTrue()}; got != want {
			t.Errorf("%q is %v, want %v", word, got, want)
		}
	}
}
