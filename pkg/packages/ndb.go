package packages

import (
	"encoding/binary"
	"hash/adler32"
)

// ndb is a table of slots and, behind it, a blob for each slot in use; all little-endian, in blocks of 16 bytes.
const (
	ndbPage  = 4096
	ndbBlock = 16
	ndbHead  = 16 // before a blob: magic, number, generation, length
	ndbTail  = 12 // behind it: checksum, length, magic
)

// ndbBlobs hands out the blobs of an ndb database.
func ndbBlobs(db, _ []byte, each func([]byte) error) error {
	word := func(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	if len(db) < ndbPage || string(db[:4]) != "RpmP" || word(db, 1) != 0 {
		return damaged("it is no ndb database that is known")
	}
	table := int64(word(db, 3)) * ndbPage
	if table < ndbPage || table > int64(len(db)) {
		return damaged("its table of %d bytes is not there", table)
	}
	handed := int64(0)
	for slots := db[2*ndbBlock : table]; len(slots) > 0; slots = slots[ndbBlock:] {
		number, at, blocks := word(slots, 1), int64(word(slots, 2))*ndbBlock, int64(word(slots, 3))*ndbBlock
		switch {
		case string(slots[:4]) != "Slot":
			return damaged("a slot of its table is damaged")
		case at == 0:
			continue // unused
		case at < table || at+blocks > int64(len(db)) || blocks < ndbHead+ndbTail:
			return damaged("package %d lies outside of it", number)
		}
		if handed += blocks; handed > int64(len(db)) {
			return damaged("its packages lie in one another")
		}
		b := db[at:][:blocks]
		size := int64(word(b, 3))
		if string(b[:4]) != "BlbS" || word(b, 1) != number || size > blocks-ndbHead-ndbTail {
			return damaged("package %d is damaged", number)
		}
		tail := b[blocks-ndbTail:]
		// The checksum is over all before itself, what fills the last block too.
		if string(tail[8:]) != "BlbE" || word(tail, 0) != adler32.Checksum(b[:blocks-ndbTail]) {
			return damaged("package %d does not match its checksum", number)
		}
		if err := each(b[ndbHead:][:size]); err != nil {
			return err
		}
	}
	return nil
}
