package segment

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxWindow bounds the memory that a zstd stream from outside may ask for: what zstd --long uses.
const maxWindow = 128 << 20

// Decompress looks at the first bytes of r and returns what is in it: gzip, zstd, xz and bzip2 streams are unpacked, any
// other bytes pass through. compressed tells which it was. Its memory is bounded; how much comes out is not, as a
// few bytes may unpack to terabytes, so the caller limits that. Closing the reader does not close r.
func Decompress(r io.Reader) (plain io.ReadCloser, compressed bool, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, true, fault.Wrap(fault.Invalid, err, "reading a gzip header")
		}
		return z, true, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, true, fault.Wrap(fault.Invalid, err, "reading a zstd header")
		}
		return z.IOReadCloser(), true, nil
	case bytes.HasPrefix(head, []byte(xzMagic)):
		x, err := newXZ(b)
		if err != nil {
			return nil, true, err
		}
		return io.NopCloser(x), true, nil
	case len(head) >= 4 && bytes.HasPrefix(head, []byte("BZh")) && '1' <= head[3] && head[3] <= '9':
		return io.NopCloser(bzip2.NewReader(b)), true, nil
	case bytes.HasPrefix(head, []byte{0x04, 0x22, 0x4d, 0x18}):
		return nil, true, fault.New(fault.Invalid, "lz4 compression is not read here").WithFix("unpack the file with lz4 -d first")
	}
	return io.NopCloser(b), false, nil
}
