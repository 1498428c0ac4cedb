package segment

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"slices"

	"github.com/ulikunitz/xz/lzma"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// xzMagic begins each stream of an xz file (The .xz File Format, version 1.2.1, 2.1.1.1).
const xzMagic = "\xfd7zXZ\x00"

// An xzReader reads xz files: streams of blocks, each with a dictionary of its own. The reader of ulikunitz/xz believes
// every block that asks for a dictionary of up to 4 GiB, so the blocks are read here, and only what is inside of
// them by that library. Their dictionaries are bounded one by one, by maxWindow, and all together, as tiny blocks
// with large ones would keep a processor busy for nothing.
type xzReader struct {
	r     *bufio.Reader
	n     int64     // bytes read of the current block or index
	kind  byte      // of the stream's check sums
	block io.Reader // nil between blocks
	sum   hash.Hash // nil without one
	asked int64     // bytes of all dictionaries so far
	out   int64     // bytes of content so far
	err   error
}

// newXZ starts to read the xz file in r.
func newXZ(r *bufio.Reader) (*xzReader, error) {
	x := &xzReader{r: r}
	return x, x.stream()
}

// Read gives the content; what is wrong with the file is fault.Invalid.
func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil && len(p) > 0 {
		if x.block == nil {
			x.err = x.next()
			continue
		}
		n, err := x.block.Read(p)
		x.out += int64(n)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		if errors.Is(err, io.EOF) {
			err = x.endBlock()
		} else if err != nil {
			err = xzFault(err)
		}
		x.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// counted reads what is counted into n.
type counted struct{ x *xzReader }

func (c counted) Read(p []byte) (int, error) {
	n, err := c.x.r.Read(p)
	c.x.n += int64(n)
	return n, err
}

func (c counted) ReadByte() (byte, error) {
	b, err := c.x.r.ReadByte()
	if err == nil {
		c.x.n++
	}
	return b, err
}

func xzFault(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fault.Wrap(fault.Invalid, err, "reading the xz compression")
}

func xzWrong(why string) error {
	return fault.New(fault.Invalid, "reading the xz compression: %s", why)
}

// fixed reads len(b) bytes, the last four of which are the check sum of the others.
func (x *xzReader) fixed(b []byte) error {
	if _, err := io.ReadFull(counted{x}, b); err != nil {
		return xzFault(err)
	}
	at := len(b) - crc32.Size
	if binary.LittleEndian.Uint32(b[at:]) != crc32.ChecksumIEEE(b[:at]) {
		return xzWrong("a header has another check sum")
	}
	return nil
}

// stream reads the header of a stream.
func (x *xzReader) stream() error {
	var magic [len(xzMagic)]byte
	if _, err := io.ReadFull(x.r, magic[:]); err != nil {
		return xzFault(err)
	}
	if string(magic[:]) != xzMagic {
		return xzWrong("no stream starts where one must")
	}
	var flags [2 + crc32.Size]byte
	if err := x.fixed(flags[:]); err != nil {
		return err
	}
	x.kind = flags[1]
	if flags[0] != 0 || x.kind != 0 && x.check() == nil {
		return xzWrong("it has a kind of check sum that is not known here")
	}
	return nil
}

// check is the check sum of a block.
func (x *xzReader) check() hash.Hash {
	switch x.kind {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return nil
}

// next goes on to the next block, of the next stream perhaps, and returns io.EOF after the last.
func (x *xzReader) next() error {
	for {
		x.n = 0
		size, err := x.r.Peek(1)
		if err != nil {
			return xzFault(err)
		}
		if size[0] != 0 {
			return x.startBlock(size[0])
		}
		if err := x.endStream(); err != nil {
			return err
		}
		for { // padding, in fours
			pad, err := x.r.Peek(4)
			if len(pad) == 0 && errors.Is(err, io.EOF) {
				return io.EOF
			}
			if !bytes.Equal(pad, make([]byte, 4)) {
				break
			}
			x.r.Discard(4)
		}
		if err := x.stream(); err != nil {
			return err
		}
	}
}

// startBlock reads the header of a block.
func (x *xzReader) startBlock(size byte) error {
	head := make([]byte, (int(size)+1)*4)
	if err := x.fixed(head); err != nil {
		return err
	}
	flags := head[1]
	in := bytes.NewReader(head[2 : len(head)-crc32.Size])
	var most uint64
	for _, has := range []byte{0x40, 0x80} { // the sizes of the block and of its content need not be there
		if flags&has != 0 {
			var err error
			if most, err = binary.ReadUvarint(in); err != nil {
				return xzFault(err)
			}
		}
	}
	var filter [3]byte // LZMA2, one byte of properties, and that
	if _, err := io.ReadFull(in, filter[:]); err != nil || flags&0x3f != 0 || filter[0] != 0x21 || filter[1] != 1 {
		return xzWrong("it needs a filter that is not known here")
	}
	if filter[2] > 40 {
		return xzWrong("a dictionary has an impossible size")
	}
	dict := int64(2|filter[2]&1) << (filter[2]/2 + 11)
	if dict > maxWindow {
		return fault.New(fault.Invalid, "the xz compression asks for a dictionary of %d bytes, more than %d", dict, maxWindow).
			WithFix("compress the file again with xz -9 or less")
	}
	if flags&0x80 != 0 {
		dict = int64(min(uint64(dict), max(most, lzma.MinDictCap))) // more than its content no block refers to
	}
	if x.asked += dict; x.asked > 2*maxWindow+64*x.out {
		return xzWrong("it consists of tiny blocks that ask for large dictionaries")
	}
	var err error
	x.n = 0
	if x.block, err = (lzma.Reader2Config{DictCap: int(dict)}).NewReader2(counted{x}); err != nil {
		return xzFault(err)
	}
	x.sum = x.check()
	return nil
}

// endBlock reads what follows the content of a block.
func (x *xzReader) endBlock() error {
	x.block = nil
	if err := x.pad(counted{x}); err != nil {
		return err
	}
	if x.sum == nil {
		return nil
	}
	got, want := make([]byte, x.sum.Size()), x.sum.Sum(nil)
	if _, err := io.ReadFull(x.r, got); err != nil {
		return xzFault(err)
	}
	if len(want) < sha256.Size { // numbers are the other way round
		slices.Reverse(want)
	}
	if !bytes.Equal(got, want) {
		return xzWrong("its content has another check sum")
	}
	return nil
}

// pad reads NUL bytes up to a multiple of 4.
func (x *xzReader) pad(in io.ByteReader) error {
	for x.n%4 != 0 {
		if b, err := in.ReadByte(); err != nil || b != 0 {
			return xzWrong("its padding is not NUL")
		}
	}
	return nil
}

// endStream reads the index, which is of no use to who reads everything, and the footer.
func (x *xzReader) endStream() error {
	in := indexReader{counted{x}, crc32.NewIEEE()}
	if _, err := in.ReadByte(); err != nil { // the NUL that says that it is an index
		return xzFault(err)
	}
	records, err := binary.ReadUvarint(in)
	for ; err == nil && records > 0; records-- { // each is two numbers
		if _, err = binary.ReadUvarint(in); err == nil {
			_, err = binary.ReadUvarint(in)
		}
	}
	if err != nil {
		return xzFault(err)
	}
	if err := x.pad(in); err != nil {
		return err
	}
	var tail [crc32.Size + 12]byte // the check sum of the index; that of the footer, its size, flags and magic
	if _, err := io.ReadFull(x.r, tail[:]); err != nil {
		return xzFault(err)
	}
	le := binary.LittleEndian
	if le.Uint32(tail[:]) != in.sum.Sum32() || le.Uint32(tail[4:]) != crc32.ChecksumIEEE(tail[8:14]) || string(tail[14:]) != "YZ" {
		return xzWrong("the end of a stream is damaged")
	}
	return nil
}

// indexReader reads bytes and sums them up.
type indexReader struct {
	counted
	sum hash.Hash32
}

func (r indexReader) ReadByte() (byte, error) {
	b, err := r.counted.ReadByte()
	if err == nil {
		r.sum.Write([]byte{b})
	}
	return b, err
}
