package httpd

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// A stored gzip member (RFC 1952) whose blocks are not compressed (RFC 1951, 3.2.4): who can read nothing but gzip gets
// what is known to be large or packed already for the price of a check sum, and its length is known before.
const (
	storedBlock = 1<<16 - 1
	storedHead  = 10
	storedEnd   = 8
)

// storedSize is the length of the member of so many bytes.
func storedSize(n int64) int64 {
	blocks := max((n+storedBlock-1)/storedBlock, 1)
	return storedHead + n + 5*blocks + storedEnd
}

// stored writes a member of a content whose size it is told at the beginning. Close it.
type stored struct {
	w     io.Writer
	left  int64 // of the content
	block int64 // left of the block
	sum   uint32
	size  uint32
	begun bool
}

func newStored(w io.Writer, size int64) *stored { return &stored{w: w, left: size} }

// head begins the next block; the first comes after the head of the member.
func (g *stored) head() error {
	var b []byte
	if !g.begun {
		g.begun = true
		b = append(b, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255) // deflate, no flags, no time, of an unknown system
	}
	g.block = min(g.left, storedBlock)
	last := byte(0)
	if g.block == g.left {
		last = 1
	}
	b = append(b, last)
	b = binary.LittleEndian.AppendUint16(b, uint16(g.block))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(g.block))
	_, err := g.w.Write(b)
	return err
}

func (g *stored) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		if g.block == 0 {
			if g.left == 0 {
				return n, io.ErrShortWrite // more than was announced
			}
			if err := g.head(); err != nil {
				return n, err
			}
		}
		part := p[:min(int64(len(p)), g.block)]
		if _, err := g.w.Write(part); err != nil {
			return n, err
		}
		g.sum = crc32.Update(g.sum, crc32.IEEETable, part)
		g.size += uint32(len(part))
		g.block -= int64(len(part))
		g.left -= int64(len(part))
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// Close ends the member. Less than was announced is io.ErrUnexpectedEOF.
func (g *stored) Close() error {
	if g.left > 0 {
		return io.ErrUnexpectedEOF
	}
	if !g.begun {
		if err := g.head(); err != nil {
			return err
		}
	}
	_, err := g.w.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, g.sum), g.size))
	return err
}
