package segment

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// pack makes a segment of an archive.
func pack(t testing.TB, plain []byte, files int) ([]byte, chunk.Segment) {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := enc.EncodeAll(plain, nil)
	return b, chunk.Segment{Ref: chunk.RefOf(b), Unpacked: int64(len(plain)), Files: files}
}

func unpacker(t testing.TB, root string) *Unpacker {
	t.Helper()
	u, err := NewUnpacker(root, UnpackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

func TestNothingIsWrittenOutsideTheRoot(t *testing.T) {
	outside := t.TempDir()
	link := func(path, to string) Entry { return Entry{Path: path, Type: Symlink, Link: to} }
	file := func(path string) Entry { return Entry{Path: path, Type: File, Mode: 0o644} }
	for name, items := range map[string][]any{
		"parent":             {file("../evil"), "x"},
		"absolute":           {file(outside + "/evil"), "x"},
		"dot":                {file("."), "x"},
		"by absolute link":   {link("a", outside), "", file("a/evil"), "x"},
		"by relative link":   {link("a", "../"+filepath.Base(outside)), "", file("a/evil"), "x"},
		"by link inside":     {Entry{Path: "d", Type: Dir, Mode: 0o755}, "", link("a", "d"), "", file("a/evil"), "x"},
		"directory by link":  {link("a", outside), "", Entry{Path: "a/evil", Type: Dir}, ""},
		"link by link":       {link("a", outside), "", link("a/evil", "x"), ""},
		"pipe by link":       {link("a", outside), "", Entry{Path: "a/evil", Type: Fifo}, ""},
		"directory on link":  {link("a", outside), "", Entry{Path: "a", Type: Dir, Mode: 0o755}, ""},
		"hard link from out": {link("a", outside), "", Entry{Path: "a/x", Type: File, Group: 1, Links: 2}, "", Entry{Path: "evil", Type: File, Group: 1, Links: 2}, ""},
		"under a file":       {file("f"), "x", file("f/evil"), "x"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			b, s := pack(t, archive(t, items...), len(items)/2)
			err := unpacker(t, root).Unpack(context.Background(), bytes.NewReader(b), s)
			if err == nil {
				t.Error("it was unpacked")
			}
			for _, d := range []string{outside, filepath.Dir(root), root + "/d"} {
				if _, err := os.Lstat(filepath.Join(d, "evil")); err == nil {
					t.Errorf("%s/evil was written", d)
				}
			}
		})
	}
}

func TestLinksAreReplacedNotFollowed(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(outside, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	b, s := pack(t, archive(t, Entry{Path: "a", Type: Symlink, Link: outside}, "", Entry{Path: "a", Type: File, Mode: 0o600}, "mine"), 2)
	if err := unpacker(t, root).Unpack(context.Background(), bytes.NewReader(b), s); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "precious" {
		t.Errorf("what the link pointed to holds %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "a")); string(got) != "mine" {
		t.Errorf("the file holds %q", got)
	}
}

// On a file system that was kept lies what another image left: nothing of it is in the way, and nothing leads out of it.
func TestWhatAnotherImageLeftIsReplaced(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Symlink(outside, filepath.Join(root, "d")), os.WriteFile(filepath.Join(root, "e"), nil, 0o644), os.Symlink(outside, filepath.Join(root, "f")),
		os.Mkdir(filepath.Join(root, "kept"), 0o700), os.WriteFile(filepath.Join(root, "kept/data"), []byte("mine"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := func(path string) Entry { return Entry{Path: path, Type: Dir, Mode: 0o755} }
	file := func(path string) Entry { return Entry{Path: path, Type: File, Mode: 0o644} }
	items := []any{dir("d"), "", dir("e"), "", dir("kept"), "", file("d/x"), "x", file("e/x"), "x", file("f"), "x"}
	b, s := pack(t, archive(t, items...), len(items)/2)
	u, err := NewUnpacker(root, UnpackOptions{Over: true})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Unpack(t.Context(), bytes.NewReader(b), s); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"d/x": "x", "e/x": "x", "f": "x", "kept/data": "mine"} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside there are %v, %v", left, err)
	}
}

func TestSegmentsThatAreNotAsAnnouncedAreCorrupt(t *testing.T) {
	plain := archive(t, Entry{Path: "a", Type: File}, "content", Entry{Path: "b", Type: File}, strings.Repeat("b", 1000))
	b, s := pack(t, plain, 2)
	bomb, sb := pack(t, append(bytes.Clone(plain), make([]byte, 64<<20)...), 2)
	sb.Unpacked = s.Unpacked
	garbled := bytes.Clone(b)
	garbled[len(garbled)/2] ^= 0x40
	with := func(change func(*chunk.Segment)) chunk.Segment {
		c := s
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		b []byte
		s chunk.Segment
	}{
		"too few entries":  {b, with(func(s *chunk.Segment) { s.Files = 3 })},
		"too many entries": {b, with(func(s *chunk.Segment) { s.Files = 1 })},
		"too short":        {b, with(func(s *chunk.Segment) { s.Unpacked++ })},
		"too long":         {b, with(func(s *chunk.Segment) { s.Unpacked -= 512 })},
		"negative":         {b, with(func(s *chunk.Segment) { s.Unpacked = -5 })},
		"cut short":        {b[:len(b)-5], s},
		"garbled":          {garbled, s},
		"nothing":          {nil, s},
		"no zstd":          {plain, s},
		"a bomb":           {bomb, sb},
		"two frames":       {append(bytes.Clone(b), b...), s},
	} {
		err := unpacker(t, t.TempDir()).Unpack(context.Background(), bytes.NewReader(c.b), c.s)
		if !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v, want fault.Corrupt", name, err)
		}
	}
}

func TestUnpackingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b, s := pack(t, archive(t, Entry{Path: "a", Type: File}, "content"), 1)
	if err := unpacker(t, t.TempDir()).Unpack(ctx, bytes.NewReader(b), s); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestContentOfHardLinksMayComeWithAnyName(t *testing.T) {
	h := func(path string) Entry { return Entry{Path: path, Type: File, Mode: 0o640, Group: 1, Links: 3} }
	b := archive(t, Entry{Path: "d", Type: Dir, Mode: 0o755}, "", h("d/a"), "12345", h("b"), "", h("c"), "")
	// GNU cpio attaches the content to the last name: move it there.
	at := func(name string) int { return bytes.Index(b, []byte(name+"\x00")) - 110 }
	first, last := at("d/a"), at("c")
	body := bytes.Clone(b[first+110+6 : first+110+6+8])
	copy(b[first+6+8*6:], "00000000")
	copy(b[last+6+8*6:], "00000005")
	moved := append(bytes.Clone(b[:first+110+6]), b[first+110+6+8:last+112]...)
	moved = append(append(moved, body...), b[last+112:]...)

	root := t.TempDir()
	z, s := pack(t, moved, 4)
	if err := unpacker(t, root).Unpack(context.Background(), bytes.NewReader(z), s); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"d/a", "b", "c"} {
		got, err := os.ReadFile(filepath.Join(root, p))
		var st unix.Stat_t
		unix.Stat(filepath.Join(root, p), &st)
		if string(got) != "12345" || st.Nlink != 3 || st.Mode&0o7777 != 0o640 {
			t.Errorf("%s holds %q, %d names, mode %o (%v)", p, got, st.Nlink, st.Mode, err)
		}
	}
}

func TestAttributesThatCannotBeHeldAreReported(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := newLines(extrasKind)
	if err != nil {
		t.Fatal(err)
	}
	l.enc.Encode(newExtra(&Entry{Path: "a", Xattrs: map[string]string{"user.x": "1", "nonsense.y": "2"}}))
	b, _ := pack(t, l.buf.Bytes(), 0)
	var lost []string
	u, err := NewUnpacker(root, UnpackOptions{Owners: true, Lost: func(p, a string) { lost = append(lost, p+" "+a) }})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Finish(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lost, ","); !strings.HasPrefix(got, "a nonsense.y") {
		t.Errorf("lost %q, want what no file system knows", got)
	}
	for name, extras := range map[string]string{
		"outside": `{"path":"../a","xattrs":{"user.x":"MQ=="}}`, "below a file": `{"path":"a/b","xattrs":{"user.x":"MQ=="}}`, "no JSON": `{`,
	} {
		b, _ := pack(t, []byte(`{"kind":"wulfmesh-extras","format":1}`+"\n"+extras+"\n"), 0)
		if err := u.Finish(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAttributesOfWhatIsKeptFromNodesAreOfNoConcern(t *testing.T) {
	noted := regular("boot/noted", "x")
	noted.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "by hand"}
	src := openTar(t, makeTar(t, noted, regular("given", "x")))
	b := build(t, src, Options{Level: 1, Exclude: func(path string) bool { return path == "boot" || path == "boot/noted" }})
	if b.Extras.ID.IsZero() || len(b.Special) > 0 {
		t.Errorf("the image has the extras %v, and nodes get %q", b.Extras, b.Special)
	}
	out := t.TempDir()
	b.unpack(t, out)
	if got, want := paths(scan(t, out)), "given"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzUnpack(f *testing.F) {
	h := func(path string) Entry { return Entry{Path: path, Type: File, Mode: 0o640, Group: 1, Links: 2} }
	f.Add(archive(f, Entry{Path: ".", Type: Dir, Mode: 0o755}, "", Entry{Path: "d", Type: Dir, Mode: 0o755}, "", h("d/a"), "12345", h("b"), "",
		Entry{Path: "l", Type: Symlink, Link: ".."}, "", Entry{Path: "d/p", Type: Fifo, Mode: 0o600}, ""), 6)
	f.Add(archive(f, Entry{Path: "l", Type: Symlink, Link: "../out"}, "", Entry{Path: "l/x", Type: File}, "x"), 2)
	f.Fuzz(func(t *testing.T, plain []byte, files int) {
		top := t.TempDir()
		root, out := filepath.Join(top, "root"), filepath.Join(top, "out")
		os.Mkdir(root, 0o755)
		os.Mkdir(out, 0o755)
		u, err := NewUnpacker(root, UnpackOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		b, s := pack(t, plain, files)
		if u.Unpack(context.Background(), bytes.NewReader(b), s) == nil {
			u.Finish(nil)
		}
		os.Chmod(root, 0o755)
		for dir, want := range map[string]int{top: 2, out: 0} {
			if list, err := os.ReadDir(dir); err != nil || len(list) != want {
				t.Fatalf("%s holds %v (%v)", dir, list, err)
			}
		}
	})
}
