package segment

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestIndexSaysWhatIsWhere(t *testing.T) {
	src := openTar(t, makeTar(t, append(system(), library(8, 60)...)...))
	b := build(t, src, Options{})
	entries := src.Entries()
	n := 0
	for x, err := range ReadIndex(bytes.NewReader(b.chunks[b.Index.ID]), 1<<20) {
		if err != nil {
			t.Fatal(err)
		}
		e := normal(&entries[n])
		n++
		if x.Path != e.Path || x.Type != e.Type || x.Mode != e.Mode || x.UID != e.UID || x.GID != e.GID || x.Size != e.Size ||
			x.MTime != e.MTime || x.Link != e.Link || x.Group != e.Group || x.Major != e.Major || x.Minor != e.Minor {
			t.Errorf("got %+v\nwant %+v", x, e)
		}
		if e.Type == File && x.SHA256 != chunk.Of([]byte(read(t, src, e.Path))) || e.Type != File && !x.SHA256.IsZero() {
			t.Errorf("%q has the digest %v", x.Path, x.SHA256)
		}
		if (x.Segment == 0) != (e.Type != File || e.Size == 0) || x.Segment >= len(b.Segments) {
			t.Errorf("%q is in segment %d", x.Path, x.Segment)
		}
	}
	if n != len(entries) {
		t.Errorf("%d of %d entries", n, len(entries))
	}
}

func TestExtrasHoldWhatCpioCannot(t *testing.T) {
	b := build(t, openTar(t, makeTar(t, system()...)), Options{})
	var got []string
	for x, err := range readExtras(bytes.NewReader(b.chunks[b.Extras.ID]), 1<<20) {
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range x.Xattrs {
			got = append(got, x.Path+" "+name+" "+string(value[:1]))
		}
	}
	if got, want := strings.Join(got, "; "), "etc/noted user.note b; usr/bin/ping security.capability \x01"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := strings.Join(b.Special, " "), "etc/noted usr/bin/ping"; got != want {
		t.Errorf("special: got %q, want %q", got, want)
	}
	if b := build(t, openTar(t, makeTar(t, regular("a", "a"))), Options{}); !b.Extras.ID.IsZero() || b.Special != nil {
		t.Errorf("a plain tree has extras")
	}
}

func TestBrokenIndexesAreRefused(t *testing.T) {
	const head = `{"kind":"wulfmesh-index","format":1}` + "\n"
	for name, c := range map[string]struct {
		text string
		kind fault.Kind
	}{
		"empty":     {"", fault.Corrupt},
		"no JSON":   {"hello\n", fault.Corrupt},
		"extras":    {`{"kind":"wulfmesh-extras","format":1}` + "\n", fault.Corrupt},
		"future":    {`{"kind":"wulfmesh-index","format":2}` + "\n", fault.Invalid},
		"bad line":  {head + "{\n", fault.Corrupt},
		"bad sum":   {head + `{"path":"a","sha256":"xyz"}` + "\n", fault.Corrupt},
		"long line": {head + `{"path":"` + strings.Repeat("a", 3<<20) + `"}` + "\n", fault.Corrupt},
		"too much":  {head + strings.Repeat(`{"path":"a"}`+"\n", 1<<20), fault.Corrupt},
	} {
		b, _ := pack(t, []byte(c.text), 0)
		var last error
		for _, err := range ReadIndex(bytes.NewReader(b), 4<<20) {
			last = err
		}
		if !errors.Is(last, c.kind) {
			t.Errorf("%s: got %v, want %s", name, last, c.kind)
		}
	}
	for _, err := range ReadIndex(strings.NewReader("no zstd"), 1<<20) {
		if !errors.Is(err, fault.Corrupt) {
			t.Errorf("no zstd: got %v", err)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"kind":"wulfmesh-index","format":1}` + "\n" + `{"path":"a","type":"file","mode":420,"segment":1}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		z, _ := pack(t, b, 0)
		for _, err := range ReadIndex(bytes.NewReader(z), 1<<20) {
			if err != nil && !errors.Is(err, fault.Corrupt) && !errors.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
		}
	})
}
