package apiserver

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

func (b *bench) change(q api.ChangeRequest) (api.ChangeResult, error) {
	b.t.Helper()
	w := b.local(0, "POST", api.PathChanges, encode(b.t, q))
	var out api.ChangeResult
	if err := problemOf(b.t, w); err != nil {
		return out, err
	}
	err := unmarshal(w.Body.Bytes(), &out)
	return out, err
}

func (b *bench) nodeAdd(name catalog.NodeName) api.ChangeRequest {
	return api.ChangeRequest{Kind: "node.add", Change: encode(b.t, addNode(name))}
}

func TestChangesHappenOnceOrNotAtAll(t *testing.T) {
	b := newBench(t)
	q := b.nodeAdd("n1")
	q.DryRun = true
	if _, err := b.change(q); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.cfg.State.Current().Node("n1"); ok {
		t.Fatal("a dry run made a node")
	}
	q.DryRun, q.Request = false, "once"
	first, err := b.change(q)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.change(q); err != nil || again != first {
		t.Errorf("the same request again: %+v, %v, want %+v", again, err, first)
	}
	q.Request = "twice"
	if _, err := b.change(q); !errors.Is(err, fault.Conflict) {
		t.Errorf("the same node in another request: %v", err)
	}
	q.DryRun = true
	if _, err := b.change(q); !errors.Is(err, fault.Conflict) {
		t.Errorf("a dry run of it: %v", err)
	}
	q = b.nodeAdd("n2")
	q.If = first.Revision
	next, err := b.change(q)
	if err != nil {
		t.Fatal(err)
	}
	q = b.nodeAdd("n3")
	q.If = first.Revision
	if _, err := b.change(q); !errors.Is(err, fault.Conflict) || next.Revision <= first.Revision {
		t.Errorf("a change that expects a revision which has passed: %v", err)
	}
}

func TestChangesThatBelongToSomethingLargerAreRefused(t *testing.T) {
	b := newBench(t)
	for kind := range notDirect {
		w := b.local(0, "POST", api.PathChanges, []byte(`{"request":"x","kind":"`+kind+`","change":{}}`))
		if err := problemOf(t, w); !errors.Is(err, fault.Denied) {
			t.Errorf("%s by itself: %v", kind, err)
		}
	}
	for what, body := range map[string]string{
		"unknown kind":  `{"kind":"node.explode","change":{}}`,
		"unknown field": `{"kind":"node.add","change":{"nodez":[]}}`,
		"unknown outer": `{"kind":"node.add","change":{},"root":true}`,
		"no JSON":       `kind=node.add`,
		"long request":  `{"request":"` + strings.Repeat("x", 200) + `","kind":"node.delete","change":{"nodes":["n1"]}}`,
	} {
		if err := problemOf(t, b.local(0, "POST", api.PathChanges, []byte(body))); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := problemOf(t, b.local(0, "POST", api.PathTokens, bytes.Repeat([]byte(" "), small+1))); !errors.Is(err, fault.Invalid) {
		t.Errorf("too long a body: %v", err)
	}
}

func TestAControllerPassesOnWhoAsked(t *testing.T) {
	b := newBench(t)
	as := func(cert *x509.Certificate, by string) string {
		r := httptest.NewRequest("POST", api.PathChanges, bytes.NewReader(encode(t, b.nodeAdd("n"+catalog.NodeName(by)))))
		r.Header.Set(api.HeaderBy, "operator/"+by)
		r.TLS = withPeer(cert)
		c, err := b.identify(r)
		if err != nil {
			t.Fatal(err)
		}
		return c.by
	}
	if got := as(b.c1, "alice"); got != "operator/alice" {
		t.Errorf("passed on by a controller: %q", got)
	}
	if got := as(b.certificate(pki.Identity{Role: pki.Operator, Name: "mallory"}), "alice"); got != "operator/mallory" {
		t.Errorf("claimed by an operator: %q", got)
	}
}

func TestChunksAreServedCountedAndTakenFromControllersOnly(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	body := bytes.Repeat([]byte("chunk"), 1000)
	path := api.ChunkPath(chunk.Of(body))
	if err := problemOf(t, b.ask(r1, "GET", path, nil)); !errors.Is(err, fault.NotFound) {
		t.Errorf("a chunk that is not here: %v", err)
	}
	if err := problemOf(t, b.askRaw(withPeer(b.c1), "PUT", path, append(body, 'x'))); !errors.Is(err, fault.Corrupt) {
		t.Errorf("wrong bytes: %v", err)
	}
	if err := problemOf(t, b.askRaw(withPeer(b.c1), "PUT", path, body)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w := b.ask(r1, "GET", path, nil)
		if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), body) || w.Header().Get("Etag") == "" {
			t.Errorf("GET: %d, %d bytes", w.Code, w.Body.Len())
		}
	}
	if w := b.ask(b.c1, "GET", path, nil); w.Code != http.StatusOK { // not counted: it is no relay
		t.Errorf("GET by a controller: %d", w.Code)
	}
	if w := b.ask(b.c1, "HEAD", path, nil); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
	w := b.ask(r1, "GET", api.PathStatus, nil)
	var st api.ControllerStatus
	if err := unmarshal(w.Body.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if st.ChunksOut != 2 || st.BytesOut != int64(2*len(body)) || b.ChunksServed()[chunk.Of(body).String()] != 2 {
		t.Errorf("counted %d chunks, %d bytes, %v", st.ChunksOut, st.BytesOut, b.ChunksServed())
	}
	if err := problemOf(t, b.ask(r1, "GET", "/v1/chunks/xyz", nil)); !errors.Is(err, fault.Invalid) {
		t.Errorf("a bad ID: %v", err)
	}
}

func TestEventsBecomeBoots(t *testing.T) {
	b := newBench(t)
	r1 := b.admitRelay("r1", "10.1.0.1", "rack")
	b.must(addNode("n1"))
	batch := api.EventBatch{Events: []boot.Event{{Time: time.Now(), Node: "n1", Hardware: "52:54:00:00:00:01", Stage: boot.StageDHCP, Relay: "somebody-else"}}}
	if err := problemOf(t, b.ask(r1, "POST", api.PathEvents, batch)); err != nil {
		t.Fatal(err)
	}
	var list api.List[api.Boot]
	if err := unmarshal(b.local(0, "GET", api.PathBoots+"?node=n1", nil).Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || len(list.Items[0].Events) != 1 || list.Items[0].Events[0].Relay != "r1" {
		t.Errorf("boots %+v", list.Items)
	}
	batch.Events = make([]boot.Event, api.MaxEventBatch+1)
	if err := problemOf(t, b.ask(r1, "POST", api.PathEvents, batch)); !errors.Is(err, fault.Invalid) {
		t.Errorf("too many events: %v", err)
	}
	var node api.NodeView
	if err := unmarshal(b.local(0, "GET", "/v1/nodes/n1", nil).Body.Bytes(), &node); err != nil || node.Boot == nil || node.Effective == nil || node.Blame == nil {
		t.Errorf("node %+v, %v", node, err)
	}
	if err := problemOf(t, b.local(0, "GET", "/v1/nodes/nope", nil)); !errors.Is(err, fault.NotFound) {
		t.Errorf("a node that is not there: %v", err)
	}
}

func TestNodesShowTheirHostKeysWhereSecretsAreHeld(t *testing.T) {
	b := newBench(t)
	for _, q := range []string{
		`{"nodes":[{"name":"n1","settings":{"nets":{"default":{"hardware":"52:54:00:00:00:01","address":"10.1.0.10"}}}}]}`,
		`{"nodes":[{"name":"n2","settings":{"nets":{"default":{"hardware":"52:54:00:00:00:02","address":"10.2.0.10"}}}}]}`,
	} {
		if _, err := b.change(api.ChangeRequest{Kind: "node.add", Change: []byte(q)}); err != nil {
			t.Fatal(err)
		}
	}
	var list api.List[api.NodeView]
	if err := unmarshal(b.local(0, "GET", api.PathNodes+"?full=true", nil).Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || !strings.HasPrefix(list.Items[0].HostKey, "ssh-ed25519 ") || list.Items[1].HostKey != "" {
		t.Errorf("host keys of %d nodes: %q, %q", len(list.Items), list.Items[0].HostKey, list.Items[1].HostKey)
	}
	if list.Revision != b.cfg.State.Current().Revision {
		t.Errorf("revision %d", list.Revision)
	}
	var short api.List[api.NodeView]
	if err := unmarshal(b.local(0, "GET", api.PathNodes+"?consistency=stale", nil).Body.Bytes(), &short); err != nil || short.Items[0].HostKey != "" {
		t.Errorf("a short list: %+v, %v", short.Items[0], err)
	}
	if err := problemOf(t, b.local(0, "GET", api.PathNodes+"?consistency=perfect", nil)); !errors.Is(err, fault.Invalid) {
		t.Errorf("an unknown consistency: %v", err)
	}
}

func TestNetworksTellByWhichKeyTheirNodesAreCertified(t *testing.T) {
	b := newBench(t)
	far := catalog.Network{Name: "far", Prefix: netip.MustParsePrefix("10.3.0.0/16"), Domain: "far.example", SSHAuthority: "ssh-ed25519 FORGED"}
	lost := catalog.Network{Name: "lost", Prefix: netip.MustParsePrefix("10.4.0.0/16"), Secrets: catalog.SecretsRefuse, SSHAuthority: "ssh-ed25519 FORGED"}
	b.as(catalog.Batch{Changes: []catalog.Step{{Change: catalog.AddNetwork{Network: far}}, {Change: catalog.AddNetwork{Network: lost}}}})
	b.as(catalog.AddNodes{Nodes: []catalog.Node{nodeAt("n1", "10.3.0.9", catalog.Settings{}), nodeAt("n2", "10.4.0.9", catalog.Settings{})}})
	authorities := func() (all []catalog.SSHAuthority) {
		var list api.List[catalog.SSHAuthority]
		if err := unmarshal(b.local(0, "GET", api.PathAuthorities, nil).Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		for _, a := range list.Items {
			if a.Network == "far" || a.Network == "lost" {
				all = append(all, a)
			}
		}
		return all
	}
	key := b.cfg.Mesh.NetworkKey("far").SSHAuthority()
	if got := authorities(); len(got) != 1 || got[0].Key != key || strings.Join(got[0].Hosts, " ") != "n1.far.example n1 10.3.0.9 n1-default" {
		t.Errorf("got %+v", got)
	}
	lost.Secrets = catalog.SecretsRelay
	b.as(catalog.SetNetwork{Network: lost})
	if got := authorities(); len(got) != 2 || got[0].Key != key || got[1].Key != b.cfg.Mesh.NetworkKey("lost").SSHAuthority() {
		t.Errorf("got %+v", got)
	}
}

func TestOverlaysAreCheckedBeforeTheyAreTaken(t *testing.T) {
	b := newBench(t)
	bundle, err := overlay.NewBundle([]overlay.File{{Path: "etc/motd", Type: overlay.TypeFile, Mode: 0o644, Content: []byte("hi")}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bundle.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := problemOf(t, b.local(0, "PUT", "/v1/overlays/motd", raw)); err != nil {
		t.Fatal(err)
	}
	if w := b.local(0, "GET", "/v1/overlays/motd", nil); !bytes.Equal(w.Body.Bytes(), raw) {
		t.Errorf("it reads %d, %q", w.Code, w.Body)
	}
	for what, body := range map[string]string{
		"not an overlay": "hello", "a path outside": `{"format":1,"files":[{"path":"../x","type":"file"}]}`,
		"a bad template": `{"format":1,"files":[{"path":"x","type":"file","template":true,"content":"e3s="}]}`,
	} {
		if err := problemOf(t, b.local(0, "PUT", "/v1/overlays/bad", []byte(body))); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, ok := b.cfg.State.Current().Overlay("bad"); ok {
		t.Error("something bad is in the catalog")
	}
}

func TestImportsAreBounded(t *testing.T) {
	b := newBench(t)
	for range maxImports {
		if err := b.imports.begin(); err != nil {
			t.Fatal(err)
		}
	}
	if err := problemOf(t, b.local(0, "POST", "/v1/images/rocky", []byte("x"))); !errors.Is(err, fault.Unavailable) || fault.Fix(err) == "" {
		t.Errorf("one import more: %v", err)
	}
	b.imports.end()
	last := b.upload("rocky", []byte(strings.Repeat("no tar ", 300)))
	if last.Error == nil || last.Error.Kind != fault.Invalid || last.Version != nil {
		t.Errorf("what is no tar: %+v", last)
	}
	if _, ok := b.cfg.State.Current().Image("rocky"); ok {
		t.Error("a failed import left an image")
	}
	for _, path := range []string{"/v1/images/-rocky", "/v1/images/rocky?tag=-x"} {
		if err := problemOf(t, b.local(0, "POST", path, nil)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAFullDiskIsSaidAndNothingIsHalfDone(t *testing.T) {
	b := newBench(t)
	archive := rootFS()
	b.store.full.Store(true)
	last := b.upload("tiny", archive)
	if last.Error == nil || last.Error.Kind != fault.Full || last.Error.Fix == "" || strings.Contains(last.Error.Detail, "\n") {
		t.Errorf("on a full disk: %+v", last.Error)
	}
	if _, ok := b.cfg.State.Current().Image("tiny"); ok {
		t.Error("the image is in the catalog")
	}
	if say := b.cfg.Chunks.Problems(); len(say) != 1 || !strings.Contains(say[0], "left") {
		t.Errorf("problems %q", say)
	}
	b.store.full.Store(false)
	if last = b.upload("tiny", archive); last.Version == nil || last.Result == nil {
		t.Errorf("with room: %+v", last)
	}
}

// rootFS is a tiny root file system in a tar.
func rootFS() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	kernel := make([]byte, 0x300)
	copy(kernel[0x202:], "HdrS") // what tells an x86 kernel
	for name, body := range map[string]string{"sbin/init": "#!/bin/sh", "boot/vmlinuz-6.1": string(kernel)} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(body))})
		_, _ = w.Write([]byte(body))
	}
	_ = w.Close()
	return b.Bytes()
}

// draft cuts a tree as an operator's machine does, and sends its chunks.
func (b *bench) draft(archive []byte) api.ImageDraft {
	b.t.Helper()
	src, err := segment.OpenTar(bytes.NewReader(archive), b.t.TempDir(), segment.Limits{})
	if err != nil {
		b.t.Fatal(err)
	}
	defer src.Close()
	r, err := segment.Build(b.t.Context(), src, segment.Options{Level: 3, Sink: func(ref chunk.Ref, body []byte) error {
		return problemOf(b.t, b.local(0, "PUT", api.ChunkPath(ref.ID), body))
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	return api.ImageDraft{Source: "here", Message: "why", Tags: []string{"one"}, Level: 3, Segments: r.Segments, Index: r.Index, Extras: r.Extras, Files: r.Files, Unpacked: r.Unpacked}
}

// upload imports an image and returns the last line of the answer.
func (b *bench) upload(name string, archive []byte) (last api.ImportProgress) {
	b.t.Helper()
	for line := range strings.Lines(b.local(0, "POST", "/v1/images/"+name, archive).Body.String()) {
		last = api.ImportProgress{}
		if err := unmarshal([]byte(line), &last); err != nil {
			b.t.Fatal(err)
		}
	}
	return last
}

func TestBootsAreWatchedUntilTheServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		done := make(chan *httptest.ResponseRecorder)
		go func() { done <- b.local(0, "GET", api.PathBoots+"?watch=true&node=n1", nil) }()
		synctest.Wait()
		b.cfg.Journal.Record([]boot.Event{
			{Time: time.Now(), Node: "n1", Hardware: "52:54:00:00:00:01", Stage: boot.StageDHCP},
			{Time: time.Now(), Node: "n2", Hardware: "52:54:00:00:00:02", Stage: boot.StageDHCP},
		})
		synctest.Wait()
		close(b.draining)
		w := <-done
		if lines := strings.Count(w.Body.String(), "\n"); lines != 1 || !strings.Contains(w.Body.String(), `"n1"`) {
			t.Errorf("watched %q", w.Body)
		}
		b.inFlight.wait()
	})
}
