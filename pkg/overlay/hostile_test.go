package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// What a template can make of a few bytes. Each of these would take all memory, all stack or all time.
var hostile = map[string]string{
	"nested loops":              `{{range 100000000}}{{range 100000000}}{{end}}{{end}}`,
	"loop in a branch":          `{{if true}}{{range 1000000000}}{{with 1}}{{end}}{{end}}{{end}}`,
	"recursion":                 `{{define "a"}}{{template "a"}}{{template "a"}}{{end}}{{template "a"}}`,
	"deep recursion":            `{{define "a"}}{{template "a" (list .)}}{{end}}{{template "a" .}}`,
	"mutual recursion":          `{{define "a"}}{{template "b"}}{{end}}{{define "b"}}{{template "a"}}{{end}}{{template "a"}}`,
	"endless output":            `{{range 100000}}{{repeat 1000 "x"}}{{end}}`,
	"one huge call":             `{{repeat 100000000000 "x"}}`,
	"one huge indent":           `{{indent 1000000000 "x\n"}}`,
	"one huge nindent":          `{{nindent 1000000000 "x\n"}}`,
	"one huge list":             `{{range until 1000000000}}{{end}}`,
	"one huge steplist":         `{{range untilStep 0 1000000000 1}}{{end}}`,
	"one huge sequence":         `{{seq 1 1000000000}}`,
	"a text that doubles":       `{{$x := "0123456789"}}{{range 60}}{{$x = print $x $x}}{{end}}`,
	"a printf that doubles":     `{{$x := "0123456789"}}{{range 60}}{{$x = printf "%[1]s%[1]s%[1]s%[1]s" $x}}{{end}}`,
	"a printf that multiplies":  `{{$x := repeat 1000000 "x"}}{{$f := repeat 100000 "%[1]s"}}{{printf $f $x}}`,
	"a cat that doubles":        `{{$x := "0123456789"}}{{range 60}}{{$x = cat $x $x}}{{end}}`,
	"a join that multiplies":    `{{$x := repeat 1000000 "x"}}{{join $x (until 100000)}}`,
	"a replace that multiplies": `{{$x := repeat 1000000 "x"}}{{replace "x" $x $x}}`,
	"a regex that multiplies":   `{{$x := repeat 1000000 "x"}}{{regexReplaceAll "x" $x $x}}`,
	"a regex with groups":       `{{$x := repeat 100000 "x"}}{{regexReplaceAll "(x+)" $x (repeat 10000 "${1}")}}`,
	"a literal regex":           `{{$x := repeat 1000000 "x"}}{{regexReplaceAllLiteral "x" $x $x}}`,
	"a wrap that multiplies":    `{{$x := repeat 1000000 "x "}}{{wrapWith 1 (repeat 1000 "y") $x}}`,
	"many parts":                `{{$x := repeat 10000000 "x"}}{{splitList "" $x}}`,
	"many numbered parts":       `{{$x := repeat 10000000 "x"}}{{split "" $x}}`,
	"quotes of quotes":          `{{$x := "\""}}{{range 60}}{{$x = quote $x}}{{end}}`,
	"JSON of JSON":              `{{$x := "\""}}{{range 60}}{{$x = toJson $x}}{{end}}`,
	"lists of lists":            `{{$x := list "x"}}{{range 60}}{{$x = list $x $x}}{{end}}{{$x}}`,
	"lists that double":         `{{$x := list 1}}{{range 60}}{{$x = concat $x $x}}{{end}}`,
	"maps of maps":              `{{$x := dict "a" 1}}{{range 60}}{{$x = dict "a" $x "b" $x}}{{end}}{{toJson $x}}`,
	"a map of itself":           `{{$x := dict "a" 1}}{{$x = set $x "a" $x}}{{$x}}`,
	"copies of copies":          `{{$x := dict "a" 1}}{{range 60}}{{$x = dict "a" (deepCopy $x) "b" $x}}{{end}}`,
	"a width":                   `{{range 1000}}{{printf "%999999d" 1}}{{end}}`,
	"below the root":            `{{file "../../../x"}}`,
	"below the root, linked":    `{{file "/../../x/../../.."}}`,
	"a file of no name":         `{{file "/"}}`,
	"a file with a zero":        `{{file "a\x00b"}}`,
	"many files":                `{{range $i := until 100000}}{{file (print $i)}}{{end}}`,
	"a division by zero":        `{{div 1 0}}`,
	"a huge base":               `{{range 10000000}}{{sha256sum "x"}}{{end}}`,
}

func TestTemplatesThatTakeTooMuchAreStopped(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			v := data(t, "n1", keys)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := renderAll([]*overlay.Bundle{template(t, text)}, v)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "etc/x") || !strings.Contains(err.Error(), "n1") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if after.Sys > before.Sys+600<<20 {
				t.Errorf("it took %d MiB from the system", (after.Sys-before.Sys)>>20)
			}
		})
	}
}

func TestABoundIsToldWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\n{{range 100000000}}{{end}}":                                       "x.ww:2:8: it takes more than",
		"\n\n{{define `a`}}\n{{template `a`}}{{end}}{{template `a`}}":         "its templates call",
		"a\nb\n{{$x := `0123456789`}}{{range 60}}{{$x = print $x $x}}{{end}}": "x.ww:3:",
	} {
		_, err := renderAll([]*overlay.Bundle{template(t, text)}, data(t, "n1", keys))
		if want = strings.Replace(want, "its templates call", "its templates call", 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A template that was stopped leaves nothing behind for the next execution of it.
func TestAnExecutionBeginsAnew(t *testing.T) {
	b := template(t, `{{define "a"}}{{template "a"}}{{end}}{{if eq .Id "n1"}}{{file "a"}}{{template "a"}}{{else}}good{{end}}`)
	for range 3 {
		if _, err := renderAll([]*overlay.Bundle{b}, data(t, "n1", keys)); err == nil || !strings.Contains(err.Error(), "deep") {
			t.Fatalf("got %v", err)
		}
		r, err := renderAll([]*overlay.Bundle{b}, data(t, "n2.far.example", keys))
		if err != nil || len(r.Files) != 1 || string(r.Files[0].Content) != "good" || r.Files[0].Path != "etc/x" {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
}

func TestTemplatesTooLargeToParseAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"text":        strings.Repeat("x", overlay.MaxTemplate+1),
		"branches":    strings.Repeat("{{if 1}}", 30_000) + strings.Repeat("{{end}}", 30_000),
		"parentheses": "{{" + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000) + "}}",
	} {
		_, err := overlay.NewBundle([]overlay.File{{Path: "x", Type: overlay.TypeFile, Template: true, Content: []byte(text)}})
		if !errors.Is(err, fault.Invalid) || len(fmt.Sprint(err)) > 500 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestRenderingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	_, err := overlay.Render(ctx, nil, data(t, "n1", keys), overlay.Layer{Name: "x", Bundle: template(t, `{{range 1000000}}{{end}}`)})
	if err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("got %v", err)
	}
}

// Executions of one template do not meet, whoever makes them: the race detector looks.
func TestABundleIsRenderedByManyAtOnce(t *testing.T) {
	b := template(t, `{{range list 1 2 3}}{{print .}}{{end}}{{.Id | trim | lower | upper}}`)
	var g errgroup.Group
	for range 8 {
		v := data(t, "n1", keys)
		g.Go(func() error {
			r, err := overlay.Render(context.Background(), nil, v, overlay.Layer{Name: "x", Bundle: b})
			if err == nil && string(r.Files[0].Content) != "123N1" {
				err = fmt.Errorf("got %q", r.Files[0].Content)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
