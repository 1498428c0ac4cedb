package overlay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

const (
	sealedMunge = catalog.Secret(catalog.SealedPrefix + "munge")
	sealedBMC   = catalog.Secret(catalog.SealedPrefix + "bmc")
)

// open are the secrets of a relay that holds the values of n1.
var open = overlay.Secrets{SSHHostKeys: keys.SSHHostKeys, Open: func(s catalog.Secret) (string, bool) {
	v, ok := map[catalog.Secret]string{sealedMunge: "open sesame", sealedBMC: "calvin"}[s]
	return v, ok
}}

// armed is the data of n1, which has a secret and a BMC with a password.
func armed(t *testing.T, secrets overlay.Secrets) overlay.View {
	c := change(t, lab(t), catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{
		Secrets: map[string]catalog.Secret{"munge": sealedMunge}, BMC: catalog.BMC{Username: new("root"), Password: new(sealedBMC)},
	}})
	return view(t, c, "n1", secrets)
}

func render(t *testing.T, text string, d overlay.View) ([]overlay.Rendered, error) {
	t.Helper()
	r, err := renderAll([]*overlay.Bundle{template(t, text)}, d)
	return r.Files, err
}

func TestTemplatesGetTheSecretsOfTheirNode(t *testing.T) {
	files, err := render(t, `{{.Secret "munge"}} {{.Ipmi.UserName}}:{{.Ipmi.Password}}{{with .Secret "munge" | b64enc}} {{.}}{{end}}`, armed(t, open))
	if want := "open sesame root:calvin b3BlbiBzZXNhbWU="; err != nil || len(files) != 1 || string(files[0].Content) != want || files[0].Mode != 0o644 {
		t.Errorf("got %+v, %v, want %q", files, err, want)
	}
	files, err = render(t, `{{.Ipmi.Password}}none`, data(t, "n1", overlay.Secrets{}))
	if err != nil || len(files) != 1 || string(files[0].Content) != "none" {
		t.Errorf("of a node whose BMC has no password: %+v, %v", files, err)
	}
}

// A file without its secret would take the place of a good one on the node.
func TestAFileWhoseSecretIsWithheldIsNotMade(t *testing.T) {
	for _, text := range []string{`{{.Secret "munge"}}`, `key {{.Ipmi.Password}}`, `{{file "a"}}x{{file "b"}}{{default "none" (.Secret "munge")}}`, `{{define "k"}}{{.Secret "munge"}}{{end}}{{template "k" .}}`} {
		for name, secrets := range map[string]overlay.Secrets{
			"nothing is held": {}, "others are held": {Open: func(catalog.Secret) (string, bool) { return "of another", false }},
		} {
			d := armed(t, secrets)
			other, err := overlay.NewBundle([]overlay.File{{Path: "etc/y", Type: overlay.TypeFile, Template: true, Content: []byte("{{.Id}}")}})
			if err != nil {
				t.Fatal(err)
			}
			made, err := renderAll([]*overlay.Bundle{template(t, "earlier"), template(t, text), other}, d)
			if err != nil || len(made.Files) != 2 || string(made.Files[0].Content) != "earlier" || string(made.Files[1].Content) != "n1" || !made.Withheld {
				t.Errorf("%s, %s: %+v, %v", name, text, made, err)
			}
		}
	}
}

func TestASecretThatTheNodeHasNotIsAnErrorThatNamesBoth(t *testing.T) {
	_, err := render(t, `{{.Secret "mung"}}`, armed(t, open))
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `node n1 has no secret "mung"`) || !strings.Contains(fault.Fix(err), "wulf node set n1 --secret") {
		t.Errorf("got %v; %s", err, fault.Fix(err))
	}
}

// What a template is told of its data, and what people are told of its failures, holds no secret.
func TestSecretsComeByNoOtherWay(t *testing.T) {
	hidden := func(what, text string) {
		t.Helper()
		for _, s := range []string{"open sesame", "calvin", "b3BlbiBzZXNhbWU=", "PRIVATE", catalog.SealedPrefix} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows %q: %s", what, s, text)
			}
		}
	}
	for _, text := range []string{`{{printf "%v %+v %#v" . . .}}`, `{{.}}`, `{{toJson .}}`, `{{toPrettyJson .Ipmi}}{{.Ipmi}}{{printf "%+v %#v %x" .Ipmi .Ipmi .Ipmi}}`, `{{range .AllNodes}}{{.}}{{printf "%#v" .}}{{toJson .}}{{end}}`} {
		files, err := render(t, text, armed(t, open))
		if err != nil {
			t.Fatal(err)
		}
		hidden(text, string(files[0].Content))
	}
	for _, text := range []string{
		`{{fail (.Secret "munge")}}`, `{{fail (.Secret "munge" | b64enc)}}`, `{{.Secret (.Secret "munge")}}`, `{{file (printf "../../../%s" (.Secret "munge"))}}`,
		`{{index .Tags (.Secret "munge") 1}}`, `{{$s := .Secret "munge"}}{{$s.x}}`, `{{mustFromJson .Ipmi.Password}}{{fail .Ipmi.Password}}`, `{{range .SshHostKeys}}{{fail .Private}}{{end}}`,
		"{{$s := .Secret `munge`}}{{if true}}\n{{fail (print `>: ` $s)}}{{end}}",
	} {
		_, err := render(t, text, armed(t, open))
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "etc/x") || !strings.Contains(err.Error(), "n1") || !strings.Contains(err.Error(), "used a secret") {
			t.Errorf("%s: %v", text, err)
			continue
		}
		hidden(text, err.Error()+fault.Fix(err))
	}
	_, err := render(t, `{{.Secret "munge"}}{{range 100000}}{{repeat 1000 "x"}}{{end}}`, armed(t, open))
	if err == nil || !strings.Contains(err.Error(), "writes more than") {
		t.Errorf("a bound is not told: %v", err)
	}
	_, err = render(t, `{{fail "of another template"}}`, armed(t, open))
	if err == nil || !strings.Contains(err.Error(), "of another template") {
		t.Errorf("a template without secrets does not tell why it fails: %v", err)
	}
}
