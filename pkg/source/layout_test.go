package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// layoutOf writes a layout with images by tag.
func layoutOf(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for tag, img := range images {
		if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLayoutsAndArchivesAreRead(t *testing.T) {
	img := two(t)
	dir := t.TempDir()
	p, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"one", "other"} {
		i := img
		if tag == "other" {
			i = containerOf(t, "amd64", archive("x", "other"))
		}
		if err := p.AppendImage(i, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
			t.Fatal(err)
		}
	}
	pack(t, filepath.Join(dir, "layout"), filepath.Join(dir, "layout.tar"), false)
	pack(t, filepath.Join(dir, "layout"), filepath.Join(dir, "layout.tgz"), true)
	tag, _ := name.NewTag("lab/two:one")
	if err := tarball.WriteToFile(filepath.Join(dir, "docker.tar"), tag, img); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{
		"oci:" + dir + "/layout:one", "oci-archive:" + dir + "/layout.tar:one", "oci-archive:" + dir + "/layout.tgz:one",
		"docker-archive:" + dir + "/docker.tar", "docker-archive:" + dir + "/docker.tar:one", "docker-archive://" + dir + "/docker.tar",
	} {
		tree, err := open(t, ref, Options{})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if got := words(t, tree); got != twoWords {
			t.Errorf("%s holds %s", ref, got)
		}
	}
	for _, ref := range []string{"oci:" + dir + "/layout:none", "docker-archive:" + dir + "/docker.tar:none"} {
		if _, err := open(t, ref, Options{}); !errors.Is(err, fault.NotFound) || !strings.Contains(fault.Fix(err), "one") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := open(t, "oci:"+dir+"/layout", Options{}); !errors.Is(err, fault.Invalid) || !strings.Contains(fault.Fix(err), "one, other") {
		t.Errorf("one of two without a tag: %v", err)
	}
	if _, err := open(t, "oci:"+dir, Options{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a directory that is no layout: %v", err)
	}
}

// pack makes a tar of a directory.
func pack(t testing.TB, dir, file string, compressed bool) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out io.WriteCloser = f
	if compressed {
		out = gzip.NewWriter(f)
	}
	w := tar.NewWriter(out)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil && compressed {
		t.Fatal(err)
	}
}

func TestAForgedLayoutIsRefused(t *testing.T) {
	made := func(t *testing.T, change func(dir string, m map[string]any)) string {
		dir := t.TempDir()
		p, err := layout.Write(dir, empty.Index)
		if err != nil {
			t.Fatal(err)
		}
		img := two(t)
		if err := p.AppendImage(img); err != nil {
			t.Fatal(err)
		}
		raw, _ := img.RawManifest()
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		change(dir, m)
		raw, _ = json.Marshal(m)
		h, n, _ := v1.SHA256(bytes.NewReader(raw))
		os.WriteFile(filepath.Join(dir, "blobs/sha256", h.Hex), raw, 0o644)
		index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":%q,"size":%d}]}`, h, n)
		os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o644)
		return dir
	}
	layer := func(m map[string]any, i int) map[string]any { return m["layers"].([]any)[i].(map[string]any) }
	blob := func(dir string, l map[string]any) string {
		return filepath.Join(dir, "blobs/sha256", strings.TrimPrefix(l["digest"].(string), "sha256:"))
	}
	for what, change := range map[string]func(string, map[string]any){
		"a layer less than the configuration names": func(_ string, m map[string]any) { m["layers"] = m["layers"].([]any)[:1] },
		"layers in another order": func(_ string, m map[string]any) {
			l := m["layers"].([]any)
			l[0], l[1] = l[1], l[0]
		},
		"a layer that is not there":     func(dir string, m map[string]any) { os.Remove(blob(dir, layer(m, 0))) },
		"a layer that was cut short":    func(dir string, m map[string]any) { os.Truncate(blob(dir, layer(m, 0)), 100) },
		"a layer that is longer":        func(dir string, m map[string]any) { grow(blob(dir, layer(m, 0))) },
		"a layer whose size is a lie":   func(_ string, m map[string]any) { layer(m, 0)["size"] = 5 },
		"a digest that is a path":       func(_ string, m map[string]any) { layer(m, 0)["digest"] = "sha256:../../../../etc/passwd" },
		"a digest of another algorithm": func(_ string, m map[string]any) { layer(m, 0)["digest"] = "md5:" + strings.Repeat("0", 32) },
		"a layer that is no archive": func(dir string, m map[string]any) {
			os.WriteFile(blob(dir, layer(m, 0)), []byte("hello"), 0o644)
			layer(m, 0)["size"] = 5
		},
		"no layers":            func(_ string, m map[string]any) { m["layers"] = []any{} },
		"a configuration less": func(_ string, m map[string]any) { delete(m, "config") },
	} {
		t.Run(what, func(t *testing.T) {
			dir := made(t, change)
			_, err := open(t, "oci:"+dir, Options{})
			if k := fault.KindOf(err); err == nil || k == fault.Internal || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v (%s)", err, k)
			}
		})
	}
}

func grow(path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		f.WriteString("more")
		f.Close()
	}
}

func TestTagsMayBeWholeNames(t *testing.T) {
	dir := layoutOf(t, map[string]v1.Image{"localhost/two:9": two(t), "localhost/other:8": containerOf(t, "amd64", archive("x", "1"))})
	for _, tag := range []string{"localhost/two:9", "9"} {
		tree, err := open(t, "oci:"+dir+":"+tag, Options{})
		if err != nil || words(t, tree) != twoWords {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

func TestTwoTagsOfOneImageAreOneImage(t *testing.T) {
	dir := layoutOf(t, map[string]v1.Image{"1": two(t), "latest": two(t)})
	if _, err := open(t, "oci:"+dir, Options{}); err != nil {
		t.Error(err)
	}
}

func TestOneImagePackedInTwoWaysIsOneImage(t *testing.T) {
	var index v1.ImageIndex = empty.Index
	for _, how := range []string{"plain", "chunked"} { // as podman manifest push --add-compression leaves it
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: containerOf(t, "amd64", archive("how", how)), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
		})
	}
	dir := t.TempDir()
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})); err != nil {
		t.Fatal(err)
	}
	if tree, err := open(t, "oci:"+dir, Options{}); err != nil || words(t, tree) != "how=plain" {
		t.Errorf("got %v", err)
	}
}

func TestIndexesThatNameIndexesHaveAnEnd(t *testing.T) {
	var index v1.ImageIndex = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: two(t)})
	for range maxIndexes + 2 {
		index = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
	}
	dir := t.TempDir()
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, "oci:"+dir, Options{}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "indexes") {
		t.Errorf("got %v", err)
	}
}

func TestAPipeInALayoutIsNotWaitedFor(t *testing.T) {
	img := two(t)
	layers, _ := img.Layers()
	config, _ := img.ConfigName()
	digest, _ := img.Digest()
	layer, _ := layers[1].Digest()
	for _, name := range []string{"index.json", blobOf(digest), blobOf(config), blobOf(layer)} {
		dir := layoutOf(t, map[string]v1.Image{"1": img})
		path := filepath.Join(dir, name)
		os.Remove(path)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, "oci:"+dir, Options{}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALayoutDoesNotLeadOut(t *testing.T) {
	img := two(t)
	dir := layoutOf(t, map[string]v1.Image{"1": img})
	config, _ := img.ConfigName()
	raw, _ := img.RawConfigFile()
	outside := filepath.Join(t.TempDir(), "config")
	os.WriteFile(outside, raw, 0o644)
	os.Remove(filepath.Join(dir, blobOf(config)))
	os.Symlink(outside, filepath.Join(dir, blobOf(config)))
	if _, err := open(t, "oci:"+dir, Options{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsAContainerImageIsReadAsOne(t *testing.T) {
	dir := t.TempDir()
	one := layoutOf(t, map[string]v1.Image{"1": two(t)})
	pack(t, one, filepath.Join(dir, "layout.tgz"), true)
	tag, _ := name.NewTag("lab/two:1")
	if err := tarball.WriteToFile(filepath.Join(dir, "saved.tar"), tag, two(t)); err != nil {
		t.Fatal(err)
	}
	for path, label := range map[string]string{one: "oci:" + one, dir + "/layout.tgz": "oci-archive:" + dir, dir + "/saved.tar": "docker-archive:" + dir} {
		tree, err := open(t, path, Options{})
		if err != nil || words(t, tree) != twoWords || !strings.HasPrefix(tree.Label, label) {
			t.Errorf("%s: %v", path, err)
		}
	}
	f, err := os.Open(dir + "/saved.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if tree, err := open(t, "-", Options{Stdin: f}); err != nil || words(t, tree) != twoWords || !strings.HasPrefix(tree.Label, "docker-archive:-@sha256:") {
		t.Errorf("standard input: %v", err)
	}
	os.WriteFile(dir+"/root.tar", archive("manifest.json", "[]", "etc/", "", "index.json", "x"), 0o644)
	if tree, err := open(t, dir+"/root.tar", Options{}); err != nil || words(t, tree) != "etc index.json=x manifest.json=[]" {
		t.Errorf("a tree with such files: %v", err)
	}
}

func TestAFileThatNoImageCanHoldIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	os.WriteFile(path, archive("var/large", strings.Repeat("x", 100)), 0o644)
	for _, ref := range []string{path, "oci:" + layoutOf(t, map[string]v1.Image{"1": containerOf(t, "amd64", archive("var/large", strings.Repeat("x", 100)))})} {
		if _, err := open(t, ref, Options{Limits: segment.Limits{File: 99}}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `"var/large"`) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestASandboxBuiltWithoutRootIsRefused(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, ".singularity.d/env"), 0o755)
	os.WriteFile(filepath.Join(dir, ".singularity.d/env/x"), []byte("1"), 0o644)
	os.Symlink(".singularity.d/env/x", filepath.Join(dir, "environment"))
	if os.Getuid() == 0 {
		if tree, err := open(t, dir, Options{}); err != nil || len(tree.Entries()) != 4 {
			t.Errorf("root's: %v", err)
		}
		if err := os.Chown(filepath.Join(dir, ".singularity.d"), 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, dir, Options{}); !errors.Is(err, fault.Invalid) || !strings.Contains(fault.Fix(err), "sudo") {
		t.Errorf("a user's: %v", err)
	}
}

func TestReadingAnArchiveIsSeenAndCanBeEnded(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "x.tar")
	os.WriteFile(plain, archive("x", strings.Repeat("x", 1<<20)), 0o644)
	packed := filepath.Join(dir, "x.tgz")
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	os.WriteFile(filepath.Join(dir, "d/x"), bytes.Repeat([]byte("x"), 1<<20), 0o644)
	pack(t, filepath.Join(dir, "d"), packed, true)
	fi, _ := os.Stat(packed)
	var last atomic.Int64
	progress := func(_ string, done, total int64) {
		if total != fi.Size() {
			t.Errorf("%d of %d bytes, and not of %d", done, total, fi.Size())
		}
		last.Store(done)
	}
	if _, err := open(t, packed, Options{Progress: progress}); err != nil || last.Load() != fi.Size() {
		t.Errorf("%d of %d bytes were seen: %v", last.Load(), fi.Size(), err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		f, _ := os.Open(plain)
		io.Copy(w, f)
		f.Close()
		w.Close()
	}()
	last.Store(0)
	tree, err := open(t, "-", Options{Stdin: r, Progress: func(_ string, done, _ int64) { last.Store(done) }})
	if err != nil || len(tree.Entries()) != 1 || last.Load() < 1<<20 {
		t.Errorf("a pipe, %d bytes: %v", last.Load(), err)
	}
}

func TestHostileLayersOfAnImageAreNamed(t *testing.T) {
	base := archive("etc/", "", "etc/passwd", "root")
	for what, tc := range map[string]struct {
		layer []byte
		say   string
	}{
		"a path that leads out": {archive("../../etc/cron.d/x", "x"), `"../../etc/cron.d/x"`},
		"an absolute path":      {archive("/etc/cron.d/x", "x"), `"/etc/cron.d/x"`},
		"below a file":          {archive("etc/passwd/x", "x"), `"etc/passwd/x"`},
		"cut short":             {archive("etc/x", strings.Repeat("x", 4000))[:1500], "etc/x"},
		"a name without an end": {archive("etc/"+strings.Repeat("y", 300), "x"), "255"},
	} {
		dir := layoutOf(t, map[string]v1.Image{"1": containerOf(t, "amd64", base, tc.layer)})
		_, err := open(t, "oci:"+dir, Options{})
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.say) || !strings.Contains(err.Error(), "layer sha256:") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := new(Tree).layers(t.Context(), &image{layers: make([]blob, maxLayers+1)}, Options{}); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "501 layers") {
		t.Errorf("too many layers: %v", err)
	}
}

// FuzzLayout gives the documents of a layout, or of docker's archive, any form. MANIFEST and CONFIG in them are the digests
// of the other ones, which no fuzzer guesses.
func FuzzLayout(f *testing.F) {
	const index = `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:MANIFEST","size":1,"annotations":{"org.opencontainers.image.ref.name":"x"}}]}`
	const manifest = `{"schemaVersion":2,"config":{"digest":"sha256:CONFIG","size":1},"layers":[{"digest":"sha256:CONFIG","size":1}]}`
	const config = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:CONFIG"]}}`
	for _, tag := range []string{"", "x"} {
		f.Add([]byte(index), []byte(manifest), []byte(config), []byte(`[{"Config":"c","RepoTags":["a:x"],"Layers":["c"]}]`), tag)
		f.Add([]byte(strings.Replace(index, "manifest.v1", "index.v1", 1)), []byte(index), []byte(manifest), []byte(`[{"Config":"../c","Layers":["/c"]}]`), tag)
	}
	f.Fuzz(func(t *testing.T, index, manifest, config, saved []byte, tag string) {
		files := fstest.MapFS{"c": {Data: config}}
		add := func(b []byte) []byte {
			d := describe("", b)
			files[blobOf(d.Digest)] = &fstest.MapFile{Data: b}
			return []byte(d.Digest.Hex)
		}
		c := add(config)
		m := add(bytes.ReplaceAll(manifest, []byte("CONFIG"), c))
		files["index.json"] = &fstest.MapFile{Data: bytes.ReplaceAll(index, []byte("MANIFEST"), m)}
		files["manifest.json"] = &fstest.MapFile{Data: saved}
		for _, read := range []func(fs.FS, Ref, Options) (*image, error){layoutImage, dockerImage} {
			i, err := read(files, Ref{Kind: LayoutArchive, Name: "x", Tag: tag}, Options{})
			if err != nil {
				if fault.KindOf(err) == fault.Internal || strings.Contains(err.Error(), "\n") && !strings.Contains(tag, "\n") {
					t.Fatalf("%v (%s)", err, fault.KindOf(err))
				}
				continue
			}
			for n := range i.layers {
				if r, err := i.layers[n].open(t.Context()); err == nil {
					r.Close()
				}
			}
		}
	})
}
