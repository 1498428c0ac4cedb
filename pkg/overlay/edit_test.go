package overlay_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

func plain(path, content string) overlay.File {
	return overlay.File{Path: path, Type: overlay.TypeFile, Mode: 0o644, Content: []byte(content)}
}

func bundleOf(t *testing.T, files ...overlay.File) *overlay.Bundle {
	t.Helper()
	b, err := overlay.NewBundle(files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// told is a bundle in one line.
func told(b *overlay.Bundle) string {
	var words []string
	for _, f := range b.Files {
		word := fmt.Sprintf("%s=%s", f.Path, f.Content)
		switch {
		case f.Type != overlay.TypeFile:
			word = fmt.Sprintf("%s(%s)", f.Path, f.Type)
		case f.Mode != 0o644 || f.UID != 0:
			word += fmt.Sprintf(":%o:%d", f.Mode, f.UID)
		}
		words = append(words, word)
	}
	for _, h := range b.Hooks {
		words = append(words, "hook "+h.Path+" "+h.Reload+h.Restart)
	}
	return strings.Join(words, ", ")
}

func TestAnEditKeepsOnlyWhatIsNotShippedSo(t *testing.T) {
	template := plain("etc/hosts", "{{.Id}}")
	template.Template = true
	shipped := bundleOf(t, template, plain("etc/motd", "hi"), plain("etc/a/x", "1"), plain("etc/a/y", "2"))
	shipped.Hooks = []overlay.Hook{{Path: "etc/hosts", Reload: "nscd.service"}}
	empty := bundleOf(t)
	for name, tc := range map[string]struct {
		own  *overlay.Bundle
		edit overlay.Edit
		want string // of the site's part
		laid string // what nodes get then
	}{
		"one file is put":            {empty, overlay.Edit{Put: []overlay.File{plain("etc/motd", "yo")}}, "etc/motd=yo", "etc/a/x=1, etc/a/y=2, etc/hosts={{.Id}}, etc/motd=yo, hook etc/hosts nscd.service"},
		"it is put as it is shipped": {bundleOf(t, plain("etc/motd", "yo")), overlay.Edit{Put: []overlay.File{plain("etc/motd", "hi")}}, "", ""},
		"a mode":                     {empty, overlay.Edit{Set: []overlay.Attributes{{Path: "/etc/motd", Mode: new(uint32(0o600))}}}, "etc/motd=hi:600:0", ""},
		"an owner of a template":     {empty, overlay.Edit{Set: []overlay.Attributes{{Path: "etc/hosts.ww", UID: new(7)}}}, "etc/hosts={{.Id}}:644:7", ""},
		"one is removed": {bundleOf(t, plain("etc/motd", "yo"), plain("etc/new", "n")), overlay.Edit{Remove: []string{"etc/motd", "etc/new", "etc/hosts.ww"}},
			"etc/hosts(gone), etc/motd(gone)", "etc/a/x=1, etc/a/y=2, hook etc/hosts nscd.service"},
		"all below":               {empty, overlay.Edit{Remove: []string{"etc/a"}, Below: true}, "etc/a/x(gone), etc/a/y(gone)", ""},
		"what was removed, again": {bundleOf(t, overlay.File{Path: "etc/hosts", Type: overlay.TypeGone}), overlay.Edit{Reset: []string{"etc/hosts.ww"}}, "", told(shipped)},
		"all below is reset":      {bundleOf(t, plain("etc/a/x", "9"), plain("etc/b", "b")), overlay.Edit{Reset: []string{"etc/a"}, Below: true}, "etc/b=b", ""},
		"a hook instead of the shipped": {empty, overlay.Edit{Hook: []overlay.Hook{{Path: "etc/hosts", Restart: "x.service"}}}, "hook etc/hosts x.service",
			"etc/a/x=1, etc/a/y=2, etc/hosts={{.Id}}, etc/motd=hi, hook etc/hosts x.service"},
		"no hook instead of the shipped": {empty, overlay.Edit{Unhook: []string{"etc/hosts"}}, "hook etc/hosts ", "etc/a/x=1, etc/a/y=2, etc/hosts={{.Id}}, etc/motd=hi"},
	} {
		own, err := tc.edit.Apply(shipped, tc.own, shipped)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		laid, err := overlay.Lay(shipped, own)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(own); got != tc.want {
			t.Errorf("%s: the site has %q, want %q", name, got, tc.want)
		}
		if got := told(laid); tc.laid != "" && got != tc.laid {
			t.Errorf("%s: nodes get %q, want %q", name, got, tc.laid)
		}
	}
}

func TestAnEditOfWhatHidesTheShippedStaysWhole(t *testing.T) {
	shipped, own := bundleOf(t, plain("etc/motd", "hi")), bundleOf(t, plain("etc/new", "n"))
	for want, edit := range map[string]overlay.Edit{
		"etc/motd=hi, etc/new=n":  {Reset: []string{"etc/motd"}},
		"":                        {Remove: []string{"etc/new"}},
		"etc/new=n, etc/other=hi": {Put: []overlay.File{plain("etc/other", "hi")}},
	} {
		if got, err := edit.Apply(nil, own, shipped); err != nil || told(got) != want {
			t.Errorf("got %q, want %q; %v", told(got), want, err)
		}
	}
}

func TestAnEditThatCannotBeSaysWhy(t *testing.T) {
	shipped := bundleOf(t, plain("etc/motd", "hi"), plain("etc/a/x", "1"), overlay.File{Path: "etc/l", Type: overlay.TypeLink, Target: "motd"})
	for text, tc := range map[string]struct {
		edit overlay.Edit
		kind fault.Kind
	}{
		`no "etc/mode"`:                 {overlay.Edit{Set: []overlay.Attributes{{Path: "etc/mode", UID: new(1)}}}, fault.NotFound},
		`no "etc/none"`:                 {overlay.Edit{Remove: []string{"/etc/none"}}, fault.NotFound},
		`no "etc/motd"`:                 {overlay.Edit{Reset: []string{"etc/motd"}}, fault.NotFound},
		"etc/a is a directory with 1 b": {overlay.Edit{Remove: []string{"etc/a/"}}, fault.Conflict},
		"there is a etc/motd already":   {overlay.Edit{Put: []overlay.File{plain("etc/motd", "x")}, Was: map[string]chunk.ID{"etc/motd": {}}}, fault.Conflict},
		"etc/motd was changed":          {overlay.Edit{Was: map[string]chunk.ID{"etc/motd": chunk.Of([]byte("ho"))}}, fault.Conflict},
		"etc/gone was removed":          {overlay.Edit{Was: map[string]chunk.ID{"etc/gone": chunk.Of([]byte("ho"))}}, fault.Conflict},
		"etc/motd is a file":            {overlay.Edit{Put: []overlay.File{{Path: "etc/motd", Type: overlay.TypeDir}}}, fault.Conflict},
		"has no mode of its own":        {overlay.Edit{Set: []overlay.Attributes{{Path: "etc/l", Mode: new(uint32(1))}}}, fault.Invalid},
		`no hook for "etc/motd"`:        {overlay.Edit{Unhook: []string{"/etc/motd"}}, fault.NotFound},
		"not a path inside":             {overlay.Edit{Put: []overlay.File{plain("../x", "")}}, fault.Invalid},
		"must name one unit":            {overlay.Edit{Hook: []overlay.Hook{{Path: "etc/motd", Reload: "a.service", Restart: "a.service"}}}, fault.Invalid},
		"cannot be put and be gone":     {overlay.Edit{Put: []overlay.File{{Path: "etc/motd", Type: overlay.TypeGone}}}, fault.Invalid},
		"unexpected {{end}}":            {overlay.Edit{Put: []overlay.File{{Path: "etc/motd", Type: overlay.TypeFile, Template: true, Content: []byte("{{end}}")}}}, fault.Invalid},
		"about at most 20000 files":     {overlay.Edit{Remove: make([]string, overlay.MaxEdit+1)}, fault.Invalid},
		"the mode 200000000":            {overlay.Edit{Set: []overlay.Attributes{{Path: "etc/motd", Mode: new(uint32(0o200000000))}}}, fault.Invalid},
		`"etc" that could be changed`:   {overlay.Edit{Reset: []string{"etc"}, Below: true}, fault.NotFound},
		`no "etc/a" that could be cha`:  {overlay.Edit{Set: []overlay.Attributes{{Path: "etc/a", UID: new(1)}}}, fault.NotFound},
	} {
		if _, err := tc.edit.Apply(shipped, nil, shipped); !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), text) {
			t.Errorf("want %q, %s, and got: %v", text, tc.kind, err)
		}
	}
}

// Whatever an edit asks for: what comes of it is an overlay that lies over what is shipped, or a refusal.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"put":[{"path":"etc/motd","type":"file","mode":420,"content":"aGk="}],"was":{"etc/motd":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}}`))
	f.Add([]byte(`{"remove":["/etc/a","etc/hosts.ww"],"below":true,"reset":["etc/motd"],"set":[{"path":"etc/a/x","mode":2541,"uid":-1}]}`))
	f.Add([]byte(`{"hook":[{"path":"etc/*","restart":"x.service"}],"unhook":["etc/hosts","/"],"put":[{"path":"etc/l","type":"link","target":"x"},{"path":"etc/g","type":"gone"}]}`))
	template := plain("etc/hosts", "{{.Id}}")
	template.Template = true
	shipped, err := overlay.NewBundle([]overlay.File{template, plain("etc/motd", "hi"), plain("etc/a/x", "1")}, overlay.Hook{Path: "etc/hosts", Reload: "x.service"})
	if err != nil {
		f.Fatal(err)
	}
	own, err := overlay.NewBundle([]overlay.File{{Path: "etc/a/x", Type: overlay.TypeGone}, plain("etc/b", "b")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e overlay.Edit
		if json.Unmarshal(raw, &e) != nil {
			return
		}
		for _, base := range []*overlay.Bundle{shipped, nil} {
			got, err := e.Apply(base, own, shipped)
			if err != nil {
				continue
			}
			again, err := got.Encode()
			if err != nil {
				continue // it is too large
			}
			if _, err := overlay.Decode(again); err != nil {
				t.Errorf("%s makes what cannot be read: %v", raw, err)
			}
			if _, err := overlay.Lay(base, got); err != nil {
				t.Errorf("%s makes what does not lie over the shipped: %v", raw, err)
			}
		}
	})
}

func FuzzDescribe(f *testing.F) {
	f.Add("{{/* wwdoc: x */}}{{range $k, $v := .NetDevs}}{{$v.Hwaddr}}{{with $v.Tags}}{{.x}}{{end}}{{else}}{{.Id | upper}}{{end}}")
	f.Add("{{define `a`}}{{.x}}{{end}}{{template `a` .Tags}}{{$x := .Kernel}}{{$x.Version}}{{(index .NetDevs `a`).Ipaddr}}")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := overlay.Describe(&overlay.File{Path: "etc/x", Type: overlay.TypeFile, Template: true, Content: []byte(text)})
		if err != nil {
			return
		}
		for _, v := range d.Variables {
			if !strings.HasPrefix(v.Name, ".") {
				t.Errorf("%q reads %q", text, v.Name)
			}
		}
	})
}

func TestATemplateTellsWhatItReads(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Id}} {{.Tags.motd | upper}}":                                              ".Id .Tags.motd",
		"{{range $n, $d := .NetDevs}}{{$n}}{{$d.Hwaddr}}{{.Device}}{{$.Id}}{{end}}":   ".Id .NetDevs .NetDevs.*.Device .NetDevs.*.Hwaddr",
		"{{with .Kernel}}{{.Version}}{{else}}{{.Id}}{{end}}":                          ".Id .Kernel .Kernel.Version",
		"{{$x := .Kernel}}{{if $x.Args}}{{$y := $x}}{{end}}{{range .Groups}}x{{end}}": ".Groups .Kernel .Kernel.Args",
		"{{range $i, $x := split `,` .Tags.list}}{{$x.no}}{{end}}":                    ".Tags.list",
		"{{range .AllNodes}}{{range .NetDevs}}{{.Ipaddr}}{{end}}{{end}}":              ".AllNodes .AllNodes.*.NetDevs .AllNodes.*.NetDevs.*.Ipaddr",
		"plain": "",
	} {
		d, err := overlay.Describe(&overlay.File{Path: "etc/x", Type: overlay.TypeFile, Template: true, Content: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range d.Variables {
			names = append(names, v.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: reads %q, want %q", text, got, want)
		}
	}
}
