package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// xzOf compresses b.
func xzOf(t testing.TB, b []byte, c xz.WriterConfig) []byte {
	t.Helper()
	if c.DictCap == 0 {
		c.DictCap = 1 << 20
	}
	var z bytes.Buffer
	w, err := c.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

func decompressed(b []byte) ([]byte, error) {
	r, _, err := Decompress(stream{bytes.NewReader(b)})
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestXZIsReadInAllItsForms(t *testing.T) {
	b := makeTar(t, library(21, 12)...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	one, two := xzOf(t, b[:1000], xz.WriterConfig{}), xzOf(t, b[1000:], xz.WriterConfig{})
	forms := map[string][]byte{
		"no check sums": xzOf(t, b, xz.WriterConfig{NoCheckSum: true}),
		"CRC-32":        xzOf(t, b, xz.WriterConfig{CheckSum: xz.CRC32}),
		"CRC-64":        xzOf(t, b, xz.WriterConfig{CheckSum: xz.CRC64}),
		"SHA-256":       xzOf(t, b, xz.WriterConfig{CheckSum: xz.SHA256}),
		"blocks":        xzOf(t, b, xz.WriterConfig{BlockSize: 2_001}),
		"streams":       join(one, two),
		"padding":       join(one, make([]byte, 8), two, make([]byte, 4)),
		"empty stream":  join(xzOf(t, nil, xz.WriterConfig{}), one, two),
	}
	if program, err := exec.LookPath("xz"); err == nil {
		for name, args := range map[string][]string{"xz -9e": {"-9e"}, "xz -0": {"-0"}, "xz of several blocks": {"-T2", "--block-size=4000"}} {
			cmd := exec.Command(program, append(args, "-c")...)
			cmd.Stdin = bytes.NewReader(b)
			if forms[name], err = cmd.Output(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, z := range forms {
		if got, err := decompressed(z); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes (%v), want %d", name, len(got), err, len(b))
		}
	}
}

func TestBrokenXZIsRefused(t *testing.T) {
	plain := bytes.Repeat([]byte("some content "), 50)
	good := xzOf(t, plain, xz.WriterConfig{})
	// header changes the header of the first block, which follows the 12 bytes of the stream's.
	header := func(change func(h []byte)) []byte {
		b := bytes.Clone(good)
		h := b[12 : 12+(int(b[12])+1)*4]
		change(h)
		binary.LittleEndian.PutUint32(h[len(h)-4:], crc32.ChecksumIEEE(h[:len(h)-4]))
		return b
	}
	filter := bytes.IndexByte(good[12:], 0x21)
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
	for name, b := range map[string][]byte{
		"dictionary of 4 GiB": header(func(h []byte) { h[filter+2] = 40 }),
		"dictionary of 1 GiB": header(func(h []byte) { h[filter+2] = 36 }),
		"no dictionary":       header(func(h []byte) { h[filter+2] = 41 }),
		"another filter":      header(func(h []byte) { h[filter] = 4 }),
		"filter properties":   header(func(h []byte) { h[filter+1] = 2 }),
		"two filters":         header(func(h []byte) { h[1] |= 1 }),
		"reserved flag":       header(func(h []byte) { h[1] |= 4 }),
		"check sum of header": flip(12 + (int(good[12])+1)*4 - 1),
		"stream flags":        flip(7),
		"content":             flip(60),
		"check sum":           flip(-32),
		"end":                 flip(-1),
		"check sum of end":    flip(-10),
		"garbage behind":      append(bytes.Clone(good), "garbage"...),
		"wrong padding":       append(bytes.Clone(good), 0, 0, 0),
		"unknown check sum":   append([]byte(xzMagic+"\x00\x0f"), good[8:]...),
		"only a header":       good[:12],
		"only a magic":        good[:6],
	} {
		if _, err := decompressed(b); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
	for n := 7; n < len(good); n++ {
		if _, err := decompressed(good[:n]); !errors.Is(err, fault.Invalid) {
			t.Fatalf("the first %d of %d bytes: got %v, want fault.Invalid", n, len(good), err)
		}
	}
}

func TestTinyBlocksWithLargeDictionariesAreRefused(t *testing.T) {
	one := xzOf(t, []byte("x"), xz.WriterConfig{DictCap: maxWindow})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decompressed(bytes.Repeat(one, 10_000))
	runtime.ReadMemStats(&after)
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "tiny blocks") {
		t.Errorf("got %v, want fault.Invalid", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*maxWindow {
		t.Errorf("%d bytes were allocated on the way", n)
	}
}

func FuzzDecompress(f *testing.F) {
	plain := []byte("some content, and some content more")
	for _, z := range compressed(f, plain) {
		f.Add(z)
	}
	f.Add(xzOf(f, plain, xz.WriterConfig{BlockSize: 10, CheckSum: xz.SHA256}))
	f.Add([]byte("BZh91AY&SY\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := Decompress(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		if err == nil && n < 1<<20 && bytes.HasPrefix(b, []byte(xzMagic)) {
			// What is read as xz is so by the library's own reader as well.
			if z, err := xz.NewReader(bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			} else if m, err := io.Copy(io.Discard, z); m != n {
				t.Fatalf("%d bytes, and %d by another reader (%v)", n, m, err)
			}
		}
	})
}
