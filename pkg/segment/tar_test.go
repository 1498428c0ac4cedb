package segment

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func paths(src Source) string {
	var all []string
	for _, e := range src.Entries() {
		all = append(all, e.Path)
	}
	return strings.Join(all, " ")
}

func TestHostileArchivesAreRefusedByName(t *testing.T) {
	odd := func(name string, change func(h *tar.Header)) []item {
		it := regular(name, "")
		change(&it.Header)
		return []item{it}
	}
	for name, c := range map[string]struct {
		items []item
		names string // what the error must name
	}{
		"parent":                {[]item{regular("../evil", "x")}, "../evil"},
		"parent inside":         {[]item{regular("a/../../evil", "x")}, "a/../../evil"},
		"harmless parent":       {[]item{regular("a/../b", "x")}, "a/../b"},
		"absolute":              {[]item{regular("/evil", "x")}, "/evil"},
		"slash":                 {[]item{dir("", 0o755)}, `"/"`},
		"dot file":              {[]item{regular(".", "x")}, `"."`},
		"dot inside":            {[]item{regular("a/./b", "x")}, "a/./b"},
		"empty component":       {[]item{regular("a//b", "x")}, "a//b"},
		"trailer":               {[]item{regular("TRAILER!!!", "x")}, "TRAILER!!!"},
		"long name":             {[]item{regular(strings.Repeat("n", 256), "x")}, "nnn"},
		"long path":             {[]item{regular(strings.Repeat("dir/", 1100)+"x", "x")}, "dir/dir"},
		"symlink parent":        {[]item{symlink("a", "/etc"), regular("a/passwd", "x")}, "a/passwd"},
		"symlink parent later":  {[]item{regular("a/passwd", "x"), symlink("a", "/etc")}, "a/passwd"},
		"symlink parent, deep":  {[]item{symlink("a", "/etc"), regular("a/b/c/d", "x")}, `"a"`},
		"file as parent":        {[]item{regular("a", "x"), regular("a/b", "x")}, "a/b"},
		"directory then file":   {[]item{dir("a", 0o755), regular("a/b", "x"), regular("a", "x")}, "a/b"},
		"hard link to nothing":  {[]item{hardlink("a", "b")}, `"b"`},
		"hard link forward":     {[]item{hardlink("a", "b"), regular("b", "x")}, `"b"`},
		"hard link to outside":  {[]item{hardlink("a", "/etc/shadow")}, "/etc/shadow"},
		"hard link upwards":     {[]item{hardlink("a", "../shadow")}, "../shadow"},
		"hard link by symlink":  {[]item{symlink("s", "/etc"), hardlink("a", "s/shadow")}, "s/shadow"},
		"hard link to dropped":  {[]item{regular("run/x", "x"), hardlink("a", "run/x")}, "run/x"},
		"hard link to dir":      {[]item{dir("d", 0o755), hardlink("a", "d")}, `"d"`},
		"empty link target":     {[]item{symlink("a", "")}, `"a"`},
		"endless link target":   {[]item{symlink("a", strings.Repeat("x", 5000))}, `"a"`},
		"huge file":             {odd("iso", func(h *tar.Header) { h.Size = 4 << 30 }), "iso"},
		"negative owner":        {odd("a", func(h *tar.Header) { h.Uid = -2; h.Format = tar.FormatGNU }), `"a"`},
		"owner out of range":    {odd("a", func(h *tar.Header) { h.Gid = 1 << 40; h.Format = tar.FormatGNU }), `"a"`},
		"device out of range":   {odd("a", func(h *tar.Header) { h.Typeflag = tar.TypeChar; h.Devmajor = 1 << 20 }), `"a"`},
		"unknown kind of entry": {odd("a", func(h *tar.Header) { h.Typeflag = 'V' }), `"a"`},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, it := range c.items {
				if err := w.WriteHeader(&it.Header); err != nil {
					t.Fatal(err)
				}
				io.WriteString(w, it.body)
			}
			if c.items[0].Size == int64(len(c.items[0].body)) {
				w.Close()
			}
			src, err := OpenTar(&b, t.TempDir(), Limits{})
			if err == nil {
				src.Close()
			}
			if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %v, want fault.Invalid that names %s", err, c.names)
			}
		})
	}
}

func TestNULInNamesIsRefused(t *testing.T) {
	// In PAX records only; a header ends names at the first NUL. archive/tar refuses the first, CheckPath the other.
	b := makeTar(t, item{Header: tar.Header{Typeflag: tar.TypeReg, Name: "caf\u00e9-X-evil", Mode: 0o644}})
	b = bytes.ReplaceAll(b, []byte("-X-"), []byte("-\x00-"))
	if src, err := OpenTar(bytes.NewReader(b), t.TempDir(), Limits{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("got %v and %v, want fault.Invalid", src, err)
	}
}

func TestArchivesThatEndEarlyAreRefused(t *testing.T) {
	b := makeTar(t, regular("first", strings.Repeat("1", 1000)), regular("second", strings.Repeat("2", 1000)))
	// The end mark is two blocks; one of them, which old programs write, will do.
	for _, n := range []int{1, 511, 512, 1000, 512 + 1024, 2048, len(b) - 1024} {
		_, err := OpenTar(bytes.NewReader(b[:n]), t.TempDir(), Limits{})
		if !errors.Is(err, fault.Invalid) {
			t.Errorf("the first %d of %d bytes: got %v, want fault.Invalid", n, len(b), err)
		}
	}
	if _, err := OpenTar(bytes.NewReader(nil), t.TempDir(), Limits{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("no bytes: got %v", err)
	}
	for name, z := range compressed(t, b) {
		if _, err := OpenTar(bytes.NewReader(z[:len(z)-9]), t.TempDir(), Limits{}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s, cut short: got %v, want fault.Invalid", name, err)
		}
	}
}

func compressed(t testing.TB, b []byte) map[string][]byte {
	t.Helper()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(b)
	w.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"gzip": gz.Bytes(), "zstd": enc.EncodeAll(b, nil), "xz": xzOf(t, b, xz.WriterConfig{})}
}

// stream hides that a reader can do more than read.
type stream struct{ io.Reader }

func TestArchivesAreReadInAnyWrapping(t *testing.T) {
	b := makeTar(t, system()...)
	want := listing(t, openTar(t, b))
	forms := compressed(t, b)
	forms["plain"] = b
	for name, z := range forms {
		for _, r := range []io.Reader{bytes.NewReader(z), stream{bytes.NewReader(z)}} {
			spool := t.TempDir()
			src, err := OpenTar(r, spool, Limits{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			sameLines(t, listing(t, src), want)
			if left, _ := os.ReadDir(spool); len(left) > 0 {
				t.Errorf("%s: %v lies about", name, left)
			}
			src.Close()
		}
	}
	lz4 := []byte{0x04, 0x22, 0x4d, 0x18, 0, 0}
	if _, err := OpenTar(bytes.NewReader(lz4), t.TempDir(), Limits{}); !errors.Is(err, fault.Invalid) || fault.Fix(err) == "" {
		t.Errorf("lz4: got %v, want fault.Invalid with a hint", err)
	}
}

func TestBombsAreRefused(t *testing.T) {
	zeros := oneFrame(t)(makeTar(t, regular("zeros", strings.Repeat("\x00", 80<<20))))
	many := makeTar(t, regular("a", "12345"), regular("b", "12345"), regular("c/d/e", "12345"))
	for name, c := range map[string]struct {
		data   []byte
		limits Limits
	}{
		"ratio":                {zeros, Limits{}},
		"archive":              {zeros, Limits{Bytes: 1 << 20, Entries: 10, Ratio: 1 << 40}},
		"bytes":                {many, Limits{Bytes: 14}},
		"entries":              {many, Limits{Entries: 2}},
		"directories in names": {many, Limits{Entries: 4}},
	} {
		if _, err := OpenTar(bytes.NewReader(c.data), t.TempDir(), c.limits); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
	src, err := OpenTar(bytes.NewReader(many), t.TempDir(), Limits{Bytes: 15, Entries: 5})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := paths(src), "a b c c/d c/d/e"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEndlessAttributesAreRefused(t *testing.T) {
	e := Entry{Path: "a", Type: File, Xattrs: map[string]string{"user.x": strings.Repeat("x", maxXattrs)}}
	if err := newTree(Limits{}).add(e, new(body)); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v, want fault.Invalid that names the file", err)
	}
}

func TestLastOfSeveralEntriesWins(t *testing.T) {
	owned := dir("d", 0o700)
	owned.Uid = 7
	src := openTar(t, makeTar(t,
		regular("f", "old"), hardlink("kept", "f"), regular("f", "newer"),
		dir("d", 0o755), regular("d/x", "x"), owned,
		regular("s", "a file"), symlink("s", "f"),
		regular("t", "a file"), dir("t", 0o755), regular("t/u", "u")))
	if got, want := paths(src), "d d/x f kept s t t/u"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if got := read(t, src, "f"); got != "newer" {
		t.Errorf("f holds %q", got)
	}
	if got := read(t, src, "kept"); got != "old" {
		t.Errorf("kept holds %q, want what f was when it was linked", got)
	}
	for _, e := range src.Entries() {
		if e.Path == "d" && (e.Mode != 0o700 || e.UID != 7) || e.Path == "s" && e.Type != Symlink || e.Group != 0 {
			t.Errorf("unexpected %+v", e)
		}
	}
}

func TestWhatARunningSystemHidesIsLeftOut(t *testing.T) {
	src := openTar(t, makeTar(t, append(system(), regular("sys/kernel/x", "x"), regular("proc/1/stat", "x"), hardlink("run/y", "nothing"))...))
	for _, e := range src.Entries() {
		for _, p := range []string{"proc/", "sys/", "run/", "dev/oops"} {
			if strings.HasPrefix(e.Path, p) {
				t.Errorf("%s is in the tree", e.Path)
			}
		}
	}
	if !strings.Contains(paths(src), "dev/initctl dev/null dev/sda") || !strings.Contains(paths(src), " proc run ") {
		t.Errorf("device nodes or mount points are missing: %s", paths(src))
	}
}

func TestSparseFilesAreRead(t *testing.T) {
	gnutar, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("no tar here")
	}
	d := t.TempDir()
	f, err := os.Create(filepath.Join(d, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("begin"), 0)
	f.WriteAt([]byte("middle"), 1<<20)
	f.Truncate(3 << 20)
	f.Close()
	want, _ := os.ReadFile(f.Name())
	os.WriteFile(filepath.Join(d, "x"), []byte("after it"), 0o644)
	for _, format := range []string{"gnu", "pax"} {
		b, err := exec.Command(gnutar, "-C", d, "-S", "--format="+format, "-c", "sparse", "x").Output()
		if err != nil {
			t.Skipf("tar: %v", err)
		}
		if len(b) > 1<<20 {
			t.Skip("the temporary directory has no sparse files")
		}
		src := openTar(t, b)
		if got := read(t, src, "sparse"); got != string(want) {
			t.Errorf("%s: the sparse file has %d other bytes", format, len(got))
		}
		if got := read(t, src, "x"); got != "after it" {
			t.Errorf("%s: the file behind it holds %q", format, got)
		}
	}
}

func TestDirectoriesAreReadWithoutLeavingThem(t *testing.T) {
	outside := t.TempDir()
	os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644)
	d := t.TempDir()
	for _, sub := range []string{"etc", "proc/1", "run", "dev/shm"} {
		if err := os.MkdirAll(filepath.Join(d, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink(outside, filepath.Join(d, "etc/away"))
	os.Symlink(filepath.Join(outside, "secret"), filepath.Join(d, "etc/secret"))
	os.WriteFile(filepath.Join(d, "etc/one"), []byte("one"), 0o600)
	os.Link(filepath.Join(d, "etc/one"), filepath.Join(d, "etc/two"))
	os.WriteFile(filepath.Join(d, "proc/1/stat"), []byte("live"), 0o600)
	os.WriteFile(filepath.Join(d, "run/pid"), []byte("live"), 0o600)
	src := scan(t, d)
	if got, want := paths(src), "dev dev/shm etc etc/away etc/one etc/secret etc/two proc run"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, p := range []string{"etc/away/secret", "etc/secret", "../" + filepath.Base(outside) + "/secret", "nothing"} {
		if f, err := src.Open(p); err == nil {
			f.Close()
			t.Errorf("%s can be opened", p)
		}
	}
	if e := src.Entries()[4]; e.Path != "etc/one" || e.Group != 1 || e.Links != 2 {
		t.Errorf("unexpected %+v", e)
	}
	if _, err := OpenDir(filepath.Join(d, "nothing"), Limits{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("no directory: got %v", err)
	}
}

func FuzzTar(f *testing.F) {
	f.Add(makeTar(f, system()...))
	f.Add(makeTar(f, regular("../x", "x")))
	f.Add(compressed(f, makeTar(f, symlink("a", "b"), hardlink("c", "a")))["zstd"])
	f.Fuzz(func(t *testing.T, b []byte) {
		src, err := OpenTar(bytes.NewReader(b), t.TempDir(), Limits{Entries: 1000, Bytes: 1 << 20})
		if err != nil {
			return
		}
		defer src.Close()
		last := ""
		at := map[string]Type{"": Dir}
		for _, e := range src.Entries() {
			if err := CheckPath(e.Path); err != nil || ComparePaths(last, e.Path) >= 0 || at[parent(e.Path)] != Dir {
				t.Fatalf("%q after %q: %v", e.Path, last, err)
			}
			last, at[e.Path] = e.Path, e.Type
			if e.Type == File && int64(len(read(t, src, e.Path))) != e.Size {
				t.Fatalf("%q has not %d bytes", e.Path, e.Size)
			}
		}
		if len(at) > 1001 {
			t.Fatal(fmt.Sprint(len(at), " entries"))
		}
	})
}
