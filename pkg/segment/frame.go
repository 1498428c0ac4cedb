package segment

import (
	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxFrameHead is the longest header of a frame, with the header of its first block (RFC 8878, 3.1.1).
const maxFrameHead = 18 + 3

// frameCheck is an io.Writer that follows the structure of what is written to it: it must be exactly one zstd frame
// that every kernel unpacks, with the size of its content and a check sum. Decoders do not tell: two frames, or one
// that is to be skipped, are one stream to them.
type frameCheck struct {
	size  int64 // that the header must announce
	head  []byte
	block []byte // header of the next block, as far as it is there
	left  int64  // bytes of the current block, or of the check sum
	last  bool   // the current block is the last
	sum   bool   // the check sum is what is left
	ended bool
}

// Write takes the next bytes and fails with fault.Corrupt at the first that no segment has.
func (f *frameCheck) Write(p []byte) (int, error) {
	n := len(p)
	if len(f.head) < maxFrameHead {
		take := min(len(p), maxFrameHead-len(f.head))
		f.head = append(f.head, p[:take]...)
		p = p[take:]
		if len(f.head) < maxFrameHead {
			return n, nil
		}
		rest, err := f.header()
		if err != nil {
			return 0, err
		}
		if err := f.blocks(rest); err != nil {
			return 0, err
		}
	}
	if err := f.blocks(p); err != nil {
		return 0, err
	}
	return n, nil
}

// end reports fault.Corrupt unless the frame is complete.
func (f *frameCheck) end() error {
	if !f.ended {
		return fault.New(fault.Corrupt, "its zstd frame is cut short")
	}
	return nil
}

// header looks at the header of the frame and returns what follows it.
func (f *frameCheck) header() ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(f.head); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "it does not start with a zstd frame")
	}
	asks := h.WindowSize
	if h.SingleSegment {
		asks = h.FrameContentSize
	}
	switch {
	case h.Skippable:
		return nil, fault.New(fault.Corrupt, "it starts with a zstd frame that is skipped")
	case h.DictionaryID != 0:
		return nil, fault.New(fault.Corrupt, "its zstd frame needs a dictionary")
	case !h.HasFCS:
		return nil, fault.New(fault.Corrupt, "its zstd frame does not say how large its content is")
	case h.FrameContentSize != uint64(f.size):
		return nil, fault.New(fault.Corrupt, "its zstd frame has %d bytes of content, not %d", h.FrameContentSize, f.size)
	case asks > window:
		return nil, fault.New(fault.Corrupt, "its zstd frame asks for a window of %d bytes, more than %d", asks, window)
	case !h.HasCheckSum:
		return nil, fault.New(fault.Corrupt, "its zstd frame has no check sum")
	}
	return f.head[h.HeaderSize:], nil
}

// blocks follows blocks and the check sum behind the last.
func (f *frameCheck) blocks(p []byte) error {
	const blockHead, sumSize = 3, 4
	for len(p) > 0 {
		if f.ended {
			return fault.New(fault.Corrupt, "something follows its zstd frame")
		}
		if f.left > 0 {
			take := min(f.left, int64(len(p)))
			p, f.left = p[take:], f.left-take
		} else {
			take := min(blockHead-len(f.block), len(p))
			f.block = append(f.block, p[:take]...)
			p = p[take:]
			if len(f.block) < blockHead {
				continue
			}
			h := uint32(f.block[0]) | uint32(f.block[1])<<8 | uint32(f.block[2])<<16
			f.block = f.block[:0]
			f.last, f.left = h&1 != 0, int64(h>>3)
			if h>>1&3 == 1 {
				f.left = 1 // one byte, repeated
			}
		}
		switch {
		case f.left > 0:
		case f.sum:
			f.ended = true
		case f.last:
			f.sum, f.left = true, sumSize
		}
	}
	return nil
}
