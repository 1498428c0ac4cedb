package replication

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A snapshot is a stream: head, the machine's bytes, tail. The snapshot store below it keeps a CRC-64, but of the
// bytes that arrived, and of nothing that lies beside them in meta.json; so the stream says again where in the log
// it belongs, and its own checksum goes from the leader's memory to the follower's.
//
// History of the format: version 1, 2026-11.
const (
	snapshotMagic   = "WULFLOG\x01" // the last byte is the version
	snapshotTailLen = 8 + crc32.Size
)

// snapshotHead is the fixed-size beginning, big endian.
type snapshotHead struct {
	Magic       [8]byte
	Revision    uint64 // last entry that the machine had applied
	Index       uint64 // place in the log, at or after Revision
	Term        uint64
	ConfigIndex uint64 // entry that made the membership
	ConfigSum   uint32 // CRC-32C of the membership
}

const snapshotHeadLen = 8 + 4*8 + 4

// configSum is the checksum of a membership as raft encodes it.
func configSum(c raft.Configuration) uint32 { return checksum(raft.EncodeConfiguration(c)) }

// fits tells whether the head belongs to a snapshot with this place and membership.
func (h *snapshotHead) fits(m *raft.SnapshotMeta) error {
	if h.Index != m.Index || h.Term != m.Term || h.Revision > m.Index ||
		h.ConfigIndex != m.ConfigurationIndex || h.ConfigSum != configSum(m.Configuration) {
		return fault.New(fault.Corrupt, "the snapshot of index %d in term %d is filed as index %d in term %d, or with another membership",
			h.Index, h.Term, m.Index, m.Term)
	}
	return nil
}

// snapshots is raft's file store with two duties more: it verifies what it takes in, and it notices the snapshot
// that contradicts the log.
type snapshots struct {
	raft.SnapshotStore
	log      raft.LogStore                     // the one raft uses, with its cache
	closing  atomic.Bool                       // the instance stops: what is being written may be given up
	conflict atomic.Bool                       // a snapshot was installed that contradicts the log
	newest   atomic.Pointer[raft.SnapshotMeta] // its index and term; nil for none
}

// Create begins a snapshot, either of our own state or of one that the leader sends.
//
// hashicorp/raft 1.8 keeps a log whose entry at the snapshot's index is of another term, refuses the next entries
// because of it, and is sent the snapshot again, for ever (its issue 697). Nothing after such an entry was ever
// committed. So the log is dropped as soon as the snapshot is on disk (store.dropContradicted does it after a crash
// in between), and raft, which does not know, is restarted after it has installed the snapshot.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	var l raft.Log
	return &snapshotSink{
		SnapshotSink: sink,
		owner:        s,
		meta:         raft.SnapshotMeta{Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex},
		sum:          newSum(),
		contradicts:  s.log.GetLog(index, &l) == nil && l.Term != term,
	}, nil
}

// snapshotSink passes a stream on to the disk and checks it on the way.
type snapshotSink struct {
	raft.SnapshotSink
	owner       *snapshots
	meta        raft.SnapshotMeta
	contradicts bool

	head []byte // the first snapshotHeadLen bytes
	tail []byte // the last snapshotTailLen bytes so far; they are not in sum
	sum  hash.Hash32
	n    uint64 // bytes of state in sum
}

func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// Write takes the next bytes of the stream.
func (s *snapshotSink) Write(p []byte) (int, error) {
	if s.owner.closing.Load() {
		return 0, raft.ErrRaftShutdown
	}
	rest := p
	if missing := snapshotHeadLen - len(s.head); missing > 0 {
		k := min(missing, len(rest))
		s.head = append(s.head, rest[:k]...)
		s.sum.Write(rest[:k])
		rest = rest[k:]
	}
	s.tail = append(s.tail, rest...)
	if over := len(s.tail) - snapshotTailLen; over > 0 {
		s.sum.Write(s.tail[:over])
		s.n += uint64(over)
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	return s.SnapshotSink.Write(p)
}

// Close makes the snapshot last, or refuses it as fault.Corrupt if it is not what the leader wrote.
func (s *snapshotSink) Close() error {
	if err := s.verify(); err != nil {
		return errors.Join(err, s.SnapshotSink.Cancel())
	}
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	s.owner.newest.Store(&s.meta)
	if s.contradicts {
		s.owner.conflict.Store(true)
		return dropLog(s.owner.log)
	}
	return nil
}

func (s *snapshotSink) verify() error {
	head, err := parseSnapshotHead(bytes.NewReader(s.head))
	if err != nil {
		return err
	}
	if err := head.fits(&s.meta); err != nil {
		return err
	}
	return checkSnapshotTail(s.tail, s.n, s.sum.Sum32())
}

// writeState writes head, state and tail.
func (s *snapshotSink) writeState(revision uint64, state io.WriterTo) error {
	h := snapshotHead{
		Revision: revision, Index: s.meta.Index, Term: s.meta.Term,
		ConfigIndex: s.meta.ConfigurationIndex, ConfigSum: configSum(s.meta.Configuration),
	}
	copy(h.Magic[:], snapshotMagic)
	sum := newSum()
	w := &countingWriter{w: io.MultiWriter(s, sum)}
	if err := binary.Write(w, binary.BigEndian, h); err != nil {
		return err
	}
	w.n = 0
	if _, err := state.WriteTo(w); err != nil {
		return err
	}
	tail := binary.BigEndian.AppendUint64(nil, w.n)
	tail = binary.BigEndian.AppendUint32(tail, sum.Sum32())
	_, err := s.Write(tail)
	return err
}

type countingWriter struct {
	w io.Writer
	n uint64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	return n, err
}

func parseSnapshotHead(r io.Reader) (*snapshotHead, error) {
	var h snapshotHead
	if err := binary.Read(r, binary.BigEndian, &h); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "the snapshot is torn in its head")
	}
	if string(h.Magic[:]) != snapshotMagic {
		return nil, fault.New(fault.Corrupt, "the snapshot begins with %q", h.Magic[:])
	}
	return &h, nil
}

func checkSnapshotTail(tail []byte, n uint64, sum uint32) error {
	if len(tail) < snapshotTailLen {
		return fault.New(fault.Corrupt, "the snapshot is torn before its tail")
	}
	if want := binary.BigEndian.Uint64(tail); n != want {
		return fault.New(fault.Corrupt, "the snapshot has %d bytes of state, its tail says %d", n, want)
	}
	if want := binary.BigEndian.Uint32(tail[8:]); sum != want {
		return fault.New(fault.Corrupt, "the snapshot is damaged: CRC-32C is %08x, its tail says %08x", sum, want)
	}
	return nil
}

// snapshotReader reads the machine's bytes out of a snapshot; a damaged one ends in fault.Corrupt, not io.EOF.
type snapshotReader struct {
	head *snapshotHead
	r    *bufio.Reader
	sum  hash.Hash32
	n    uint64 // bytes of state given out
}

func newSnapshotReader(r io.Reader) (*snapshotReader, error) {
	s := &snapshotReader{r: bufio.NewReaderSize(r, 64<<10), sum: newSum()}
	var err error
	s.head, err = parseSnapshotHead(io.TeeReader(s.r, s.sum))
	return s, err
}

// Read gives the next bytes of state, holding back what may be the tail.
func (s *snapshotReader) Read(p []byte) (int, error) {
	b, err := s.r.Peek(min(len(p)+snapshotTailLen, s.r.Size()))
	if ready := len(b) - snapshotTailLen; ready > 0 {
		n := copy(p, b[:ready])
		s.sum.Write(b[:n])
		s.n += uint64(n)
		_, err := s.r.Discard(n)
		return n, err
	}
	if err == nil { // p is empty
		return 0, nil
	}
	if err != io.EOF {
		return 0, fmt.Errorf("reading the snapshot: %w", err)
	}
	if err := checkSnapshotTail(b, s.n, s.sum.Sum32()); err != nil {
		return 0, err
	}
	return 0, io.EOF
}
