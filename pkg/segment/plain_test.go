package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// plain is an image as one plain archive, made part by part.
func plain(t *testing.T, b built, i *Image) []byte {
	t.Helper()
	var all bytes.Buffer
	for n, size := range i.PlainSizes() {
		var stored io.Reader
		if n < len(b.Segments) {
			stored = bytes.NewReader(b.chunks[b.Segments[n].ID])
		}
		before := all.Len()
		if err := i.WritePlain(&all, n, stored); err != nil {
			t.Fatalf("part %d: %v", n, err)
		}
		if got := int64(all.Len() - before); got != size {
			t.Errorf("part %d has %d bytes, %d were announced", n, got, size)
		}
	}
	return all.Bytes()
}

func TestAnImageIsOnePlainArchive(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, everything()...)), Options{})
	image := openImage(t, b)
	if len(b.Segments) < 3 {
		t.Fatalf("%d segments show nothing", len(b.Segments))
	}
	archive := plain(t, b, image)
	if len(archive)%archiveAlign != 0 {
		t.Errorf("the archive has %d bytes", len(archive))
	}
	r, got := NewReader(bytes.NewReader(archive)), map[string]*Entry{}
	names := map[int][]string{} // by inode
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Group > 0 {
			names[e.Group] = append(names[e.Group], e.Path)
		}
		if e.Type == File && e.Size > 0 {
			content, err := io.ReadAll(r)
			if want, _ := image.Sum(e.Path); err != nil || chunk.Of(content) != want {
				t.Errorf("%q has other content, %v", e.Path, err)
			}
		}
		got[e.Path] = e
	}
	for _, e := range image.Entries() {
		g := got[e.Path]
		if g == nil || g.Type != e.Type || g.Mode != e.Mode && e.Type != Symlink || g.Link != e.Link || g.UID != e.UID {
			t.Errorf("%q is %+v, want %+v", e.Path, g, e)
		}
	}
	if len(got) != len(image.Entries())+1 {
		t.Errorf("%d entries, want %d and the root", len(got), len(image.Entries()))
	}
	want := [][]string{{"a-first-name-of-huge", "usr/lib/huge"}, {"usr/lib/shared", "usr/lib/shared2"}}
	var links [][]string
	for _, l := range names {
		slices.Sort(l)
		links = append(links, l)
	}
	slices.SortFunc(links, slices.Compare)
	if len(links) < len(want) || !slices.ContainsFunc(links, func(l []string) bool { return slices.Equal(l, want[0]) }) || !slices.ContainsFunc(links, func(l []string) bool { return slices.Equal(l, want[1]) }) {
		t.Errorf("hard links are %q", links)
	}
}

// cpio itself reads on to the last file, and neither warns nor joins files of two segments.
func TestCpioReadsAPlainArchiveToItsEnd(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is not installed")
	}
	b := build(t, openTar(t, makeTar(t, everything()...)), Options{})
	image := openImage(t, b)
	cmd := exec.Command("cpio", "-it", "--quiet")
	cmd.Stdin = bytes.NewReader(plain(t, b, image))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if lines := strings.Count(string(out), "\n"); err != nil || said.Len() > 0 || lines != len(image.Entries())+2 { // the root, and a name of two lines
		t.Errorf("%d lines of %d entries, %v, %s", lines, len(image.Entries()), err, &said)
	}
}

func TestAPlainArchiveOfAnotherSegmentIsAnError(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, everything()...)), Options{})
	image := openImage(t, b)
	for name, stored := range map[string]string{"nothing": "", "no frame": strings.Repeat("x", 1000), "cut short": string(b.chunks[b.Segments[0].ID][:100])} {
		if err := image.WritePlain(io.Discard, 0, strings.NewReader(stored)); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkPlain(b *testing.B) {
	content := strings.Repeat(fmt.Sprintf("%x not much to compress\n", 12345), 1000)
	items := []item{dir("d", 0o755)}
	for i := range 500 {
		items = append(items, regular(fmt.Sprintf("d/f%03d", i), content))
	}
	x := build(b, openTar(b, makeTar(b, items...)), Options{})
	image := openImage(b, x)
	size := int64(0)
	for _, n := range image.PlainSizes() {
		size += n
	}
	b.SetBytes(size)
	for b.Loop() {
		for n, s := range x.Segments {
			if err := image.WritePlain(io.Discard, n, bytes.NewReader(x.chunks[s.ID])); err != nil {
				b.Fatal(err)
			}
		}
	}
}
