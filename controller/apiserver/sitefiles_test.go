package apiserver

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestASiteFileIsPutAndFetchedAndTakenBack(t *testing.T) {
	b := newBench(t)
	const path = "/v1/files/%2Fetc%2Fwarewulf%2Fauthorized_keys"
	w := b.local(0, "PUT", path+"?mode=600&message=the+new+key", []byte("ssh-ed25519 A"))
	var result api.ChangeResult
	if err := unmarshal(w.Body.Bytes(), &result); err != nil || w.Code != 200 || result.Undo != result.Revision-1 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	f, ok := b.cfg.State.Current().SiteFile("/etc/warewulf/authorized_keys")
	if !ok || f.Mode != 0o600 || f.By != "root@local" || f.Content != chunk.RefOf([]byte("ssh-ed25519 A")) {
		t.Fatalf("the catalog has %+v", f)
	}
	if rec, _ := b.cfg.State.Current().RecordOf(result.Revision); rec.Message != "the new key" || rec.About() != "site file /etc/warewulf/authorized_keys" {
		t.Errorf("the record is %+v", rec)
	}
	b.must(catalog.LinkSiteFile{Path: "/etc/keys", Target: "warewulf/authorized_keys"})
	b.must(catalog.LinkSiteFile{Path: "/etc/loop", Target: "loop"})
	for _, path := range []string{path, "/v1/files/%2Fetc%2Fkeys"} {
		if w := b.local(0, "GET", path, nil); w.Body.String() != "ssh-ed25519 A" || w.Header().Get("ETag") != fmt.Sprintf("%q", f.Content.ID) {
			t.Errorf("%s reads %d, %q, ETag %s", path, w.Code, w.Body, w.Header().Get("ETag"))
		}
	}
	if err := problemOf(t, b.local(0, "GET", "/v1/files/%2Fetc%2Floop", nil)); !errors.Is(err, fault.NotFound) || fault.Fix(err) == "" {
		t.Errorf("a link to itself: %v", err)
	}
	if err := problemOf(t, b.local(0, "DELETE", path, nil)); err != nil {
		t.Fatal(err)
	}
	b.must(catalog.Revert{To: b.cfg.State.Current().Changed() - 1})
	if w := b.local(0, "GET", path, nil); w.Body.String() != "ssh-ed25519 A" {
		t.Errorf("after going back it reads %d, %q", w.Code, w.Body)
	}
}

func TestTwoWhoEditASiteFileAtOnceDoNotLoseTheWorkOfEither(t *testing.T) {
	b := newBench(t)
	const path = "/v1/files/%2Fetc%2Fmotd"
	put := func(match, text string) *httptest.ResponseRecorder {
		return b.askWith("PUT", path, "If-Match", match, []byte(text))
	}
	if w := b.local(0, "PUT", path, []byte("first")); w.Code != 200 {
		t.Fatal(w.Body)
	}
	seen := b.local(0, "GET", path, nil).Header().Get("ETag")
	if w := put(seen, "second"); w.Code != 200 {
		t.Errorf("made of what is there: %d %s", w.Code, w.Body)
	}
	if w := put(seen, "third"); w.Code != 412 {
		t.Errorf("made of what was there: %d %s", w.Code, w.Body)
	}
	if w := put(seen, "second"); w.Code != 200 { // as when the answer was lost
		t.Errorf("the same again: %d %s", w.Code, w.Body)
	}
	for _, wrong := range []string{"second", `"x"`, `"`, "*"} {
		if w := put(wrong, "fourth"); w.Code != 400 {
			t.Errorf("If-Match %s: %d %s", wrong, w.Code, w.Body)
		}
	}
	if w := b.local(0, "GET", path, nil); w.Body.String() != "second" {
		t.Errorf("it reads %q", w.Body)
	}
}

func TestASiteFileIsNotPutWithoutItsContent(t *testing.T) {
	b := newBench(t)
	change := encode(t, catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/motd", Content: chunk.RefOf([]byte("nowhere"))}})
	w := b.local(0, "POST", api.PathChanges, encode(t, api.ChangeRequest{Kind: "file.put", Change: change}))
	if err := problemOf(t, w); !errors.Is(err, fault.Denied) || fault.Fix(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestAServersConfigurationIsReadBeforeItIsTaken(t *testing.T) {
	b := newBench(t)
	path := "/v1/files/" + url.PathEscape(catalog.SiteServerFile)
	for _, text := range []string{"ipaddr: [", "nfs: 7\n"} {
		if err := problemOf(t, b.local(0, "PUT", path, []byte(text))); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, ok := b.cfg.State.Current().SiteFile(catalog.SiteServerFile); ok {
		t.Error("what cannot be read is in the catalog")
	}
	if w := b.local(0, "PUT", path, []byte("ipaddr: 10.0.0.1\n")); w.Code != 200 {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
