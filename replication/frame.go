package replication

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Two checksums guard what the log holds, because the database file below it has none of its own: of 400
// single-bit flips tried on one, 106 changed entries without a word.
//
//   - A command travels in a frame, from Propose to Apply on every controller:
//     version (1 byte) | CRC-32C of version and payload (4 bytes, big endian) | payload.
//   - A whole entry (command, configuration or no-op, with its index and term) carries a seal, made by the leader
//     that first stores it and checked by everyone who receives it or reads it back:
//     version (1 byte) | CRC-32C of index, term, type and data (4 bytes, big endian).
//
// History of both formats: version 1, 2026-11.
const (
	frameVersion = 1
	frameHeader  = 1 + crc32.Size
	sealVersion  = 1
	sealSize     = 1 + crc32.Size
)

// checksum is the CRC-32C of the parts one after another. Castagnoli, because processors compute it in hardware.
func checksum(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// encodeFrame returns the payload in a new frame.
func encodeFrame(payload []byte) []byte {
	b := make([]byte, frameHeader, frameHeader+len(payload))
	b[0] = frameVersion
	binary.BigEndian.PutUint32(b[1:], checksum(b[:1], payload))
	return append(b, payload...)
}

// decodeFrame returns the payload of a frame; it shares b's memory. A torn or altered frame is fault.Corrupt.
func decodeFrame(b []byte) ([]byte, error) {
	if len(b) < frameHeader {
		return nil, fault.New(fault.Corrupt, "the command is torn: %d bytes are too few for a frame", len(b))
	}
	if got, want := checksum(b[:1], b[frameHeader:]), binary.BigEndian.Uint32(b[1:]); got != want {
		return nil, fault.New(fault.Corrupt, "the command is damaged: CRC-32C is %08x, its frame says %08x", got, want)
	}
	if b[0] != frameVersion {
		return nil, fault.New(fault.Corrupt, "the command has frame version %d, this program knows %d", b[0], frameVersion).
			WithFix("run the version of wulf that the other controllers run")
	}
	return b[frameHeader:], nil
}

// sealOf returns the seal of an entry.
func sealOf(l *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	b := make([]byte, sealSize)
	b[0] = sealVersion
	binary.BigEndian.PutUint32(b[1:], checksum(b[:1], head[:], l.Data))
	return b
}

// checkSeal tells whether the entry is the one that was sealed; if not, the error is fault.Corrupt.
func checkSeal(l *raft.Log) error {
	if string(l.Extensions) != string(sealOf(l)) {
		return fault.New(fault.Corrupt, "entry %d of term %d is damaged: its seal %x does not fit its content", l.Index, l.Term, l.Extensions)
	}
	return nil
}
