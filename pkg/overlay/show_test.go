package overlay

import (
	"context"
	"errors"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func showTemplate(t *testing.T, text string) (*Shown, error) {
	t.Helper()
	b, err := NewBundle([]File{{Path: "etc/x", Type: TypeFile, Template: true, Content: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return Show(context.Background(), View{World: &World{}, Node: &Node{Name: "n1"}}, Layer{Name: "site", Bundle: b}, 0)
}

func TestShownTemplatesTellTheirFiles(t *testing.T) {
	for _, c := range []struct{ name, template, want, quiet string }{
		{"its own file", "a {{.Id}}", "backupFile: true\nwriteFile: true\nFilename: etc/x\na n1\n", "a n1\n"},
		{"named files", "{{nobackup}}dropped{{file \"y\"}}1{{file \"/z\"}}{{softlink \"t\"}}",
			"backupFile: false\nwriteFile: true\nFilename: y\n1\nbackupFile: false\nwriteFile: true\nFilename: /z\nSymlink: t\n", "1\n"},
		{"nothing", "", "backupFile: true\nwriteFile: true\nFilename: etc/x\n\n", "\n"},
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
	if _, err := showTemplate(t, "{{index .Profiles 7}}"); !errors.Is(err, fault.Invalid) {
		t.Errorf("a template that fails: %v", err)
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
