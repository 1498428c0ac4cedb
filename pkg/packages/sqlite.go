package packages

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The format is that of https://www.sqlite.org/fileformat2.html. What is read is one table, row by row.

const (
	sqliteMagic = "SQLite format 3\x00"
	leafPage    = 13 // of a table
	innerPage   = 5
)

// sqlite is a database that is read. Every page of a sound one is used once, so pages are counted, and what goes in
// circles or claims one page many times is found out.
type sqlite struct {
	file  []byte
	size  int            // of a page
	room  int            // bytes of a page that are used
	pages int            // in the database
	log   map[int][]byte // pages that the write-ahead log has newer
	used  int
}

// sqliteBlobs hands out the column blob of the table Packages.
func sqliteBlobs(file, log []byte, each func([]byte) error) error {
	db, err := openSQLite(file, log)
	if err != nil {
		return err
	}
	root := 0
	err = db.rows(1, 0, func(record []byte) error {
		c, err := columns(record, 4) // type, name, tbl_name, rootpage
		if err != nil {
			return err
		}
		if string(c[0].bytes) == "table" && string(c[1].bytes) == "Packages" {
			root = int(c[3].number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return damaged("it has no table Packages")
	}
	return db.rows(root, 0, func(record []byte) error {
		c, err := columns(record, 2) // hnum, blob
		if err != nil {
			return err
		}
		return each(c[1].bytes)
	})
}

func openSQLite(file, log []byte) (*sqlite, error) {
	if len(file) < 100 || string(file[:16]) != sqliteMagic {
		return nil, damaged("it is no SQLite database")
	}
	db := &sqlite{file: file, size: int(binary.BigEndian.Uint16(file[16:]))}
	if db.size == 1 {
		db.size = 65536
	}
	if db.size < 512 || db.size&(db.size-1) != 0 {
		return nil, damaged("its pages have %d bytes", db.size)
	}
	db.room = db.size - int(file[20])
	if db.room < 480 {
		return nil, damaged("its pages have %d bytes of use", db.room)
	}
	db.pages = len(file) / db.size
	db.replay(log)
	return db, nil
}

// replay takes the pages of the write-ahead log that were committed. A log that ends in the middle is usual; so is one
// that belongs to earlier contents, which its numbers tell.
func (db *sqlite) replay(log []byte) {
	const head, frameHead = 32, 24
	if len(log) < head || int(binary.BigEndian.Uint32(log[8:])) != db.size {
		return
	}
	var order binary.ByteOrder
	switch binary.BigEndian.Uint32(log) {
	case 0x377f0682:
		order = binary.LittleEndian
	case 0x377f0683:
		order = binary.BigEndian
	default:
		return
	}
	sum := walSum([2]uint32{}, log[:24], order)
	if sum != pair(log[24:]) {
		return
	}
	salt := pair(log[16:])
	uncommitted := make(map[int][]byte)
	for rest := log[head:]; len(rest) >= frameHead+db.size; rest = rest[frameHead+db.size:] {
		page := rest[frameHead:][:db.size]
		sum = walSum(walSum(sum, rest[:8], order), page, order)
		if pair(rest[8:]) != salt || pair(rest[16:]) != sum {
			return
		}
		uncommitted[int(binary.BigEndian.Uint32(rest))] = page
		if pages := int(binary.BigEndian.Uint32(rest[4:])); pages > 0 { // of the database, by this commit
			if db.log == nil {
				db.log = make(map[int][]byte)
			}
			for n, p := range uncommitted {
				db.log[n] = p
			}
			clear(uncommitted)
			db.pages = min(pages, len(db.file)/db.size+len(db.log))
		}
	}
}

func pair(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// walSum goes on with the checksum of a write-ahead log.
func walSum(s [2]uint32, b []byte, order binary.ByteOrder) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}

// page returns a page, once in the life of the reader.
func (db *sqlite) page(n int) ([]byte, error) {
	if db.used++; db.used > db.pages+1 { // the first is also the header's
		return nil, damaged("its pages are in a circle")
	}
	if p := db.log[n]; p != nil {
		return p, nil
	}
	if n < 1 || n > db.pages || n*db.size > len(db.file) {
		return nil, damaged("it has no page %d", n)
	}
	return db.file[(n-1)*db.size:][:db.size], nil
}

// rows hands out the records of a table, whose tree has its root at a page.
func (db *sqlite) rows(n, depth int, each func(record []byte) error) error {
	if depth > 20 {
		return damaged("its table is nested too deeply")
	}
	p, err := db.page(n)
	if err != nil {
		return err
	}
	p = p[:db.room]
	at := 0
	if n == 1 {
		at = 100 // behind the header of the file
	}
	kind, cells := p[at], int(binary.BigEndian.Uint16(p[at+3:]))
	pointers := at + 8
	if kind == innerPage {
		pointers += 4
	}
	if kind != innerPage && kind != leafPage || pointers+2*cells > len(p) {
		return damaged("page %d is no part of a table", n)
	}
	for i := range cells {
		off := int(binary.BigEndian.Uint16(p[pointers+2*i:]))
		if off < pointers || off+4 > len(p) {
			return damaged("a cell of page %d lies outside of it", n)
		}
		if kind == innerPage {
			if err := db.rows(int(binary.BigEndian.Uint32(p[off:])), depth+1, each); err != nil {
				return err
			}
			continue
		}
		record, err := db.record(p[off:])
		if err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
		if err := each(record); err != nil {
			return err
		}
	}
	if kind == innerPage {
		return db.rows(int(binary.BigEndian.Uint32(p[at+8:])), depth+1, each)
	}
	return nil
}

// record puts a row together: what of it is in its cell, and the rest from a chain of further pages.
func (db *sqlite) record(cell []byte) ([]byte, error) {
	size, n := varint(cell)
	_, m := varint(cell[n:]) // the row's number
	cell = cell[n+m:]
	if n == 0 || m == 0 || size < 0 || size > int64(db.pages)*int64(db.size) {
		return nil, damaged("a row claims %d bytes", size)
	}
	here := int(size)
	if most := db.room - 35; here > most {
		least := (db.room-12)*32/255 - 23
		if here = least + (int(size)-least)%(db.room-4); here > most {
			here = least
		}
	}
	if here > len(cell) {
		return nil, damaged("a row is cut off")
	}
	if int64(here) == size {
		return cell[:here], nil
	}
	if here+4 > len(cell) {
		return nil, damaged("a row is cut off")
	}
	record := bytes.Clone(cell[:here])
	for next := int(binary.BigEndian.Uint32(cell[here:])); int64(len(record)) < size; {
		p, err := db.page(next)
		if err != nil {
			return nil, err
		}
		next = int(binary.BigEndian.Uint32(p))
		record = append(record, p[4:4+min(db.room-4, int(size)-len(record))]...)
	}
	return record, nil
}

// column is a value of a row: a number, or bytes of a text or a blob.
type column struct {
	number int64
	bytes  []byte
}

// columns reads the first n columns of a record.
func columns(record []byte, n int) ([]column, error) {
	length, used := varint(record)
	if used == 0 || length < int64(used) || length > int64(len(record)) {
		return nil, damaged("a row's header is cut off")
	}
	head, body := record[used:length], record[length:]
	all := make([]column, n)
	for i := range all {
		kind, used := varint(head)
		if used == 0 {
			return nil, damaged("a row has %d columns, and not %d", i, n)
		}
		head = head[used:]
		size := kind/2 - 6 // of a blob or a text
		if kind < 12 {
			size = int64([]int{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[max(kind, 0)])
		}
		if size > int64(len(body)) {
			return nil, damaged("a row is cut off")
		}
		value := body[:size]
		body = body[size:]
		switch {
		case kind >= 12:
			all[i].bytes = value
		case kind >= 1 && kind <= 6:
			for _, b := range value {
				all[i].number = all[i].number<<8 | int64(b)
			}
		case kind == 9:
			all[i].number = 1
		}
	}
	return all, nil
}

// varint reads a number of one to nine bytes; it has used none of them if it is cut off.
func varint(b []byte) (n int64, used int) {
	for i, c := range b[:min(len(b), 9)] {
		if i == 8 {
			return n<<8 | int64(c), 9
		}
		n = n<<7 | int64(c&0x7f)
		if c < 0x80 {
			return n, i + 1
		}
	}
	return 0, 0
}
