package segment

import "github.com/klauspost/compress/zstd"

// Compressor compresses texts that are held in memory, each into one zstd frame (RFC 8878), which Decompress reads. Any
// number of goroutines may use it.
type Compressor struct{ encoder *zstd.Encoder }

// NewCompressor makes a compressor for texts that are read soon, and rarely by many: it is quick rather than thorough.
func NewCompressor() (*Compressor, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithLowerEncoderMem(true))
	return &Compressor{e}, err
}

// Compress returns the frame of a text.
func (c *Compressor) Compress(text []byte) []byte { return c.encoder.EncodeAll(text, nil) }
