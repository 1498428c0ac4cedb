package segment

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A made tree: tar is the only source that can hold devices and foreign owners without privileges.

type item struct {
	tar.Header
	body string
}

func dir(name string, mode int64) item {
	return item{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func regular(name, body string) item {
	return item{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1e9, 0)}, body}
}

func symlink(name, target string) item {
	return item{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) item {
	return item{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

func makeTar(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, it := range items {
		if err := w.WriteHeader(&it.Header); err != nil {
			t.Fatalf("%s: %v", it.Name, err)
		}
		if _, err := io.WriteString(w, it.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openTar(t testing.TB, b []byte) *Tar {
	t.Helper()
	src, err := OpenTar(bytes.NewReader(b), t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// system is a small tree with everything that a root file system has.
func system() []item {
	setuid := regular("usr/bin/su", "su")
	setuid.Mode, setuid.Uid, setuid.Gid = 0o4755, 0, 12
	capable := regular("usr/bin/ping", "ping")
	capable.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"SCHILY.xattr.security.selinux":    "system_u:object_r:bin_t:s0",
	}
	noted := regular("etc/noted", "noted")
	noted.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "by hand"}
	owned := regular("home/ann/.profile", "umask 077\n")
	owned.Uid, owned.Gid = 1000, 70000
	return []item{
		dir("./", 0o700), dir("usr", 0o755), dir("usr/bin", 0o755), dir("etc", 0o755), dir("dev", 0o755),
		dir("proc", 0o555), dir("run", 0o755), dir("tmp", 0o1777), dir("home", 0o755), dir("home/ann", 0o750),
		symlink("bin", "usr/bin"), symlink("etc/mtab", "/proc/mounts"),
		regular("usr/bin/a", strings.Repeat("a", 5000)), hardlink("usr/bin/z", "usr/bin/a"), hardlink("etc/a", "usr/bin/z"),
		setuid, capable, noted, owned, regular("etc/empty", ""), hardlink("etc/empty2", "etc/empty"),
		dir("opt", 0o555), regular("opt/readonly", "in a directory that nobody may write to"),
		regular("opt/caf\xe9", "a name that is not UTF-8"),
		{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Mode: 0o660, Gid: 6, Devmajor: 8, Devminor: 70000}},
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "dev/initctl", Mode: 0o600}},
		regular("run/pid", "17"), regular("dev/oops", "a regular file"),
	}
}

// library is a tree of n files with a bit of everything in size; equal seeds give equal trees.
func library(seed uint64, n int) []item {
	r := rand.New(rand.NewPCG(seed, 0))
	words := strings.Fields("the quick brown fox jumps over a lazy dog while chunks of images pass by in the night and nobody wakes")
	var items []item
	for i := range n {
		var b strings.Builder
		for size := 1 << (4 + r.IntN(13)); b.Len() < size; {
			fmt.Fprintf(&b, "%s %d ", words[r.IntN(len(words))], r.IntN(1000))
		}
		items = append(items, regular(fmt.Sprintf("usr/lib/part%02d/file%04d", i*17%40, i), b.String()))
	}
	return items
}

// built is an image in memory.
type built struct {
	*Result
	chunks map[chunk.ID][]byte
}

func build(t testing.TB, src Source, o Options) built {
	t.Helper()
	b := built{chunks: make(map[chunk.ID][]byte)}
	var mu sync.Mutex
	o.Sink = func(ref chunk.Ref, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if chunk.RefOf(data) != ref {
			t.Errorf("the sink got bytes that are not %s", ref.ID.Short())
		}
		b.chunks[ref.ID] = bytes.Clone(data)
		return nil
	}
	var err error
	if b.Result, err = Build(context.Background(), src, o); err != nil {
		t.Fatal(err)
	}
	return b
}

func root() bool { return os.Geteuid() == 0 }

// unpack writes the image to a new directory: the skeleton, then everything else at once in reverse order.
func (b built) unpack(t testing.TB, to string) (lost []string) {
	t.Helper()
	u, err := NewUnpacker(to, UnpackOptions{Owners: root(), Lost: func(p, a string) { lost = append(lost, p+": "+a) }})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	one := func(s chunk.Segment) {
		if err := u.Unpack(context.Background(), bytes.NewReader(b.chunks[s.ID]), s); err != nil {
			t.Error(err)
		}
	}
	one(b.Segments[0])
	var wg sync.WaitGroup
	for i := len(b.Segments) - 1; i > 0; i-- {
		wg.Go(func() { one(b.Segments[i]) })
	}
	wg.Wait()
	var extras io.Reader
	if !b.Extras.ID.IsZero() {
		extras = bytes.NewReader(b.chunks[b.Extras.ID])
	}
	if err := u.Finish(extras); err != nil {
		t.Fatal(err)
	}
	return lost
}

// listing is a tree with all that an image keeps of it, one path a line, for comparison.
func listing(t testing.TB, src Source) string {
	t.Helper()
	var b strings.Builder
	for _, e := range src.Entries() {
		e = normal(&e)
		if !root() { // what only root can restore
			if e.Type == Char || e.Type == Block {
				continue
			}
			e.UID, e.GID, e.Xattrs = 0, 0, nil
		}
		fmt.Fprintf(&b, "%q %s %o %d:%d %d %d %q %d:%d %d/%d %q", e.Path, e.Type, e.Mode, e.UID, e.GID, e.Size, e.MTime,
			e.Link, e.Major, e.Minor, e.Group, e.Links, e.Xattrs)
		if e.Type == File {
			fmt.Fprintf(&b, " %s", chunk.Of([]byte(read(t, src, e.Path))).Short())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func read(t testing.TB, src Source, path string) string {
	t.Helper()
	f, err := src.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func scan(t testing.TB, path string) *Directory {
	t.Helper()
	d, err := OpenDir(path, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func sameLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d differs\ngot  %s\nwant %s", i+1, strings.Join(g[min(i, len(g)):min(i+3, len(g))], "\n     "),
				strings.Join(w[min(i, len(w)):min(i+3, len(w))], "\n     "))
		}
	}
}

func TestUnpackedTreeIsTheTreeThatWasBuilt(t *testing.T) {
	src := openTar(t, makeTar(t, append(system(), library(1, 100)...)...))
	b := build(t, src, Options{})
	out := t.TempDir()
	if lost := b.unpack(t, out); len(lost) > 0 {
		t.Skipf("the temporary directory cannot hold %v", lost)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(out, "opt"), 0o755) }) // so that it can be removed
	got := scan(t, out)
	sameLines(t, listing(t, got), listing(t, src))

	if fi, err := os.Stat(out); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the root directory is %v (%v), want 0755", fi.Mode(), err)
	}
	// And the tree that was read from a directory makes the same image as the one from the archive.
	if root() {
		again := build(t, got, Options{})
		if !reflect.DeepEqual(again.Result, b.Result) {
			t.Error("image of the unpacked directory is another one than image of the archive")
		}
	}
}

func TestSameTreeGivesSameBytesWhateverTheWorkers(t *testing.T) {
	data := makeTar(t, append(system(), library(2, 120)...)...)
	want := build(t, openTar(t, data), Options{Workers: 1})
	for _, o := range []Options{{Workers: 1}, {Workers: 4}, {Workers: 3, Memory: 1}} {
		got := build(t, openTar(t, data), o)
		if !reflect.DeepEqual(got.Result, want.Result) {
			t.Errorf("with %d workers the image differs", o.Workers)
		}
	}
}

func TestUnpackingASegmentTwiceRepairsIt(t *testing.T) {
	src := openTar(t, makeTar(t, append(system(), library(3, 30)...)...))
	b := build(t, src, Options{})
	out := t.TempDir()
	b.unpack(t, out)
	os.Chmod(filepath.Join(out, "opt"), 0o755)
	if err := os.WriteFile(filepath.Join(out, "usr/bin/ping"), []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.unpack(t, out)
	t.Cleanup(func() { os.Chmod(filepath.Join(out, "opt"), 0o755) })
	sameLines(t, listing(t, scan(t, out)), listing(t, src))
}

func TestFailuresOfTheSinkAndTheSourceEndTheBuild(t *testing.T) {
	src := openTar(t, makeTar(t, library(4, 60)...))
	full := fault.New(fault.Full, "no space")
	_, err := Build(context.Background(), src, Options{Sink: func(chunk.Ref, []byte) error { return full }})
	if !errors.Is(err, fault.Full) {
		t.Errorf("sink failed: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, src, Options{Sink: func(chunk.Ref, []byte) error { return nil }}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}

	d := t.TempDir()
	if err := os.WriteFile(filepath.Join(d, "growing"), []byte("short"), 0o644); err != nil {
		t.Fatal(err)
	}
	changing := scan(t, d)
	if err := os.WriteFile(filepath.Join(d, "growing"), []byte("longer than before"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Build(context.Background(), changing, Options{Sink: func(chunk.Ref, []byte) error { return nil }})
	if !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "growing") {
		t.Errorf("file changed: got %v", err)
	}
}

func TestProgressEndsWithEverythingDone(t *testing.T) {
	var mu sync.Mutex
	var most Progress
	b := build(t, openTar(t, makeTar(t, library(5, 60)...)), Options{Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Segments > most.Segments {
			most = p
		}
	}})
	var in, stored int64
	for _, s := range b.Segments {
		in, stored = in+s.Unpacked, stored+s.Size
	}
	want := Progress{Segments: len(b.Segments), Total: len(b.Segments), Bytes: in, Stored: stored, Read: b.Unpacked}
	if most != want {
		t.Errorf("got %+v, want %+v", most, want)
	}
}

func TestResultCountsHardLinksOnce(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, regular("a", "12345"), hardlink("b", "a"), regular("c", "1"))), Options{})
	if b.Files != 3 || b.Unpacked != 6 {
		t.Errorf("got %d files and %d bytes, want 3 and 6", b.Files, b.Unpacked)
	}
}

func TestOnlyPathsThatStayInsideAreGood(t *testing.T) {
	for _, p := range []string{"a", "a/b", "..a/b..", "a b", "caf\xe9", ".wh.a", strings.Repeat("a", 255)} {
		if err := CheckPath(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"", "/", "/a", ".", "..", "a/..", "../a", "a/./b", "a//b", "a/", "a\x00b", "TRAILER!!!",
		strings.Repeat("a", 256), strings.Repeat("a/", 128) + "a", strings.Repeat(strings.Repeat("a", 250)+"/", 17) + "a"} {
		if err := CheckPath(p); !errors.Is(err, fault.Invalid) {
			t.Errorf("%.40q: got %v, want fault.Invalid", p, err)
		}
	}
}

func TestDirectoriesComeBeforeWhatIsInThem(t *testing.T) {
	order := []string{"a", "a/b", "a/b/c", "a/c", "a-b", "a.b", "b"}
	for i := range order {
		for j := range order {
			got := ComparePaths(order[i], order[j])
			if (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("ComparePaths(%q, %q) = %d", order[i], order[j], got)
			}
		}
	}
}
