package segment

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// manifest describes what was built.
func (b built) manifest() *chunk.Manifest {
	return &chunk.Manifest{Format: chunk.ManifestFormat, Image: "test", Arch: "amd64", Segments: b.Segments, Aside: b.Aside,
		Index: b.Index, Extras: b.Extras, Files: b.Files, Unpacked: b.Unpacked}
}

// open reads the chunks that were built.
func (b built) open(_ context.Context, ref chunk.Ref) (io.ReadCloser, error) {
	data, ok := b.chunks[ref.ID]
	if !ok {
		return nil, fault.New(fault.NotFound, "no chunk %s", ref.ID.Short())
	}
	return io.NopCloser(stream{bytes.NewReader(data)}), nil
}

func openImage(t testing.TB, b built) *Image {
	t.Helper()
	i, err := OpenImage(context.Background(), b.manifest(), b.open)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// everything is a tree with all that an image can hold, also files in segments of their own, with links to them.
func everything() []item {
	odd := func(n int) string { return strings.Repeat("not much to compress: \x01\x02", n) }
	shared := regular("usr/lib/shared", odd(100_000))
	shared.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "of both names"}
	opt := dir("opt/noted", 0o2755)
	opt.PAXRecords = map[string]string{"SCHILY.xattr.user.dir": "a directory\x00\xff"}
	return append(append(system(), library(11, 150)...),
		shared, hardlink("usr/lib/shared2", "usr/lib/shared"), opt,
		regular("usr/lib/huge", odd(500_000)), hardlink("a-first-name-of-huge", "usr/lib/huge"),
		regular("usr/share/doc/pkg/copyright", "ours"), regular("var/lib/dpkg/status", "Package: x"),
		regular("etc/a b\n\"c\"", "odd name"), symlink("etc/odd", "\xff\xfe/<>&"),
		symlink("var/tmp", "../tmp"))
}

func TestAnImageBuiltAgainHasTheSameChunks(t *testing.T) {
	src := openTar(t, makeTar(t, everything()...))
	want := build(t, src, Options{})
	image := openImage(t, want)
	for n, e := range image.Entries() {
		if w := normal(&src.Entries()[n]); fmt.Sprint(e) != fmt.Sprint(w) {
			t.Errorf("got  %+v\nwant %+v", e, w)
		}
		if e.Type == File {
			if sum, err := image.Sum(e.Path); err != nil || sum != chunk.Of([]byte(read(t, src, e.Path))) {
				t.Errorf("%q: digest %v (%v)", e.Path, sum, err)
			}
		}
	}
	got := build(t, image, Options{Workers: 4})
	if !reflect.DeepEqual(got.Result, want.Result) {
		t.Error("the image built from itself is another one")
	}
	if err := image.Verify(); err != nil {
		t.Error(err)
	}
}

func TestAnImageThatKeepsThingsFromNodesIsBuiltAgainAsWell(t *testing.T) {
	src := openTar(t, makeTar(t, everything()...))
	o := Options{Level: 1, Exclude: func(path string) bool {
		for _, p := range []string{"usr/lib/shared2", "etc", "usr/bin/ping", "usr/lib/part03", "opt/noted", "dev"} {
			if path == p || strings.HasPrefix(path, p+"/") {
				return true
			}
		}
		return false
	}}
	want := build(t, src, o)
	image := openImage(t, want)
	if err := image.Verify(); err != nil {
		t.Fatal(err)
	}
	if got := build(t, image, o); len(got.Aside) < 2 || !reflect.DeepEqual(got.Result, want.Result) {
		t.Error("the image built from itself is another one")
	}
	for _, e := range src.Entries() {
		if image.Aside(e.Path) != o.Exclude(e.Path) {
			t.Errorf("%q: aside is %v", e.Path, image.Aside(e.Path))
		}
		if e.Type == File && read(t, image, e.Path) != read(t, src, e.Path) {
			t.Errorf("%q has other content", e.Path)
		}
	}
}

func TestImagesAreReadByManyAtOnce(t *testing.T) {
	src := openTar(t, makeTar(t, everything()...))
	b := build(t, src, Options{Level: 1})
	var fetched atomic.Int64
	image, err := OpenImage(context.Background(), b.manifest(), func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		fetched.Add(1)
		return b.open(ctx, ref)
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, e := range src.Entries() {
				if e.Type == File && read(t, image, e.Path) != read(t, src, e.Path) {
					t.Errorf("%q has other content", e.Path)
				}
			}
		})
	}
	wg.Wait()
	// The index, the extras, each small segment once, and the large one for each of its readers.
	if most := int64(2 + len(b.Segments) + 2*4*2); fetched.Load() > most {
		t.Errorf("%d chunks were fetched, want at most %d", fetched.Load(), most)
	}
	for path, kind := range map[string]fault.Kind{"nothing": fault.NotFound, "usr": fault.Invalid, "bin/su": fault.NotFound, "../x": fault.NotFound} {
		if _, err := image.Open(path); !errors.Is(err, kind) {
			t.Errorf("%q: got %v, want %s", path, err, kind)
		}
		if _, err := image.Sum(path); !errors.Is(err, kind) {
			t.Errorf("%q: got %v, want %s", path, err, kind)
		}
	}
}

// noise is a tree whose one large file no compression makes small enough to be held in memory.
func noise(t *testing.T) built {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, heldChunk+100_000)
	r.Read(b)
	return build(t, openTar(t, makeTar(t, regular("small", "small"), regular("noise", string(b)))), Options{Level: 1})
}

func TestLargeChunksAreVerifiedBeforeTheyAreRead(t *testing.T) {
	b := noise(t)
	image := openImage(t, b)
	if sum, err := image.Sum("noise"); err != nil || chunk.Of([]byte(read(t, image, "noise"))) != sum {
		t.Errorf("the large file has other content (%v)", err)
	}
	// At the second time the chunk is another one: the end is an error.
	big := slices.MaxFunc(b.Segments, func(a, b chunk.Segment) int { return cmp.Compare(a.Size, b.Size) })
	if big.Size <= heldChunk {
		t.Fatalf("the large chunk has %d bytes only", big.Size)
	}
	asked := 0
	image, err := OpenImage(context.Background(), b.manifest(), func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		data := b.chunks[ref.ID]
		if ref == big.Ref {
			if asked++; asked > 1 {
				data = bytes.Clone(data)
				data[len(data)-5000] ^= 1
			}
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := image.Open("noise")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "has the digest") {
		t.Errorf("got %v, want fault.Corrupt", err)
	}
}

func TestNothingOfADamagedChunkIsRead(t *testing.T) {
	b := noise(t)
	damaged := true
	image, err := OpenImage(context.Background(), b.manifest(), func(ctx context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		data := b.chunks[ref.ID]
		if damaged && ref != b.Index {
			data = bytes.Clone(data)
			data[len(data)-1] ^= 1
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"small", "noise"} {
		if _, err := image.Open(path); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want fault.Corrupt that names it", path, err)
		}
	}
	damaged = false // it was repaired
	if got := read(t, image, "small"); got != "small" {
		t.Errorf("after the repair: %q", got)
	}
	damaged = true
	if _, err := OpenImage(context.Background(), b.manifest(), func(context.Context, chunk.Ref) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("something else")), nil
	}); !errors.Is(err, fault.Corrupt) {
		t.Errorf("a damaged index: got %v", err)
	}
}

func TestTheShelfIsBounded(t *testing.T) {
	var s shelf
	of := func(n int) chunk.Segment {
		return chunk.Segment{Ref: chunk.Ref{ID: chunk.ID{byte(n)}}, Unpacked: smallSegment}
	}
	first := s.take(of(0))
	for n := range 2 * shelfSize / smallSegment {
		s.take(of(0)) // in use all the time
		s.take(of(n))
		if s.size > shelfSize || s.size != int64(len(s.kept))*smallSegment {
			t.Fatalf("%d bytes in %d segments", s.size, len(s.kept))
		}
	}
	if s.take(of(0)) != first {
		t.Error("what is used all the time is not kept")
	}
	s.drop(first)
	if s.take(of(0)) == first {
		t.Error("what was dropped is still there")
	}
}
