package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
)

// files are what an overlay consists of, in one line.
func (b *bench) files(path string) string {
	b.t.Helper()
	w := b.local(0, "GET", path, nil)
	if w.Code != http.StatusOK {
		b.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	bundle, err := overlay.Decode(w.Body.Bytes())
	if err != nil {
		b.t.Fatal(err)
	}
	var words []string
	for _, f := range bundle.Files {
		words = append(words, f.Path+"="+string(f.Content))
	}
	return strings.Join(words, " ")
}

func (b *bench) edit(name string, e overlay.Edit) *httptest.ResponseRecorder {
	return b.local(0, "PATCH", "/v1/overlays/"+name, encode(b.t, e))
}

func fileOf(path, content string, template bool) overlay.File {
	return overlay.File{Path: path, Type: overlay.TypeFile, Mode: 0o644, Content: []byte(content), Template: template}
}

// shipped brings an overlay as the leader does.
func (b *bench) shipped(name catalog.OverlayName, files ...overlay.File) {
	b.t.Helper()
	bundle, err := overlay.NewBundle(files)
	if err != nil {
		b.t.Fatal(err)
	}
	raw, err := bundle.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	ref, err := b.cfg.Chunks.Publish(b.t.Context(), raw)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.propose(b.t.Context(), catalog.ShipOverlay{Name: name, Base: ref, Files: len(files)}, "wulfmesh", ""); err != nil {
		b.t.Fatal(err)
	}
}

func TestAnEditOfAShippedOverlayKeepsOnlyThatFile(t *testing.T) {
	b := newBench(t)
	b.shipped("hosts", fileOf("etc/hosts", "a", false), fileOf("etc/other", "o", false))
	if err := problemOf(t, b.edit("hosts", overlay.Edit{Put: []overlay.File{fileOf("etc/hosts", "mine", false)}})); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/v1/overlays/hosts":            "etc/hosts=mine etc/other=o",
		"/v1/overlays/hosts?layer=own":  "etc/hosts=mine",
		"/v1/overlays/hosts?layer=base": "etc/hosts=a etc/other=o",
	} {
		if got := b.files(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if w := b.local(0, "GET", "/v1/overlays/hosts?layer=middle", nil); w.Code != http.StatusBadRequest {
		t.Errorf("a layer that there is not: %d", w.Code)
	}
	b.shipped("hosts", fileOf("etc/hosts", "b", false), fileOf("etc/other", "p", false))
	if got := b.files("/v1/overlays/hosts"); got != "etc/hosts=mine etc/other=p" {
		t.Errorf("after an upgrade: %q", got)
	}
	if err := problemOf(t, b.edit("hosts", overlay.Edit{Reset: []string{"etc/hosts"}})); err != nil {
		t.Fatal(err)
	}
	if o, _ := b.cfg.State.Current().Overlay("hosts"); !o.Content.ID.IsZero() {
		t.Errorf("nothing is the site's any more: %+v", o)
	}
	rev := b.cfg.State.Current().Changed()
	if err := problemOf(t, b.edit("hosts", overlay.Edit{Put: []overlay.File{fileOf("etc/hosts", "b", false)}})); err != nil || b.cfg.State.Current().Changed() != rev {
		t.Errorf("an edit that changes nothing made a revision (%v)", err)
	}
}

func TestPeopleWhoEditDifferentFilesAtOnceLoseNothing(t *testing.T) {
	b := newBench(t)
	if err := problemOf(t, b.local(0, "PUT", "/v1/overlays/site", motd(t))); err != nil {
		t.Fatal(err)
	}
	const people = 8
	var g sync.WaitGroup
	codes := make([]int, people)
	for i := range people {
		g.Go(func() {
			codes[i] = b.edit("site", overlay.Edit{Put: []overlay.File{fileOf(fmt.Sprintf("etc/%d", i), "x", false)}}).Code
		})
	}
	g.Wait()
	got := b.files("/v1/overlays/site")
	for i := range people {
		if codes[i] != http.StatusOK || !strings.Contains(got, fmt.Sprintf("etc/%d=x", i)) {
			t.Errorf("file %d was answered with %d, and there is %q", i, codes[i], got)
		}
	}
}

func TestAPutMayNameTheContentThatItWasMadeOf(t *testing.T) {
	b := newBench(t)
	put := func(header, value string) int {
		return b.askWith("PUT", "/v1/overlays/site", header, value, motd(t)).Code
	}
	for _, step := range []struct {
		header, value string
		want          int
	}{
		{"If-Match", `"` + strings.Repeat("1", 64) + `"`, http.StatusPreconditionFailed},
		{"If-None-Match", "*", http.StatusOK},
		{"If-None-Match", "*", http.StatusConflict},
		{"If-Match", `"none"`, http.StatusPreconditionFailed},
		{"If-Match", `"what"`, http.StatusBadRequest},
		{"If-Match", "", http.StatusOK}, // what is there now
	} {
		if step.value == "" {
			step.value = b.local(0, "GET", "/v1/overlays/site?layer=own", nil).Header().Get("ETag")
		}
		if got := put(step.header, step.value); got != step.want {
			t.Errorf("%s: %s: %d, want %d", step.header, step.value, got, step.want)
		}
	}
}

func TestATemplateThatFailsForANodeIsNotWritten(t *testing.T) {
	b := newBench(t)
	if err := problemOf(t, b.local(0, "PUT", "/v1/overlays/site", motd(t))); err != nil {
		t.Fatal(err)
	}
	failing := overlay.Edit{Put: []overlay.File{fileOf("etc/x", "\n{{index .Profiles 7}}", true)}}
	if w := b.edit("site", failing); w.Code != http.StatusOK {
		t.Fatalf("no node has it: %d %s", w.Code, w.Body)
	}
	b.must(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1", Settings: catalog.Settings{Overlays: catalog.OverlaySettings{Runtime: []string{"site"}}}}}})
	if w := b.edit("site", overlay.Edit{Put: []overlay.File{fileOf("etc/y", "y", false)}}); w.Code != http.StatusOK {
		t.Errorf("what failed before is not this edit's: %d %s", w.Code, w.Body)
	}
	failing.Put[0].Path = "etc/z"
	err := problemOf(t, b.edit("site", failing))
	for _, part := range []string{"overlay site", "etc/z", "n1", ":2", "out of range"} {
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), part) {
			t.Errorf("it says nothing of %q: %v", part, err)
		}
	}
	w := b.local(0, "PATCH", "/v1/overlays/site?force=true", encode(t, failing))
	if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(`"warning":"overlay site`)) {
		t.Errorf("by force: %d %s", w.Code, w.Body)
	}
	if w := b.edit("site", overlay.Edit{Put: []overlay.File{fileOf("etc/loop", "{{define `x`}}{{template `x`}}{{end}}{{template `x`}}", true)}}); w.Code != http.StatusBadRequest {
		t.Errorf("a template without an end: %d %s", w.Code, w.Body)
	}
}
