package apiserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// askWith is a request by root with a header.
func (b *bench) askWith(method, path, header, value string, body []byte) *httptest.ResponseRecorder {
	b.t.Helper()
	b.header = http.Header{header: {value}}
	defer func() { b.header = nil }()
	return b.local(0, method, path, body)
}

func TestAClientIsToldThatNothingHasChanged(t *testing.T) {
	b := newBench(t)
	b.must(addNode("n1"))
	for _, path := range []string{api.PathProfiles, api.PathNetworks, api.PathImages, api.PathOverlays, api.PathSiteFiles, api.PathHistory, "/v1/nodes/n1"} {
		tag := b.local(0, "GET", path, nil).Header().Get("ETag")
		for _, has := range []string{tag, "W/" + tag, `"1", ` + tag, "*"} {
			if w := b.askWith("GET", path, "If-None-Match", has, nil); w.Code != 304 || w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
				t.Errorf("%s with If-None-Match %s: %d, ETag %s, want %s", path, has, w.Code, w.Header().Get("ETag"), tag)
			}
		}
		b.must(catalog.SetNodes{Nodes: catalog.NodeSetOf("n1"), Set: catalog.Settings{Comment: &path}})
		if w := b.askWith("GET", path, "If-None-Match", tag, nil); w.Code != 200 || w.Header().Get("ETag") == tag {
			t.Errorf("%s after a change: %d, ETag %s", path, w.Code, w.Header().Get("ETag"))
		}
	}
	tag := b.local(0, "GET", "/v1/nodes/n1", nil).Header().Get("ETag")
	b.cfg.Journal.Record([]boot.Event{{Time: time.Now(), Node: "n1", Hardware: "52:54:00:00:00:01", Stage: boot.StageDHCP}})
	if w := b.askWith("GET", "/v1/nodes/n1", "If-None-Match", tag, nil); w.Code != 200 {
		t.Errorf("a node that has booted, which makes no revision: %d", w.Code)
	}
}

func TestAChangeIsMadeOnlyIfItsRevisionHolds(t *testing.T) {
	b := newBench(t)
	b.must(addNode("n1"))
	b.cfg.Journal.Record([]boot.Event{{Time: time.Now(), Node: "n1", Hardware: "52:54:00:00:00:01", Stage: boot.StageDHCP}})
	tag := b.local(0, "GET", "/v1/nodes/n1", nil).Header().Get("ETag")
	change := func(match string, q api.ChangeRequest) error {
		t.Helper()
		w := b.askWith("POST", api.PathChanges, "If-Match", match, encode(t, q))
		err := problemOf(t, w)
		if match != "" && errors.Is(err, fault.Conflict) && w.Code != http.StatusPreconditionFailed {
			t.Errorf("If-Match %s that does not hold: status %d", match, w.Code)
		}
		return err
	}
	dry := b.nodeAdd("n2")
	dry.DryRun = true
	if err := change(tag, dry); err != nil {
		t.Errorf("a dry run on what was seen: %v", err)
	}
	if err := change(tag, b.nodeAdd("n2")); err != nil {
		t.Errorf("a change of what was seen: %v", err)
	}
	for _, old := range []string{tag, `"1"`, `"999"`} {
		if err := change(old, b.nodeAdd("n3")); !errors.Is(err, fault.Conflict) {
			t.Errorf("a change of what has changed (%s): %v", old, err)
		}
		if err := change(old, dry); !errors.Is(err, fault.Conflict) {
			t.Errorf("a dry run of it (%s): %v", old, err)
		}
	}
	now := b.local(0, "GET", api.PathProfiles, nil).Header().Get("ETag")
	if w := b.askWith("POST", api.PathChanges, "If-Match", now, encode(t, b.nodeAdd("n1"))); w.Code != http.StatusConflict {
		t.Errorf("a node that is there, on the present revision: %d", w.Code)
	}
	for _, bad := range []string{"1", `"x"`, `W/"1"`, `"1", "2"`, `"0"`, `""`} {
		if err := change(bad, b.nodeAdd("n4")); !errors.Is(err, fault.Invalid) {
			t.Errorf("If-Match %s: %v", bad, err)
		}
	}
	two := b.nodeAdd("n4")
	two.If = 1
	if err := change(tag, two); !errors.Is(err, fault.Invalid) {
		t.Errorf("two revisions: %v", err)
	}
	if err := change("*", b.nodeAdd("n4")); err != nil {
		t.Errorf("whatever the revision: %v", err)
	}
}

func FuzzIfMatch(f *testing.F) {
	for _, s := range []string{`"41"`, `"41-00ff"`, "*", `"`, `"-"`, `W/"1"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rev, err := ifMatch(&http.Request{Header: http.Header{"If-Match": {text}}})
		if any := text == "" || text == "*"; err == nil && any != (rev == 0) || err != nil && rev != 0 {
			t.Errorf("%q: %d, %v", text, rev, err)
		}
	})
}
