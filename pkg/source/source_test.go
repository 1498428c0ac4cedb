package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// archive is a tar of files by name; a name with a slash at its end is a directory.
func archive(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(files[i+1]))}
		if strings.HasSuffix(files[i], "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		_ = w.WriteHeader(h)
		if h.Typeflag == tar.TypeReg {
			_, _ = io.WriteString(w, files[i+1])
		}
	}
	_ = w.Close()
	return b.Bytes()
}

// containerOf is an image of layers.
func containerOf(t testing.TB, arch string, layers ...[]byte) v1.Image {
	t.Helper()
	packed := make([]v1.Layer, len(layers))
	for i, l := range layers {
		var err error
		if packed[i], err = tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.AppendLayers(empty.Image, packed...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

func two(t testing.TB) v1.Image {
	return containerOf(t, "amd64", archive("etc/", "", "etc/a", "old", "etc/b", strings.Repeat("b", 200_000)), archive("etc/a", "new", "etc/.wh.b", "", "etc/c", "c"))
}

// words is a tree as text.
func words(t testing.TB, src segment.Source) string {
	t.Helper()
	var out []string
	for _, e := range src.Entries() {
		w := e.Path
		if e.Type == segment.File {
			f, err := src.Open(e.Path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			w += "=" + string(b)
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

const twoWords = "etc etc/a=new etc/c=c"

// open opens a reference and leaves nothing in the work directory, whatever comes of it.
func open(t testing.TB, text string, o Options) (*Tree, error) {
	t.Helper()
	if o.Work == "" {
		o.Work = t.TempDir()
	}
	ref, err := Parse(text)
	if err != nil {
		return nil, err
	}
	tree, err := Open(context.Background(), ref, o)
	if left, _ := os.ReadDir(o.Work); len(left) > 0 {
		t.Errorf("%s: %d files are left in the work directory", text, len(left))
	}
	if err == nil {
		t.Cleanup(func() {
			if err := tree.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return tree, err
}

// server is a registry on the loopback whose answers can be spoilt.
type server struct {
	*httptest.Server
	host  string
	spoil atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool] // true: it has answered
	asked atomic.Int64                                                      // for blobs
}

func newServer(t testing.TB) *server {
	s := &server{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			s.asked.Add(1)
		}
		if f := s.spoil.Load(); f != nil && (*f)(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	u, _ := url.Parse(s.URL)
	s.host = u.Host
	return s
}

// part answers with the rest of a blob, as real registries do and this one does not.
func (s *server) part(w http.ResponseWriter, r *http.Request) bool {
	rec := httptest.NewRecorder()
	f := s.spoil.Swap(nil)
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	s.Config.Handler.ServeHTTP(rec, whole)
	s.spoil.Store(f)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(rec.Body.Bytes()))
	return true
}

func (s *server) spoiled(f func(w http.ResponseWriter, r *http.Request) bool) { s.spoil.Store(&f) }

func (s *server) push(t testing.TB, ref string, img v1.Image) v1.Hash {
	t.Helper()
	at, err := name.ParseReference(s.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(at, img); err != nil {
		t.Fatal(err)
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAnImageComesFromARegistry(t *testing.T) {
	s := newServer(t)
	h := s.push(t, "lab/two:1", two(t))
	for _, ref := range []string{"lab/two:1", "lab/two@" + h.String(), "lab/two:other@" + h.String()} {
		tree, err := open(t, "docker://"+s.host+"/"+ref, Options{})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if got := words(t, tree); got != twoWords {
			t.Errorf("%s holds %s", ref, got)
		}
		if !strings.HasSuffix(tree.Label, h.String()) || !strings.HasPrefix(tree.Label, "docker://"+s.host+"/lab/two") {
			t.Errorf("%s is called %s", ref, tree.Label)
		}
	}
}

func TestThePlatformIsChosen(t *testing.T) {
	s := newServer(t)
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: containerOf(t, arch, archive("arch", arch)), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	at, _ := name.ParseReference(s.host + "/lab/many:1")
	if err := remote.WriteIndex(at, index); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"docker://" + s.host + "/lab/many:1", "oci:" + dir} {
		for platform, want := range map[string]string{"": "arch=amd64", "linux/arm64": "arch=arm64", "arm64": "arch=arm64"} {
			tree, err := open(t, from, Options{Platform: platform})
			if err != nil {
				t.Errorf("%s for %q: %v", from, platform, err)
				continue
			}
			if got := words(t, tree); got != want {
				t.Errorf("%s for %q holds %s", from, platform, got)
			}
		}
		if _, err := open(t, from, Options{Platform: "linux/s390x"}); !errors.Is(err, fault.NotFound) || fault.Fix(err) == "" {
			t.Errorf("%s for another: %v", from, err)
		}
		if _, err := open(t, from, Options{Platform: "a/b/c/d"}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s for no platform: %v", from, err)
		}
	}
}

func TestLoginsAreThoseOfTheStandardFilesOrGiven(t *testing.T) {
	s := newServer(t)
	s.push(t, "lab/two:1", two(t))
	s.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		if ok && user == "me" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	at := "docker://" + s.host + "/lab/two:1"
	lonely(t)
	if _, err := open(t, at, Options{}); !errors.Is(err, fault.Denied) || !strings.Contains(fault.Fix(err), "podman login") {
		t.Errorf("without a login: %v", err)
	}
	if _, err := open(t, at, Options{Username: "me", Password: "wrong"}); !errors.Is(err, fault.Denied) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong one: %v", err)
	}
	if _, err := open(t, at, Options{Username: "me", Password: "secret"}); err != nil {
		t.Errorf("with a given one: %v", err)
	}
	auth := fmt.Sprintf(`{"auths":{%q:{"username":"me","password":"secret"}}}`, s.host)
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(auth), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, at, Options{}); err != nil {
		t.Errorf("with docker's: %v", err)
	}
}

func TestAMirrorIsAskedFirst(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	h := origin.push(t, "lab/two:1", two(t))
	at := "docker://" + origin.host + "/lab/two:1"
	_, err := open(t, at, Options{Mirrors: []string{mirror.host}})
	if err != nil || mirror.asked.Load() != 0 || origin.asked.Load() == 0 {
		t.Fatalf("a mirror without the image: %v", err)
	}
	mirror.push(t, "lab/two:1", two(t))
	before := origin.asked.Load()
	tree, err := open(t, at, Options{Mirrors: []string{mirror.host}})
	if err != nil || origin.asked.Load() != before {
		t.Errorf("a mirror with it: %v, the origin was asked %d times", err, origin.asked.Load()-before)
	}
	if !strings.Contains(tree.Label, origin.host) || !strings.HasSuffix(tree.Label, h.String()) {
		t.Errorf("it is called %s", tree.Label)
	}
}

func TestADownloadThatBreaksOffGoesOn(t *testing.T) {
	s := newServer(t)
	s.push(t, "lab/two:1", two(t))
	var broken atomic.Int64
	var ranges atomic.Int64
	s.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
			return s.part(w, r)
		}
		if broken.Add(1) > 2 {
			return false
		}
		rec := httptest.NewRecorder()
		f := s.spoil.Swap(nil)
		s.Config.Handler.ServeHTTP(rec, r)
		s.spoil.Store(f)
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return false
		}
		fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", rec.Body.Len())
		buf.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		buf.Flush()
		conn.Close()
		return true
	})
	tree, err := open(t, "docker://"+s.host+"/lab/two:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := words(t, tree); got != twoWords {
		t.Errorf("it holds %s", got)
	}
	if broken.Load() < 2 || ranges.Load() < 2 {
		t.Errorf("%d answers broke off, and %d went on where they did", broken.Load(), ranges.Load())
	}
}

func TestWhatARegistryCannotDoIsSaidInOneLine(t *testing.T) {
	s := newServer(t)
	s.push(t, "lab/two:1", two(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	damaged := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		rec := httptest.NewRecorder()
		f := s.spoil.Swap(nil)
		s.Config.Handler.ServeHTTP(rec, r)
		s.spoil.Store(f)
		b := rec.Body.Bytes()
		if len(b) > 20 && b[0] == 0x1f { // a layer; the configuration stays
			b[len(b)-12] ^= 1
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.Write(b)
		return true
	}
	for what, tc := range map[string]struct {
		ref   string
		spoil func(http.ResponseWriter, *http.Request) bool
		kinds []fault.Kind
	}{
		"no such image":  {s.host + "/lab/none:1", nil, []fault.Kind{fault.NotFound}},
		"no such host":   {nobody + "/lab/two:1", nil, []fault.Kind{fault.Unavailable}},
		"no name":        {s.host + "/LAB", nil, []fault.Kind{fault.Invalid}},
		"damaged layers": {s.host + "/lab/two:1", damaged, []fault.Kind{fault.Corrupt, fault.Invalid, fault.Unavailable}},
		"another digest": {s.host + "/lab/two@sha256:" + strings.Repeat("0", 64), nil, []fault.Kind{fault.NotFound}},
		"a failing server": {s.host + "/lab/two:1", func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "no", http.StatusTeapot)
			return true
		}, []fault.Kind{fault.Unavailable}},
	} {
		s.spoil.Store(nil)
		if tc.spoil != nil {
			s.spoiled(tc.spoil)
		}
		_, err := open(t, "docker://"+tc.ref, Options{})
		ok := false
		for _, k := range tc.kinds {
			ok = ok || errors.Is(err, k)
		}
		if !ok || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v (%s)", what, err, fault.KindOf(err))
		}
	}
}

func TestALayerThatIsABombIsRefused(t *testing.T) {
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(containerOf(t, "amd64", archive("zeros", strings.Repeat("\x00", 66<<20)))); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, "oci:"+dir, Options{}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "bomb") {
		t.Errorf("got %v", err)
	}
	if _, err := open(t, "oci:"+dir, Options{Limits: segment.Limits{Bytes: 1 << 20, Ratio: 1 << 40}}); !errors.Is(err, fault.Invalid) {
		t.Errorf("more bytes than may be: %v", err)
	}
}

func TestTheDaemonOfThisMachineIsAsked(t *testing.T) {
	var saved bytes.Buffer
	tag, _ := name.NewTag("lab/two:1")
	if err := tarball.Write(tag, two(t), &saved); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path { // with nothing of a name in the query
		case "/images/lab/two:1/get", "/images/lab/new:latest/get", "/images/0123abcd/get", "/images/sha256:0123abcd/get":
			w.Write(saved.Bytes())
		default:
			http.NotFound(w, r)
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	for _, ref := range []string{"docker-daemon:lab/two:1", "docker-daemon://lab/two:1"} {
		tree, err := open(t, ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := words(t, tree); got != twoWords || !strings.HasPrefix(tree.Label, "docker-daemon:lab/two:1@sha256:") {
			t.Errorf("%s holds %s", tree.Label, got)
		}
	}
	for _, name := range []string{"lab/new", "0123abcd", "sha256:0123abcd"} {
		if _, err := open(t, "docker-daemon:"+name, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(t, "docker-daemon:lab/two:1/get?x=", Options{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("a name with a question mark: %v", err)
	}
	if _, err := open(t, "docker-daemon:lab/none", Options{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("what it does not have: %v", err)
	}
	t.Setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
	if _, err := open(t, "docker-daemon:lab/two:1", Options{}); !errors.Is(err, fault.Invalid) || fault.Fix(err) == "" {
		t.Errorf("one elsewhere: %v", err)
	}
}

func TestTarsAreReadFromFilesAndStandardInput(t *testing.T) {
	plain := archive("etc/", "", "etc/a", "1")
	dir := t.TempDir()
	write := func(name string, compress func(io.Writer) io.WriteCloser) string {
		var b bytes.Buffer
		w := compress(&b)
		w.Write(plain)
		w.Close()
		path := filepath.Join(dir, name)
		os.WriteFile(path, b.Bytes(), 0o644)
		return path
	}
	paths := []string{
		write("x.tar.gz", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
	}
	os.WriteFile(filepath.Join(dir, "with:colon.tar"), plain, 0o644)
	paths = append(paths, filepath.Join(dir, "with:colon.tar"), "file://"+filepath.Join(dir, "with:colon.tar"))
	for _, path := range paths {
		tree, err := open(t, path, Options{})
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
			continue
		}
		if got := words(t, tree); got != "etc etc/a=1" {
			t.Errorf("%s holds %s", filepath.Base(path), got)
		}
	}
	tree, err := open(t, "-", Options{Stdin: io.MultiReader(bytes.NewReader(plain))})
	if err != nil || words(t, tree) != "etc etc/a=1" {
		t.Errorf("standard input: %v", err)
	}
}

func TestWhatIsNoSourceIsSaid(t *testing.T) {
	sif := filepath.Join(t.TempDir(), "x.sif")
	os.WriteFile(sif, append([]byte("#!/usr/bin/env run-singularity\n\x00SIF_MAGIC\x0001\x00"), make([]byte, 4096)...), 0o644)
	for text, kind := range map[string]fault.Kind{
		"": fault.Invalid, "docker://": fault.Invalid, "docker:debian": fault.Invalid, "docker-daemon:": fault.Invalid, "docker://a b": fault.Invalid,
		"oci:/nowhere": fault.NotFound, "oci-archive:/nowhere:tag": fault.NotFound, "/nowhere": fault.NotFound, "https://x/y.tar": fault.Invalid,
		"oras://x/y": fault.Invalid, "/dev/null": fault.Invalid, sif: fault.Invalid,
	} {
		_, err := open(t, text, Options{})
		if !errors.Is(err, kind) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestACancelledFetchEnds(t *testing.T) {
	s := newServer(t)
	s.push(t, "lab/two:1", two(t))
	ctx, cancel := context.WithCancel(t.Context())
	s.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			cancel()
			<-r.Context().Done()
			return true
		}
		return false
	})
	ref, _ := Parse("docker://" + s.host + "/lab/two:1")
	if _, err := Open(ctx, ref, Options{Work: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"docker://x", "oci:/a:b", "-", "docker-archive:x:y", "file:///x", "::", "docker-daemon:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := Parse(s); err == nil && r.Kind == "" {
			t.Fatalf("%q has no kind", s)
		}
	})
}
