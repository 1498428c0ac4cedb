package segment

import (
	"bufio"
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxWindow bounds the memory that a zstd stream from outside may ask for: what zstd --long uses.
const maxWindow = 128 << 20

// Decompress looks at the first bytes of r and returns what is in it: gzip and zstd streams are unpacked, any
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
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		// An xz stream may claim a dictionary of 4 GiB in each of its blocks, and the reader there is for it
		// (ulikunitz/xz) believes every one.
		return nil, true, fault.New(fault.Invalid, "xz compression is not read here").WithFix("unpack the file with xz -d first")
	}
	return io.NopCloser(b), false, nil
}
