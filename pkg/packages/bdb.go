package packages

import (
	"bytes"
	"encoding/binary"
)

// A Berkeley DB hash is a file of pages. What is in the buckets is found by looking at every page: the order does not
// matter, and so neither does how keys are hashed.
const (
	bdbHash     = 0x061561 // magic of the first page
	bdbHead     = 26       // of a page
	bdbUnsorted = 2        // kinds of pages: two of buckets, and one for what does not fit in them
	bdbSorted   = 13
	bdbOverflow = 7
	bdbInline   = 1 // kinds of items in a bucket
	bdbOffPage  = 3
)

// bdb is a database that is read.
type bdb struct {
	file  []byte
	size  int // of a page
	order binary.ByteOrder
	used  int // overflow pages: in a sound database each belongs to one value
}

// bdbBlobs hands out the values of a hash that are headers.
func bdbBlobs(file, _ []byte, each func([]byte) error) error {
	if len(file) < 512 {
		return damaged("it is no Berkeley DB hash")
	}
	db := &bdb{file: file}
	switch uint32(bdbHash) {
	case binary.LittleEndian.Uint32(file[12:]):
		db.order = binary.LittleEndian
	case binary.BigEndian.Uint32(file[12:]):
		db.order = binary.BigEndian
	default:
		return damaged("it is no Berkeley DB hash")
	}
	db.size = int(db.order.Uint32(file[20:]))
	if db.size < 512 || db.size > 65536 || db.size&(db.size-1) != 0 || file[24] != 0 {
		return damaged("its pages have %d bytes, or are encrypted", db.size)
	}
	if last := int64(db.order.Uint32(file[32:])); (last+1)*int64(db.size) > int64(len(file)) {
		return damaged("it is cut off: page %d is not there", last)
	}
	for n := 1; n < len(file)/db.size; n++ {
		p := db.page(n)
		if p[25] != bdbUnsorted && p[25] != bdbSorted {
			continue
		}
		if err := db.bucket(n, p, each); err != nil {
			return err
		}
	}
	return nil
}

func (db *bdb) page(n int) []byte { return db.file[n*db.size:][:db.size] }

// bucket hands out the values of a page. Keys and values take turns; the items lie from the page's end to its front.
func (db *bdb) bucket(n int, p []byte, each func([]byte) error) error {
	items := int(db.order.Uint16(p[20:]))
	if bdbHead+2*items > len(p) {
		return damaged("page %d has no room for %d items", n, items)
	}
	offset := func(i int) int { return int(db.order.Uint16(p[bdbHead+2*i:])) }
	for i := 1; i < items; i += 2 {
		from, to := offset(i), offset(i-1)
		if from < bdbHead+2*items || from >= to || to > len(p) {
			return damaged("an item of page %d lies outside of it", n)
		}
		item := p[from:to]
		value := item[1:]
		switch item[0] {
		case bdbInline:
		case bdbOffPage:
			if len(item) < 12 {
				return damaged("an item of page %d is cut off", n)
			}
			var err error
			if value, err = db.chain(int(db.order.Uint32(item[4:])), int64(db.order.Uint32(item[8:]))); err != nil {
				return err
			}
		default:
			return damaged("an item of page %d is of kind %d", n, item[0])
		}
		if len(value) < 16 {
			continue // the number that the next package gets
		}
		if err := each(value); err != nil {
			return err
		}
	}
	return nil
}

// chain puts together a value from its pages.
func (db *bdb) chain(n int, size int64) ([]byte, error) {
	if size > int64(len(db.file)) {
		return nil, damaged("a package claims %d bytes", size)
	}
	var value bytes.Buffer
	for int64(value.Len()) < size {
		if n < 1 || n >= len(db.file)/db.size {
			return nil, damaged("it has no page %d", n)
		}
		if db.used++; db.used > len(db.file)/db.size {
			return nil, damaged("its pages are in a circle")
		}
		p := db.page(n)
		length := int(db.order.Uint16(p[22:]))
		if p[25] != bdbOverflow || bdbHead+length > len(p) {
			return nil, damaged("page %d is no part of a package", n)
		}
		value.Write(p[bdbHead:][:length])
		n = int(db.order.Uint32(p[16:]))
	}
	return value.Bytes()[:size], nil
}
