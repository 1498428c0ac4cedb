package render_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/render"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// lab is a catalog with chunks, and counts what is read of these.
type lab struct {
	t *testing.T
	c *catalog.Catalog
	*chunkstore.Mem

	mu    sync.Mutex
	reads int
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, c: &catalog.Catalog{}, Mem: chunkstore.NewMem()}
	l.change(catalog.InitCluster{Cluster: catalog.Cluster{Name: "lab"}, Controller: catalog.Controller{Name: "c1"}})
	l.change(catalog.AddNodes{Nodes: []catalog.Node{{Name: "n1"}}})
	return l
}

func (l *lab) ReadAll(ctx context.Context, ref chunk.Ref, limit int64) ([]byte, error) {
	l.mu.Lock()
	l.reads++
	l.mu.Unlock()
	return chunkstore.ReadAll(ctx, l.Mem, ref.ID, limit)
}

func (l *lab) change(x catalog.Change) {
	l.t.Helper()
	b, err := catalog.Entry{At: time.Unix(1_800_000_000, 0), Change: x}.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	next, out, err := l.c.Apply(l.c.Revision+1, b)
	if err != nil || out.Err != nil {
		l.t.Fatal(catalog.KindOf(x), err, out.Err)
	}
	l.c = next
}

func (l *lab) put(b []byte) chunk.Ref {
	l.t.Helper()
	ref := chunk.RefOf(b)
	if err := l.Put(l.t.Context(), ref, bytes.NewReader(b)); err != nil {
		l.t.Fatal(err)
	}
	return ref
}

func (l *lab) bundle(files ...overlay.File) chunk.Ref {
	l.t.Helper()
	b, err := overlay.NewBundle(files)
	if err != nil {
		l.t.Fatal(err)
	}
	raw, err := b.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.put(raw)
}

func template(path, text string) overlay.File {
	return overlay.File{Path: path, Type: overlay.TypeFile, Mode: 0o644, Template: true, Content: []byte(text)}
}

// text renders overlay o for n1, and gives the content of a file of it.
func (l *lab) text(r *render.Renderer, path string) (string, error) {
	l.t.Helper()
	n, err := l.c.Resolve("n1")
	if err != nil {
		l.t.Fatal(err)
	}
	made, err := r.Node(l.t.Context(), l.c, render.Subject{Node: n}, []string{"o"})
	if err != nil {
		return "", err
	}
	for _, f := range made.Files {
		if f.Path == path {
			return string(f.Content), nil
		}
	}
	return "", fault.New(fault.NotFound, "no file %s", path)
}

// image publishes a tree as image "os".
func (l *lab) image(files, links map[string]string) {
	l.t.Helper()
	dir := l.t.TempDir()
	for path, text := range files {
		p := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			l.t.Fatal(err)
		}
	}
	for path, target := range links {
		p := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.Symlink(target, p)); err != nil {
			l.t.Fatal(err)
		}
	}
	tree, err := segment.OpenDir(dir, segment.Limits{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer tree.Close()
	made, err := segment.Build(l.t.Context(), tree, segment.Options{Sink: func(_ chunk.Ref, b []byte) error {
		return l.Put(context.Background(), chunk.RefOf(b), bytes.NewReader(b))
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(nil)
	signed, err := chunk.Sign(&chunk.Manifest{
		Format: chunk.ManifestFormat, Image: "os", Arch: "amd64", Segments: made.Segments, Index: made.Index, Extras: made.Extras, Level: segment.DefaultLevel,
	}, key)
	if err != nil {
		l.t.Fatal(err)
	}
	l.change(catalog.PutImage{Name: "os", Version: catalog.ImageVersion{Manifest: l.put(signed), Arch: "amd64"}})
}

func TestTemplatesIncludeFilesOfImages(t *testing.T) {
	l := newLab(t)
	l.image(map[string]string{"usr/etc/passwd": "root:x:0:0\n", "etc/group": "root:x:0:\n"},
		map[string]string{"etc/passwd": "../usr/etc/passwd", "lib": "/usr", "out": "../../../../etc/group", "loop": "loop", "etc/up": "/.."})
	l.change(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "o", Files: 1, Content: l.bundle(template("x",
		`{{range list "/etc/passwd" "etc/group" "/lib/etc/passwd" "/out" "/loop" "/etc" "/none" "/etc/up/etc/group"}}{{.}}={{IncludeFrom "os" .}} {{end}}{{IncludeFrom "none" "/x"}}`))}})
	r := render.New(l, 1<<20)
	want := "/etc/passwd=root:x:0:0 etc/group=root:x:0: /lib/etc/passwd=root:x:0:0 /out=root:x:0: /loop= /etc= /none= /etc/up/etc/group=root:x:0: "
	for range 2 {
		if got, err := l.text(r, "x"); err != nil || got != want {
			t.Errorf("got %q, %v\nwant %q", got, err, want)
		}
	}
	reads := l.reads
	l.change(catalog.SetNodes{Nodes: []catalog.NodeName{"n1"}, Set: catalog.Settings{Comment: new("x")}})
	if _, err := l.text(r, "x"); err != nil || l.reads != reads || r.Stats().Rendered != 1 {
		t.Errorf("rendered %d times, %d chunks read for nothing: %v", r.Stats().Rendered, l.reads-reads, err)
	}
	l.image(map[string]string{"etc/passwd": "new:x:0:0\n"}, nil)
	if got, err := l.text(r, "x"); err != nil || !strings.HasPrefix(got, "/etc/passwd=new:x:0:0 ") {
		t.Errorf("of another version of the image: %q, %v", got, err)
	}
}

func TestSiteFilesAndTheServerTheyDescribe(t *testing.T) {
	l := newLab(t)
	l.change(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "o", Files: 1, Content: l.bundle(template("x", `{{.Ipaddr}}:{{.Warewulf.Port}} {{Include "motd"}}|{{Include "link"}}|{{IncludeBlock "motd" "two"}}|{{readlink "link"}}`))}})
	r := render.New(l, 1<<20)
	if _, err := l.text(r, "x"); !errors.Is(err, fault.Invalid) || !strings.Contains(fault.Fix(err), "wulf file link") {
		t.Errorf("a link that is not there: %v, %s", err, fault.Fix(err))
	}
	l.change(catalog.LinkSiteFile{Path: "/etc/warewulf/link", Target: "motd"})
	if got, err := l.text(r, "x"); err != nil || got != ":9873 ||two|/etc/warewulf/motd" {
		t.Errorf("with none: %q, %v", got, err)
	}
	l.change(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/warewulf/motd", Content: l.put([]byte("one\ntwo\n")), Mode: 0o644}})
	l.change(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/warewulf/warewulf.conf", Content: l.put([]byte("ipaddr: 10.9.0.1\nwarewulf:\n  port: 99\n")), Mode: 0o644}})
	if got, err := l.text(r, "x"); err != nil || got != "10.9.0.1:99 one\ntwo|one\ntwo|one\ntwo|/etc/warewulf/motd" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTheSitesFilesLieOverShippedOnes(t *testing.T) {
	l := newLab(t)
	r := render.New(l, 1<<20)
	l.change(catalog.ShipOverlay{Name: "o", Base: l.bundle(template("a", "shipped {{.Id}}"), template("b", "shipped")), Files: 2})
	if got, err := l.text(r, "a"); err != nil || got != "shipped n1" {
		t.Errorf("got %q, %v", got, err)
	}
	l.change(catalog.PutOverlay{Overlay: catalog.Overlay{Name: "o", Laid: true, Files: 1, Content: l.bundle(template("a", "site {{.BuildTimeUnix}}"))}})
	a, err := l.text(r, "a")
	b, err2 := l.text(r, "b")
	if err != nil || err2 != nil || a != "site 1800000000" || b != "shipped" {
		t.Errorf("got %q, %q, %v, %v", a, b, err, err2)
	}
}
