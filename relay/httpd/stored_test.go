package httpd

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
)

func FuzzStored(f *testing.F) {
	f.Add([]byte(""), uint16(1), uint8(1))
	f.Add([]byte("hello"), uint16(2), uint8(1))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 1<<10), uint16(7000), uint8(4)) // 65536 bytes: one more than a block
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 1<<10), uint16(65535), uint8(200))
	f.Fuzz(func(t *testing.T, some []byte, piece uint16, times uint8) {
		content := bytes.Repeat(some, int(times)%8)
		var b bytes.Buffer
		g := newStored(&b, int64(len(content)))
		for rest := content; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			if k, err := g.Write(rest[:n]); k != n || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[n:]
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := int64(b.Len()), storedSize(int64(len(content))); got != want {
			t.Fatalf("%d bytes become %d, %d were announced", len(content), got, want)
		}
		z, err := gzip.NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes of %d come back, %v", len(got), len(content), err)
		}
	})
}

func TestWhatIsStoredHasTheAnnouncedLength(t *testing.T) {
	g := newStored(io.Discard, 3)
	if n, err := g.Write([]byte("four")); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("more than was announced: %d, %v", n, err)
	}
	g = newStored(io.Discard, 3)
	g.Write([]byte("2b"))
	if err := g.Close(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("less than was announced: %v", err)
	}
}
