package segment

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// changes are the differences of two trees, one a line.
func changes(t *testing.T, a, b Source, o DiffOptions) string {
	t.Helper()
	var s strings.Builder
	for c, err := range Diff(context.Background(), a, b, o) {
		if err != nil {
			t.Fatal(err)
		}
		if (c.Old == nil) != (c.Kind == Added) || (c.New == nil) != (c.Kind == Removed) || (c.Kind == Changed) != (len(c.What) > 0) {
			t.Errorf("%s: unexpected %+v", c.Path, c)
		}
		fmt.Fprintf(&s, "%s %q %v %+d\n", c.Kind, c.Path, c.What, c.Bytes)
	}
	return s.String()
}

func TestDifferencesAreNamed(t *testing.T) {
	with := func(it item, change func(h *tar.Header)) item { change(&it.Header); return it }
	device := func(minor int64) item {
		return item{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/x", Mode: 0o600, Devmajor: 1, Devminor: minor}}
	}
	noted := func(note string) func(h *tar.Header) {
		return func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.note": note} }
	}
	later := func(h *tar.Header) { h.ModTime = h.ModTime.Add(time.Hour) }
	a := makeTar(t, dir("d", 0o755), regular("d/gone", "12345"), regular("same", "same"), regular("touched", "touched"),
		regular("content", "old"), regular("longer", "123"), regular("mode", "x"), regular("owner", "x"), symlink("link", "a"),
		regular("type", "x"), device(1), with(regular("xattr", "x"), noted("a")), regular("one", "x"), hardlink("two", "one"),
		with(symlink("linkmode", "a"), func(h *tar.Header) { h.Mode = 0o755 }), regular("d.txt", "x"))
	b := makeTar(t, dir("d", 0o755), dir("d/new", 0o755), regular("d/new/file", "123"), regular("same", "same"), with(regular("touched", "touched"), later),
		with(regular("content", "new"), later), regular("longer", "123456"), with(regular("mode", "x"), func(h *tar.Header) { h.Mode = 0o4755 }),
		with(regular("owner", "x"), func(h *tar.Header) { h.Gid = 5 }), symlink("link", "b"), symlink("type", "x"), device(2),
		with(regular("xattr", "x"), noted("b")), regular("one", "x"), regular("two", "x"), symlink("linkmode", "a"), regular("d.txt", "x"))
	want := `changed "content" [content] +0
removed "d/gone" [] -5
added "d/new" [] +0
added "d/new/file" [] +3
changed "dev/x" [device] +0
changed "link" [link] +0
changed "longer" [content] +3
changed "mode" [mode] +0
changed "one" [names] +0
changed "owner" [owner] +0
changed "two" [names] +0
changed "type" [type] -1
changed "xattr" [xattrs] +0
`
	x, y := openTar(t, a), openTar(t, b)
	sameLines(t, changes(t, x, y, DiffOptions{}), want)
	images := []Source{openImage(t, build(t, x, Options{Level: 1})), openImage(t, build(t, y, Options{Level: 1}))}
	sameLines(t, changes(t, images[0], images[1], DiffOptions{}), want)
	sameLines(t, changes(t, images[0], y, DiffOptions{}), want)
	sameLines(t, changes(t, x, images[1], DiffOptions{}), want)
	if got := changes(t, x, images[0], DiffOptions{Times: true}); got != "" {
		t.Errorf("a tree and its image differ:\n%s", got)
	}
	times := changes(t, x, y, DiffOptions{Times: true})
	if !strings.Contains(times, `changed "touched" [time]`) || !strings.Contains(times, `changed "content" [content time]`) {
		t.Errorf("times are not compared:\n%s", times)
	}
}

func TestImagesAreComparedByDigestWhateverTheTimeSays(t *testing.T) {
	x, y := openTar(t, makeTar(t, regular("f", "old"))), openTar(t, makeTar(t, regular("f", "new")))
	if got := changes(t, x, y, DiffOptions{}); got != "" {
		t.Errorf("files of equal size and time are read: %s", got)
	}
	a, b := openImage(t, build(t, x, Options{Level: 1})), openImage(t, build(t, y, Options{Level: 1}))
	if got, want := changes(t, a, b, DiffOptions{}), "changed \"f\" [content] +0\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAComparisonEndsWithItsFirstError(t *testing.T) {
	d := t.TempDir()
	os.WriteFile(filepath.Join(d, "a"), []byte("1"), 0o644)
	os.WriteFile(filepath.Join(d, "b"), []byte("2"), 0o644)
	x, y := scan(t, d), openTar(t, makeTar(t, regular("a", "1"), regular("b", "2"), regular("c", "3")))
	os.Remove(filepath.Join(d, "a"))
	n := 0
	var last error
	for _, err := range Diff(context.Background(), x, y, DiffOptions{}) {
		n, last = n+1, err
	}
	if n != 1 || !errors.Is(last, os.ErrNotExist) {
		t.Errorf("%d changes, then %v", n, last)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range Diff(ctx, y, y, DiffOptions{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: got %v", err)
		}
	}
}

func TestRelaysFetchWhatTheyDoNotHave(t *testing.T) {
	ref := func(n byte) chunk.Ref { return chunk.Ref{ID: chunk.ID{n}, Size: 1 << n} }
	seg := func(n byte) chunk.Segment { return chunk.Segment{Ref: ref(n)} }
	a := &chunk.Manifest{Segments: []chunk.Segment{seg(1), seg(2)}, Kernels: []chunk.Kernel{{Kernel: ref(3), StageOne: ref(4)}}, Index: ref(5)}
	b := &chunk.Manifest{Segments: []chunk.Segment{seg(1), seg(6), seg(6)}, Aside: []chunk.Segment{seg(7)},
		Kernels: []chunk.Kernel{{Kernel: ref(3), StageOne: ref(8)}}, Index: ref(9), Extras: ref(10)}
	if n, bytes := Fetch(a, b); n != 4 || bytes != 1<<6+1<<8+1<<9+1<<10 {
		t.Errorf("got %d chunks with %d bytes", n, bytes)
	}
	if n, bytes := Fetch(b, b); n != 0 || bytes != 0 {
		t.Errorf("of itself: got %d chunks with %d bytes", n, bytes)
	}
	if n, _ := Fetch(&chunk.Manifest{}, a); n != 5 {
		t.Errorf("of nothing: got %d chunks", n)
	}
}
