package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// What is wrong in the file of contexts is said on one line, with its place.
func TestAWrongFileOfContextsIsRefusedWithThePlace(t *testing.T) {
	for text, want := range map[string]string{
		"contexts: [a]\n":                        `f:1:11: contexts is a list, and must be a mapping`,
		"- a\n":                                  `f:1:1: the file is a list, and must be a mapping`,
		"curent: x\n":                            `f:1:1: unknown key "curent" (did you mean "current"?)`,
		"colour: x\n":                            `f:1:1: unknown key "colour" (there are current, contexts)`,
		"current: 1\n":                           `f:1:10: current is "1", and must be a text`,
		"current:\n":                             `f:1:9: current is nothing, and must be a text`,
		"current: a\ncurrent: b\n":               `f:2:1: "current" is there twice`,
		"contexts:\n  a b: {endpoints: [c:1]}\n": `f:2:3: "a b" is not a name for a context (use 1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or digit)`,
		"contexts:\n  a: {}\n":                   `f:2:3: context a has no endpoints`,
		"contexts:\n  a: {endpoints: []}\n":      `f:2:3: context a has no endpoints`,
		"contexts:\n  a: {endpoints: [c1]}\n":    `f:2:19: "c1" is not an endpoint (write HOST:4400 or unix:/run/wulf/controller.sock)`,
		"contexts:\n  a: {endpoints: [{}]}\n":    `f:2:19: an endpoint is a mapping, and must be a text`,
		"contexts:\n  a: {endpoints: c:1}\n":     `f:2:18: endpoints is a text, and must be a list`,
		"contexts:\n  a: {endpoints: ['c:1'], output: pdf}\n": `f:2:35: output is "pdf", which is no format (choose table, wide, json, yaml, csv, name, nodeset, ndjson, jsonpath=, go-template=)`,
		"contexts:\n  a:\n    confirm_above: many\n":          `f:3:20: confirm_above is a text, and must be a whole number`,
		"contexts:\n  a:\n    confirm_above: -1\n":            `f:3:20: confirm_above is "-1", and must be a whole number`,
		"contexts:\n  a: &x {endpoints: ['c:1']}\n  b: *x\n":  `f:3:6: context b is an alias, which this file may not have, and must be a mapping`,
		"? [a]\n: b\n":                  `f:1:3: a key of the file is no word`,
		"current: a\n---\ncurrent: b\n": `f:2:1: there is a second document`,
		"contexts:\n\ta: x\n":           `f:2:1: found character that cannot start any token`,
		"contexts: {a: [\n":             `f:2:1: did not find expected node content`,
		"current: \"\\q\"\n":            `f:1:11: found unknown escape character`,
		"\x00":                          `f: control characters are not allowed (value: 0)`,
	} {
		_, err := parseContexts("f", "", []byte(text))
		if err == nil || sentence(err) != want || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q:\n got %v\nwant %s", text, sentenceOf(err), want)
		}
	}
	for _, text := range []string{"", "# nothing yet\n", "---\n", "null\n", "contexts:\n", "contexts:\n  # none\n"} {
		if all, err := parseContexts("f", "", []byte(text)); err != nil || len(all.list) != 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func sentenceOf(err error) string {
	if err == nil {
		return "no error"
	}
	return sentence(err)
}

func TestTheCredentialsOfAContextAreBesideItsFile(t *testing.T) {
	all := &contexts{path: "/etc/x/config.yaml", home: "/home/a"}
	for file, want := range map[string]string{"a.pem": "/etc/x/a.pem", "/b.pem": "/b.pem", "~/c.pem": "/home/a/c.pem", "": ""} {
		if got := all.file(namedContext{Credentials: file}); got != want {
			t.Errorf("%q is %q, want %q", file, got, want)
		}
	}
}

// Whoever keeps the file elsewhere and links to it finds the link as it was.
func TestALinkToTheFileOfContextsStaysOne(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "kept")
	if err := os.WriteFile(file, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	p := testProgram()
	all, err := p.readContexts(link)
	if err != nil {
		t.Fatal(err)
	}
	all.doc.put(namedContext{Name: "a", Endpoints: []string{"c1:4400"}})
	if err := all.save(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is %v now (%v)", info.Mode(), err)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), "c1:4400") {
		t.Errorf("the file has %q (%v)", b, err)
	}
}

func TestAFileOfContextsThatMayNotBeReadIsSaid(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("SKIPPED: root may read everything")
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, nil, 0); err != nil {
		t.Fatal(err)
	}
	_, err := testProgram().readContexts(file)
	if want := file + " may not be read (name another file: WULF_CONFIG)"; err == nil || sentence(err) != want {
		t.Errorf("got %v, want %s", sentenceOf(err), want)
	}
}

func TestAFileOfContextsThatIsTooLongIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(strings.Repeat("#", maxConfig+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := testProgram().readContexts(file); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}

func FuzzContexts(f *testing.F) {
	f.Add("contexts:\n  a:\n    endpoints: [c1:4400] # x\n    credentials: a.pem\n    confirm_above: 7\n    output: wide\ncurrent: a\n")
	f.Add("contexts: {a: {endpoints: ['unix:/x']}}\n")
	f.Add("? [a]\n: &x {b: *x}\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseContexts("f", "", []byte(text))
		if err != nil {
			if s := sentence(err); fault.KindOf(err) != fault.Invalid || strings.Contains(s, "\n") || !strings.HasPrefix(s, "f:") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		// What is added is there afterwards, with all that was there before.
		all.doc.put(namedContext{Name: "added", Endpoints: []string{"c9:4400"}})
		raw, err := all.doc.bytes()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := parseContexts("f", "", raw)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", text, raw, err)
		}
		got, err := again.named("added")
		if err != nil || got.Endpoints[0] != "c9:4400" || again.current != all.current {
			t.Fatalf("%q becomes %q: %v", text, raw, err)
		}
		for _, old := range all.list {
			if same, err := again.named(old.Name); old.Name != "added" && (err != nil || !reflect.DeepEqual(same, old)) {
				t.Fatalf("%q becomes %q: %s is %v (%v)", text, raw, old.Name, same, err)
			}
		}
	})
}
