package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// What a controller reads from the tar is the same tree, entry by entry, that was scanned here.
func TestADirectoryArrivesAsItIs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(at("usr/bin"), 0o755))
	must(os.MkdirAll(at("var/empty"), 0o700))
	must(os.WriteFile(at("usr/bin/su"), []byte("program"), 0o755))
	must(os.Chmod(at("usr/bin/su"), 0o4755|os.ModeSetuid))
	must(os.Link(at("usr/bin/su"), at("usr/bin/sudo")))
	must(os.Symlink("usr/bin", at("bin")))
	must(os.WriteFile(at("name\nwith\xffodd bytes"), []byte("x"), 0o600))
	must(os.WriteFile(at("empty"), nil, 0o644))
	must(unix.Mkfifo(at("pipe"), 0o622))
	sparse, err := os.Create(at("sparse"))
	must(err)
	must(sparse.Truncate(3 << 20))
	must(sparse.Close())
	attributes := unix.Setxattr(at("usr/bin/su"), "user.note", []byte("a\x00b"), 0) == nil
	device := unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil
	t.Logf("extended attributes %v, devices %v", attributes, device)

	p, err := newPayload(dir, nil)
	must(err)
	defer p.close()
	if want := int64(len("program") + 1 + 3<<20); p.size != want {
		t.Errorf("%d bytes are announced, want %d", p.size, want)
	}
	var sent bytes.Buffer
	for range 2 { // a second controller gets the same
		body, err := p.open()
		must(err)
		sent.Reset()
		_, err = io.Copy(&sent, body)
		must(err)
		must(body.Close())
	}
	got, err := segment.OpenTar(&sent, t.TempDir(), segment.Limits{})
	must(err)
	defer got.Close()
	want, err := segment.OpenDir(dir, segment.Limits{})
	must(err)
	defer want.Close()
	if len(got.Entries()) != len(want.Entries()) {
		t.Fatalf("%d entries arrived, %d were there", len(got.Entries()), len(want.Entries()))
	}
	for i, e := range want.Entries() {
		if !reflect.DeepEqual(got.Entries()[i], e) {
			t.Errorf("arrived %+v\n    was %+v", got.Entries()[i], e)
		}
	}
	content := func(s segment.Source) string {
		f, err := s.Open("usr/bin/sudo")
		must(err)
		defer f.Close()
		b, err := io.ReadAll(f)
		must(err)
		return string(b)
	}
	if got, want := content(got), content(want); got != want {
		t.Errorf("content %q, want %q", got, want)
	}
}

func TestWhatCannotBeAnImageIsRefusedBeforeItIsSent(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for source, kind := range map[string]fault.Kind{filepath.Join(dir, "nothing"): fault.NotFound, filepath.Join(dir, "pipe"): fault.Invalid} {
		if _, err := newPayload(source, nil); fault.KindOf(err) != kind {
			t.Errorf("%s: %v, want %s", source, err, kind)
		}
	}
}

// A file that shrinks under way ends the upload with the reason, and not with what the connection says of it.
func TestAFileThatShrinksEndsTheUpload(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	if err := os.WriteFile(name, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := newPayload(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := os.Truncate(name, 10); err != nil {
		t.Fatal(err)
	}
	u := &upload{bar: &progress{out: io.Discard}}
	body, err := u.from(p.open)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, fault.Conflict) {
		t.Errorf("reading: %v", err)
	}
	if err := u.explain(errors.New("connection reset")); !errors.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "log") {
		t.Errorf("explained as %v", err)
	}
}

func TestStandardInputIsSentOnce(t *testing.T) {
	p, err := newPayload("-", strings.NewReader("tar"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.open(); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a second time: %v", err)
	}
}
