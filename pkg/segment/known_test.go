package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// counting counts the files that are opened.
type counting struct {
	*Directory
	opened atomic.Int64
}

func (c *counting) Open(path string) (io.ReadCloser, error) {
	c.opened.Add(1)
	return c.Directory.Open(path)
}

// oldTree is a directory whose files were written long ago, as far as their inodes say: what was written just now has
// no stamp. Only the time of the scan can be moved, for nobody can set a ctime.
func openLater(t *testing.T, dir string) *counting {
	t.Helper()
	d, err := OpenDir(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.begun = time.Now().Add(time.Hour)
	return &counting{Directory: d}
}

func writeTree(t *testing.T, dir string, files int) {
	t.Helper()
	for i := range files {
		path := filepath.Join(dir, fmt.Sprintf("usr/lib/%03d/file", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i), byte(i >> 3), 7}, 40_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sink is a store that counts what is sent to it.
type sink struct {
	chunks map[chunk.ID][]byte
	sent   int
}

// build builds with one worker, so that no two segments are sent at once.
func (s *sink) build(t *testing.T, src Source, k *Known, exclude func(string) bool) (*Result, Progress) {
	t.Helper()
	s.sent = 0
	var mu sync.Mutex // segments that are known are reported while others are built
	var last Progress
	r, err := Build(t.Context(), src, Options{
		Workers: 1, Level: 3, Known: k, Exclude: exclude,
		Has: func(_ context.Context, refs []chunk.Ref) (map[chunk.ID]bool, error) {
			have := make(map[chunk.ID]bool)
			for _, ref := range refs {
				_, have[ref.ID] = s.chunks[ref.ID]
			}
			return have, nil
		},
		Sink: func(ref chunk.Ref, b []byte) error {
			s.sent++
			s.chunks[ref.ID] = slices.Clone(b)
			return nil
		},
		Progress: func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			if p.Segments > last.Segments {
				last = p
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, last
}

func (s *sink) manifest(r *Result) *chunk.Manifest {
	return &chunk.Manifest{Level: 3, Segments: r.Segments, Aside: r.Aside, Index: r.Index, Extras: r.Extras, Files: r.Files, Unpacked: r.Unpacked}
}

func (s *sink) open(t *testing.T, r *Result) *Image {
	t.Helper()
	i, err := OpenImage(t.Context(), s.manifest(r), func(_ context.Context, ref chunk.Ref) (io.ReadCloser, error) {
		b, ok := s.chunks[ref.ID]
		if !ok {
			return nil, fault.New(fault.NotFound, "no chunk %s", ref.ID.Short())
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestWhatHasNotChangedIsNeitherReadNorCompressedAgain(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, 100)
	s, k := &sink{chunks: map[chunk.ID][]byte{}}, NewKnown()
	first, _ := s.build(t, openLater(t, dir), k, nil)

	src := openLater(t, dir)
	again, p := s.build(t, src, k, nil)
	if n := src.opened.Load(); n != 0 || p.Read != 0 || p.Reused != len(again.Segments) {
		t.Errorf("nothing changed: %d files opened, %d bytes read, %d of %d segments used again", n, p.Read, p.Reused, len(again.Segments))
	}
	if !slices.Equal(first.Segments, again.Segments) || first.Index != again.Index {
		t.Error("the same tree became another image")
	}

	changed := filepath.Join(dir, "usr/lib/050/file")
	if err := os.WriteFile(changed, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	src = openLater(t, dir)
	third, p := s.build(t, src, k, nil)
	made := len(third.Segments) - p.Reused
	if made == 0 || made > 3 || src.opened.Load() > 40 {
		t.Errorf("after a change of one file %d files were opened and %d of %d segments made", src.opened.Load(), made, len(third.Segments))
	}
	fresh, _ := s.build(t, openLater(t, dir), nil, nil)
	if !slices.Equal(fresh.Segments, third.Segments) || fresh.Index != third.Index {
		t.Error("what is known changed what came out")
	}
}

func TestAChunkThatIsNoLongerThereIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, 30)
	s, k := &sink{chunks: map[chunk.ID][]byte{}}, NewKnown()
	first, _ := s.build(t, openLater(t, dir), k, nil)
	lost := first.Segments[len(first.Segments)-1].ID
	delete(s.chunks, lost)
	if _, p := s.build(t, openLater(t, dir), k, nil); p.Reused != len(first.Segments)-1 || s.chunks[lost] == nil {
		t.Errorf("%d of %d segments used again, the lost one is there: %v", p.Reused, len(first.Segments), s.chunks[lost] != nil)
	}
}

func TestWhatIsKnownSurvivesItsFile(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, 20)
	s, k := &sink{chunks: map[chunk.ID][]byte{}}, NewKnown()
	s.build(t, openLater(t, dir), k, nil)
	var b bytes.Buffer
	if err := k.Save(&b); err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadKnown(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if _, p := s.build(t, openLater(t, dir), loaded, nil); p.Reused != p.Total || p.Read != 0 {
		t.Errorf("after loading: %+v", p)
	}
	for at := range b.Len() {
		damaged := slices.Clone(b.Bytes())
		damaged[at] ^= 0x10
		if _, err := LoadKnown(bytes.NewReader(damaged)); !errors.Is(err, fault.Corrupt) {
			t.Fatalf("a bit of byte %d flipped: %v", at, err)
		}
	}
	if _, err := LoadKnown(bytes.NewReader(b.Bytes()[:b.Len()/2])); !errors.Is(err, fault.Corrupt) {
		t.Errorf("cut short: %v", err)
	}
}

// An archive tells nothing by its times: its files are read, and only what is new is compressed.
func TestSegmentsOfThePublishedVersionAreLearnt(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, 60)
	s := &sink{chunks: map[chunk.ID][]byte{}}
	first, _ := s.build(t, openLater(t, dir), nil, nil)
	image := s.open(t, first)
	k := NewKnown()
	k.Learn(image)
	plain := struct{ Source }{openLater(t, dir)} // without stamps
	if _, p := s.build(t, plain, k, nil); p.Reused != p.Total || p.Read == 0 {
		t.Errorf("the same tree from elsewhere: %+v", p)
	}
	other := NewKnown()
	other.Learn(image)
	d := openLater(t, dir)
	other.LearnDir(d.Directory, image.Sum)
	if _, p := s.build(t, d, other, nil); p.Reused != p.Total || p.Read != 0 {
		t.Errorf("a directory that the image was unpacked into: %+v", p)
	}
}

func TestAFileWrittenJustNowHasNoStamp(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, 1)
	d, err := OpenDir(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, ok := d.Stamp("usr/lib/000/file"); ok {
		t.Error("it could be written to again within the same tick")
	}
}

func TestWhatIsExcludedGoesAsideAndStaysInTheImage(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, 40)
	for path, body := range map[string]string{
		"etc/warewulf/excludes": "# for nodes\n/boot/\nusr/share/doc/*\n\n", "boot/vmlinuz": "kernel", "boot/grub/x": "x",
		"usr/share/doc/a/copyright": "c", "usr/share/doc.txt": "stays",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "boot/vmlinuz"), filepath.Join(dir, "usr/linked")); err != nil {
		t.Fatal(err)
	}
	src := openLater(t, dir)
	exclude, err := ReadExcludes(src)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{chunks: map[chunk.ID][]byte{}}
	r, _ := s.build(t, src, nil, exclude)
	image := s.open(t, r)
	if err := image.Verify(); err != nil {
		t.Fatal(err)
	}
	for path, aside := range map[string]bool{
		"boot": true, "boot/vmlinuz": true, "boot/grub/x": true, "usr/share/doc": false, "usr/share/doc/a": true, "usr/share/doc/a/copyright": true,
		"usr/share/doc.txt": false, "usr/linked": false,
	} {
		if image.Aside(path) != aside {
			t.Errorf("%s: aside %v", path, !aside)
		}
	}
	for _, path := range []string{"boot/vmlinuz", "usr/linked"} {
		f, err := image.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(f); string(b) != "kernel" {
			t.Errorf("%s holds %q", path, b)
		}
		f.Close()
	}
	exclude, err = ReadExcludes(image)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := s.build(t, image, nil, exclude); !slices.Equal(again.Segments, r.Segments) || !slices.Equal(again.Aside, r.Aside) || again.Index != r.Index {
		t.Error("the image built again is another one")
	}
	k := NewKnown()
	k.Learn(image)
	if _, p := s.build(t, openLater(t, dir), k, exclude); p.Reused != p.Total {
		t.Errorf("learnt from the image: %+v", p)
	}
}

func TestALineThatIsNoPatternIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/wulf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/wulf/excludes"), []byte("ok\n[a-\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExcludes(openLater(t, dir)); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoadKnown(f *testing.F) {
	var b bytes.Buffer
	k := NewKnown()
	k.putFile(Stamp{1, 2, 3, 4, 5}, chunk.Of([]byte("x")))
	k.putSegment(chunk.Of([]byte("y")), chunk.Segment{Ref: chunk.RefOf([]byte("z")), Unpacked: 1, Files: 2})
	if err := k.Save(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		k, err := LoadKnown(bytes.NewReader(in))
		if err != nil {
			return
		}
		if err := k.Save(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
