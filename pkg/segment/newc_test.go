package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// archive writes entries with bodies to a cpio archive. What the Writer refuses the test wants to know.
func archive(t testing.TB, items ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for i := 0; i < len(items); i += 2 {
		e, body := items[i].(Entry), items[i+1].(string)
		if e.Type == File && e.Size == 0 {
			e.Size = int64(len(body))
		}
		if err := w.WriteEntry(&e, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchiveIsReadAsItWasWritten(t *testing.T) {
	in := []Entry{
		{Path: ".", Type: Dir, Mode: 0o755},
		{Path: "d", Type: Dir, Mode: 0o1777, UID: 4_000_000_000, GID: 5},
		{Path: "d/f", Type: File, Mode: 0o4755, Size: 5, MTime: 1e9, UID: 1},
		{Path: "d/g", Type: File, Mode: 0o644, Size: 0, MTime: 1},
		{Path: "d/h", Type: File, Mode: 0o600, Size: 3, Group: 9, Links: 2},
		{Path: "d/i", Type: File, Mode: 0o600, Size: 3, Group: 9, Links: 2},
		{Path: "l", Type: Symlink, Mode: 0o777, Link: "../some/where else"},
		{Path: "null", Type: Char, Mode: 0o666, Major: 1, Minor: 3},
		{Path: "sda", Type: Block, Mode: 0o660, Major: 8, Minor: 70000},
		{Path: "pipe", Type: Fifo, Mode: 0o600},
	}
	body := map[string]string{"d/f": "12345", "d/h": "abc"}
	var all []any
	var ptrs []*Entry
	for i, e := range in {
		all = append(all, e, body[e.Path])
		ptrs = append(ptrs, &in[i])
	}
	b := archive(t, all...)
	if got, want := int64(len(b)), archiveSize(ptrs); got != want || got%512 != 0 {
		t.Errorf("archive has %d bytes, archiveSize says %d", got, want)
	}
	r := NewReader(bytes.NewReader(b))
	for _, want := range in {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil || string(content) != body[want.Path] {
			t.Errorf("%s holds %q (%v)", want.Path, content, err)
		}
		if want.Group > 0 { // the inode number instead: the fifth; content only with the first
			want.Group, want.Size = 5, int64(len(content))
		}
		if fmt.Sprint(*got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", *got, want)
		}
	}
	for range 2 {
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("after the last entry: %v, want io.EOF", err)
		}
	}
}

func TestReaderSkipsWhatIsNotRead(t *testing.T) {
	b := archive(t, Entry{Path: "a", Type: File}, strings.Repeat("x", 100_001), Entry{Path: "b", Type: File}, "b")
	r := NewReader(bytes.NewReader(b))
	r.Next()
	io.ReadFull(r, make([]byte, 10))
	if e, err := r.Next(); err != nil || e.Path != "b" {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestWriterRefusesWhatCannotBeWritten(t *testing.T) {
	short := Entry{Path: "a", Type: File, Size: 10}
	if err := NewWriter(io.Discard).WriteEntry(&short, strings.NewReader("123")); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("short body: %v", err)
	}
	for _, e := range []Entry{{Path: "a", Type: File, Size: 1 << 32}, {Path: "a", Type: "socket"}, {Path: "a", Type: File, Size: -1}} {
		if err := NewWriter(io.Discard).WriteEntry(&e, nil); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func TestBrokenArchivesAreCorrupt(t *testing.T) {
	good := archive(t, Entry{Path: "a", Type: File, Mode: 0o644}, "content", Entry{Path: "l", Type: Symlink, Link: "target"}, "")
	change := func(at int, s string) []byte {
		b := bytes.Clone(good)
		copy(b[at:], s)
		return b
	}
	field := func(n int, s string) []byte { return change(6+8*n, s) }
	link := bytes.Index(good[110:], []byte("070701")) + 110
	for name, b := range map[string][]byte{
		"empty":               nil,
		"in the header":       good[:50],
		"in the name":         good[:111],
		"in the content":      good[:115],
		"no trailer":          good[:link],
		"magic":               change(0, "070702"),
		"no number":           field(1, "0000x1ed"),
		"no mode":             field(1, "00000000"),
		"a socket":            field(1, "0000C1ed"),
		"directory content":   field(1, "000041ed"),
		"no name":             field(11, "00000000"),
		"only a NUL":          field(11, "00000001"),
		"long name":           field(11, "00001002"),
		"gigantic name":       field(11, "FFFFFFFF"),
		"gigantic content":    field(6, "FFFFFFFF"),
		"no NUL":              change(110, "ab"),
		"two NULs":            field(11, "00000003"),
		"padding":             change(119, "x"),
		"empty link target":   change(link+6+8*6, "00000000"),
		"long link target":    change(link+6+8*6, "00001000"),
		"NUL in link target":  change(link+112, "t\x00"),
		"content of trailer":  change(len(good)-512+bytes.Index(good[len(good)-512:], []byte("TRAILER"))-110+6+8*6, "00000001"),
		"behind the trailer":  append(bytes.Clone(good), "x"...),
		"another one behind":  append(bytes.Clone(good), good...),
		"shifted by one byte": good[1:],
	} {
		r := NewReader(bytes.NewReader(b))
		var err error
		for n := 0; err == nil && n < 10; n++ {
			_, err = r.Next()
		}
		if !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v, want fault.Corrupt", name, err)
		}
	}
}

// TestSegmentsAreWhatKernelsAndCpioRead checks the format from outside: with the frame's header and with cpio.
func TestSegmentsAreWhatKernelsAndCpioRead(t *testing.T) {
	big := regular("usr/lib/big", strings.Repeat("0123456789", 1<<20)) // larger than a window
	src := openTar(t, makeTar(t, append(append(system(), library(6, 40)...), big)...))
	b := build(t, src, Options{})
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	cpio, _ := exec.LookPath("cpio")
	out := t.TempDir()
	for i, s := range b.Segments {
		var h zstd.Header
		if err := h.Decode(b.chunks[s.ID]); err != nil {
			t.Fatal(err)
		}
		if !h.HasFCS || int64(h.FrameContentSize) != s.Unpacked || !h.HasCheckSum || h.WindowSize > window || h.DictionaryID != 0 {
			t.Errorf("segment %d has the frame header %+v", i, h)
		}
		plain, err := dec.DecodeAll(b.chunks[s.ID], nil)
		if err != nil || int64(len(plain)) != s.Unpacked {
			t.Errorf("segment %d: %d bytes, want %d (%v)", i, len(plain), s.Unpacked, err)
		}
		if cpio == "" || !root() {
			continue
		}
		cmd := exec.Command(cpio, "--extract", "--make-directories", "--preserve-modification-time", "--quiet")
		cmd.Dir, cmd.Stdin = out, bytes.NewReader(plain)
		if msg, err := cmd.CombinedOutput(); err != nil || len(msg) > 0 {
			t.Errorf("cpio says of segment %d: %s (%v)", i, msg, err)
		}
	}
	if cpio == "" || !root() {
		t.Log("cpio is not here or may not make devices: only the frames were checked")
		return
	}
	// cpio has no extended attributes, and it gives links the time it runs at.
	var want, got strings.Builder
	for w, tree := range map[*strings.Builder]Source{&want: src, &got: scan(t, out)} {
		for _, e := range tree.Entries() {
			fmt.Fprintf(w, "%q %s %o %d:%d %d %q %d:%d %d/%d", e.Path, e.Type, e.Mode, e.UID, e.GID, e.Size, e.Link, e.Major, e.Minor, e.Group, e.Links)
			if e.Type == File {
				fmt.Fprintf(w, " %d %x", e.MTime, read(t, tree, e.Path)[:min(e.Size, 20)])
			}
			w.WriteByte('\n')
		}
	}
	sameLines(t, got.String(), want.String())
	if fi, err := os.Stat(filepath.Join(out, "usr/lib/big")); err != nil || fi.Size() != 10<<20 {
		t.Errorf("the big file: %v, %v", fi, err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(archive(f, Entry{Path: "d", Type: Dir, Mode: 0o755}, "", Entry{Path: "d/f", Type: File, Mode: 0o644, Group: 1, Links: 2}, "content",
		Entry{Path: "l", Type: Symlink, Link: "target"}, "", Entry{Path: "n", Type: Char, Major: 1, Minor: 3}, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		var again bytes.Buffer
		w := NewWriter(&again)
		n := 0
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			body, err := io.ReadAll(r)
			if err != nil {
				return
			}
			if int64(len(body)) != e.Size {
				t.Fatalf("%q has %d bytes and not %d", e.Path, len(body), e.Size)
			}
			e.Group = 0 // the content may be with any name of a file
			if err := w.WriteEntry(e, bytes.NewReader(body)); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			n++
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for r = NewReader(&again); ; n-- { // what it accepts can be written and read once more
			if _, err := r.Next(); err != nil {
				if err != io.EOF || n != 0 {
					t.Fatalf("%d entries missing: %v", n, err)
				}
				return
			}
		}
	})
}
