package warewulf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/warewulf"
)

func TestIncludesFindsWhatATemplateReadsOfTheServer(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		`{{ Include "authorized_keys" }}`: "1 Include authorized_keys",
		"\n\n{{IncludeBlock `/etc/hosts` \"# end\"}}":                                    "3 IncludeBlock /etc/hosts",
		`{{ "/etc/hosts" | Include }}`:                                                   "1 Include /etc/hosts",
		`{{ "# end" | IncludeBlock "/etc/hosts" }}`:                                      "1 IncludeBlock /etc/hosts",
		`{{ ImportLink "/etc/localtime" }}{{ readlink "/etc/x" | basename }}`:            "1 ImportLink /etc/localtime, 1 readlink /etc/x",
		`{{ softlink (readlink "/etc/localtime") }}`:                                     "1 readlink /etc/localtime",
		"{{ if .A }}{{ Include `a` }}{{ else if .B }}{{ Include `b` }}{{ end }}":         "1 Include a, 1 Include b",
		"{{ range $k, $v := .T }}\n{{ with Include `c` }}{{ . }}{{ end }}\n{{ end }}":    "2 Include c",
		"{{ define `x` }}{{ Include `d` }}{{ end }}\n{{ template `x` (Include `e`) }}":   "1 Include d, 2 Include e",
		"{{ (Include `f`).x }}{{ len (Include `g`) }}":                                   "1 Include f, 1 Include g",
		"{{ Include .Tags.file }}\n{{ Include (printf `/etc/%s` .Id) }}":                 "1 Include ?, 2 Include ?",
		"{{ .Tags.file | Include }}{{ $f := `x` }}{{ Include $f }}":                      "1 Include ?, 1 Include ?",
		"{{ IncludeFrom `img` `/etc/passwd` }}{{ .Include }}{{/* {{ Include `h` }} */}}": "",
		"{{ nobodyKnows 1 }}{{ Include }}":                                               "1 Include ?",
	} {
		found, err := warewulf.Includes([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for _, i := range found {
			name := i.Name
			if name == "" {
				name = "?"
			}
			got = append(got, fmt.Sprint(i.Line, " ", i.Function, " ", name))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q: found %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"{{", "{{ if }}", "{{ end }}", "{{ Include `x }}"} {
		if _, err := warewulf.Includes([]byte(text)); !errors.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "line 1: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzIncludes(f *testing.F) {
	for _, s := range []string{"{{ Include `a` }}", "{{ `a` | Include }}", "{{ define `x` }}{{ Include `d` }}{{ end }}", "{{ range . }}{{ (Include `f`).x.y }}{{ end }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		found, err := warewulf.Includes([]byte(s))
		if err != nil && (!errors.Is(err, fault.Invalid) || strings.Contains(err.Error(), "\n")) {
			t.Fatal(err)
		}
		for _, i := range found {
			if i.Line < 1 || i.Line > 1+strings.Count(s, "\n") {
				t.Fatalf("line %d of %q", i.Line, s)
			}
		}
	})
}
