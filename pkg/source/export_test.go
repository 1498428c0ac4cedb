package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// everything is a tree with all that a tree can have.
func everything(t testing.TB) segment.Source {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	long := strings.Repeat("long/", 60)
	for _, h := range []tar.Header{
		{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3_000_000, Gid: 8, PAXRecords: map[string]string{"SCHILY.xattr.user.dir": "d"}},
		{Name: "a/cap", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 3, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00", "SCHILY.xattr.user.none": "", "LIBARCHIVE.xattr.user.a%3Db%20+": "dmFsdWU",
		}},
		{Name: "a/cap2", Typeflag: tar.TypeLink, Linkname: "a/cap"},
		{Name: "a/empty", Typeflag: tar.TypeReg},
		{Name: "a/empty2", Typeflag: tar.TypeLink, Linkname: "a/empty"},
		{Name: "a/latin-\xe4", Typeflag: tar.TypeReg, Size: 3},
		{Name: "a/points", Typeflag: tar.TypeSymlink, Linkname: "../\xe4"},
		{Name: "dev/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "dev/whiteout-of-overlayfs", Typeflag: tar.TypeChar, Mode: 0o600},
		{Name: "dev/vda", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 254, Devminor: 0xfffff},
		{Name: "dev/initctl", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: long + "name with \u00fc and\nnew line", Typeflag: tar.TypeReg, Size: 3, ModTime: time.Unix(1_700_000_000, 0)},
		{Name: long + "link", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("../", 200) + "x"},
	} {
		h.Format = tar.FormatPAX
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
		if h.Typeflag == tar.TypeReg {
			fmt.Fprint(w, "abc"[:h.Size])
		}
	}
	w.Close()
	src, err := segment.OpenTar(bytes.NewReader(b.Bytes()), t.TempDir(), segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// same fails the test unless two trees are the same, entries and bytes.
func same(t testing.TB, got, want segment.Source) {
	t.Helper()
	if !reflect.DeepEqual(got.Entries(), want.Entries()) {
		for i, e := range want.Entries() {
			if i >= len(got.Entries()) || !reflect.DeepEqual(got.Entries()[i], e) {
				t.Errorf("entry %d is not %+v", i, e)
				break
			}
		}
		t.Fatalf("got %d entries\n%+v\nwant %d", len(got.Entries()), got.Entries(), len(want.Entries()))
	}
	if a, b := words(t, got), words(t, want); a != b {
		t.Errorf("got the content %q, want %q", a, b)
	}
}

func TestAnExportedTarIsTheSameTree(t *testing.T) {
	src := everything(t)
	var b, again bytes.Buffer
	if err := WriteTar(t.Context(), &b, src); err != nil {
		t.Fatal(err)
	}
	if err := WriteTar(t.Context(), &again, src); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("the second time it has other bytes: %v", err)
	}
	tree, err := open(t, "-", Options{Stdin: bytes.NewReader(b.Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	same(t, tree, src)
}

func TestGNUTarReadsAnExportedTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar")
	}
	var b, said bytes.Buffer
	if err := WriteTar(t.Context(), &b, everything(t)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("tar", "--quoting-style=literal", "--numeric-owner", "-tvf", "-")
	c.Stdin, c.Stderr = &b, &said
	list, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	for _, want := range []string{"drwxrwxrwt 3000000/8 ", "crw-rw-rw- 0/0 ", "a/cap2 link to a/cap", "a/latin-\xe4", "prw-------"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("it does not see %q in\n%s", want, list)
		}
	}
}

func TestAnExportedImageIsTheSameTreeForEverybody(t *testing.T) {
	src := everything(t)
	for _, gz := range []bool{false, true} {
		m := Meta{
			Name: "localhost/rocky:9", Platform: "arm64", Created: time.Unix(1_700_000_000, 0), Labels: map[string]string{"org.example": "x"}, Gzip: gz,
		}
		export := func() []byte {
			var b bytes.Buffer
			work := t.TempDir()
			if err := WriteOCI(t.Context(), &b, src, m, work); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(work); len(left) > 0 {
				t.Errorf("%d files are left", len(left))
			}
			return b.Bytes()
		}
		first := export()
		before := runtime.GOMAXPROCS(1)
		again := export()
		runtime.GOMAXPROCS(before)
		if !bytes.Equal(first, again) {
			t.Error("the second time it has other bytes")
		}
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, first, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{"oci-archive:" + file, "oci-archive:" + file + ":9", "docker-archive:" + file, "docker-archive:" + file + ":localhost/rocky:9"} {
			tree, err := open(t, ref, Options{Platform: "arm64"})
			if err != nil {
				t.Errorf("%s: %v", ref, err)
				continue
			}
			same(t, tree, src)
		}
		readByTheLibrary(t, file, m)
	}
}

// readByTheLibrary opens an archive as a layout and as docker does.
func readByTheLibrary(t *testing.T, file string, m Meta) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := segment.OpenTar(f, dir, segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range tree.Entries() {
		to := filepath.Join(dir, e.Path)
		if e.Type == segment.Dir {
			os.Mkdir(to, 0o755)
			continue
		}
		f, err := tree.Open(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(f)
		os.WriteFile(to, b, 0o644)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil || len(list.Manifests) != 1 || list.Manifests[0].Annotations[refName] != "9" || list.Manifests[0].Platform.String() != "linux/arm64" {
		t.Fatalf("the index: %v, %+v", err, list)
	}
	img, err := index.Image(list.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil || c.Architecture != "arm64" || !c.Created.Equal(m.Created) || c.Config.Labels["org.example"] != "x" {
		t.Errorf("the configuration: %v, %+v", err, c)
	}
	right(t, "the layout", img)
	tag, _ := name.NewTag(m.Name)
	old, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	right(t, "docker's archive", old)
}

// right fails the test unless the one layer of an image is what the image says of it.
func right(t *testing.T, what string, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%s: %d layers, %v", what, len(layers), err)
	}
	want, err := layers[0].DiffID()
	if err != nil {
		t.Fatal(err)
	}
	in, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, _, err := v1.SHA256(in); err != nil || got != want {
		t.Errorf("%s: its layer is %v, %v, and not %v", what, got, err, want)
	}
}

func TestAnExportedVersionIsBuiltToTheSameChunks(t *testing.T) {
	build := func(src segment.Source) (*segment.Result, map[chunk.ID][]byte) {
		var mu sync.Mutex
		chunks := make(map[chunk.ID][]byte)
		r, err := segment.Build(t.Context(), src, segment.Options{
			Exclude: func(path string) bool { return path == "a/empty" || path == "a/points" },
			Sink: func(ref chunk.Ref, b []byte) error {
				mu.Lock()
				defer mu.Unlock()
				chunks[ref.ID] = bytes.Clone(b)
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r, chunks
	}
	made, chunks := build(everything(t))
	m := &chunk.Manifest{Segments: made.Segments, Aside: made.Aside, Index: made.Index, Extras: made.Extras, Files: made.Files, Unpacked: made.Unpacked}
	version, err := segment.OpenImage(t.Context(), m, func(_ context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(chunks[ref.ID])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(WriteOCI(t.Context(), f, version, Meta{Name: "x"}, ""), f.Close()); err != nil {
		t.Fatal(err)
	}
	tree, err := open(t, file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := build(tree.Source); !reflect.DeepEqual(again, made) {
		t.Errorf("got %+v\nwant %+v", again, made)
	}
}

func TestWhatCannotBeExportedIsSaid(t *testing.T) {
	hides, err := open(t, "-", Options{Stdin: bytes.NewReader(archive("etc/.wh.passwd", "x"))})
	if err != nil {
		t.Fatal(err)
	}
	plain := everything(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "grows"), []byte("123"), 0o644)
	gone, err := segment.OpenDir(dir, segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	os.WriteFile(filepath.Join(dir, "grows"), []byte("1"), 0o644)
	good := Meta{Name: "x:1"}
	for what, tc := range map[string]struct {
		ctx  context.Context
		src  segment.Source
		m    Meta
		kind error
		say  string
	}{
		"a name that hides":  {t.Context(), hides, good, fault.Invalid, ".wh.passwd"},
		"no name":            {t.Context(), plain, Meta{}, fault.Invalid, "name"},
		"a name in capitals": {t.Context(), plain, Meta{Name: "Rocky"}, fault.Invalid, "Rocky"},
		"no platform":        {t.Context(), plain, Meta{Name: "x", Platform: "a/b/c/d"}, fault.Invalid, "a/b/c/d"},
		"the end":            {ended, plain, good, context.Canceled, ""},
		"a file that shrank": {t.Context(), gone, good, fault.Conflict, "grows"},
	} {
		err := WriteOCI(tc.ctx, io.Discard, tc.src, tc.m, t.TempDir())
		if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := WriteTar(t.Context(), full{}, plain); !errors.Is(err, fault.Full) {
		t.Errorf("a full disk: %v", err)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}
}
