package segment

import (
	"bytes"
	"context"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const (
	// window is the most that a frame may ask of its reader. Kernels refuse an initramfs that asks for more than
	// 8 MiB where they were built with little memory in mind, and every unpacking goroutine of a node pays for it.
	window = 8 << 20
	// keepBuffer is how large an output buffer may be to be used again for the next segment.
	keepBuffer = 32 << 20
)

// A press compresses one thing after another into single zstd frames.
type press struct {
	enc *zstd.Encoder
	out bytes.Buffer
}

// compress returns what write writes, size bytes, as one frame with content size and check sum. The bytes are
// good until the next call.
func (p *press) compress(level int, size int64, write func(io.Writer) error) ([]byte, error) {
	if p.enc == nil {
		enc, err := newEncoder(level)
		if err != nil {
			return nil, err
		}
		p.enc = enc
	}
	if p.out.Cap() > keepBuffer {
		p.out = bytes.Buffer{}
	}
	p.out.Reset()
	p.enc.ResetContentSize(&p.out, size)
	if err := write(p.enc); err != nil {
		return nil, err
	}
	if err := p.enc.Close(); err != nil {
		return nil, err
	}
	return p.out.Bytes(), nil
}

func newEncoder(level int) (*zstd.Encoder, error) {
	if level < 1 || level > 19 {
		return nil, fault.New(fault.Invalid, "compression level %d is not between 1 and 19", level)
	}
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(1), // several goroutines in one frame would give other bytes
		zstd.WithWindowSize(window),
		zstd.WithEncoderCRC(true))
}

// Pack makes one segment of a whole small tree, in the order of its entries and without one for the root: an
// initramfs of its own, or to be laid over another one. Equal trees and levels give equal bytes.
func Pack(ctx context.Context, src Source, level int) ([]byte, error) {
	entries := src.Entries()
	all := make([]*Entry, len(entries))
	for i := range entries {
		all[i] = &entries[i]
	}
	b := &builder{src: src}
	return new(press).compress(level, archiveSize(all), func(w io.Writer) error {
		a := NewWriter(w)
		sums := make(map[int]chunk.ID) // of hard links, whose content is read once
		for _, e := range all {
			sum := sums[e.Group]
			if err := b.entry(ctx, a, e, &sum); err != nil {
				return err
			}
			if e.Group > 0 {
				sums[e.Group] = sum
			}
		}
		return a.Close()
	})
}
