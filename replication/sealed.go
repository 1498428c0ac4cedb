package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// disk is raft's database with checksums and manners. It implements raft.LogStore and raft.StableStore.
//
// raft panics when its term cannot be written or an entry cannot be read, which would take down everything else in
// the process. So an operation that raft would panic over reports the error to the Node, which stops the instance
// and says why, and ends the goroutine that asked; raft's own cleaning up is all deferred. After a failed write
// nothing is written any more: a second fsync after a failed one may succeed without the data being on disk.
type disk struct {
	db   *raftboltdb.BoltStore
	fail func(error) // reports what this disk cannot survive; nil while verifying: errors are then only returned

	full      atomic.Bool // refuse to grow: the file system has no space to speak of
	dead      atomic.Bool // a write failed
	truncated atomic.Bool // a suffix was just removed
}

var (
	_ raft.LogStore    = (*disk)(nil)
	_ raft.StableStore = (*disk)(nil)
)

// guard runs op and makes an error of a panic in the database below, which trusts the pages it reads, and of the
// memory fault that a page gives when the disk cannot deliver it.
func (d *disk) guard(op func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Corrupt, "the log's database is damaged: %v", p)
		}
	}()
	return op()
}

// write runs an operation that changes the database.
func (d *disk) write(what string, op func() error) error {
	if d.dead.Load() {
		return fault.New(fault.Internal, "%s: the disk failed before", what)
	}
	err := d.guard(op)
	if err == nil {
		return nil
	}
	d.dead.Store(true)
	kind := fault.KindOf(err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = fault.Full
	}
	err = fault.Wrap(kind, err, "%s failed", what)
	if d.fail != nil {
		d.fail(err)
	}
	return err
}

// give ends the calling goroutine after an error that raft would panic over.
func (d *disk) give(err error) {
	if d.fail != nil {
		d.fail(err)
		runtime.Goexit()
	}
}

// FirstIndex returns the first index stored, 0 for none.
func (d *disk) FirstIndex() (i uint64, err error) {
	err = d.guard(func() (err error) { i, err = d.db.FirstIndex(); return err })
	return i, err
}

// LastIndex returns the last index stored, 0 for none.
func (d *disk) LastIndex() (i uint64, err error) {
	err = d.guard(func() (err error) { i, err = d.db.LastIndex(); return err })
	return i, err
}

// entry reads an entry and checks its seal: raft.ErrLogNotFound, or fault.Corrupt if it is not as it was stored.
func (d *disk) entry(i uint64, l *raft.Log) error {
	err := d.guard(func() error { return d.db.GetLog(i, l) })
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return err
	case err != nil:
		return fault.Wrap(fault.Corrupt, err, "entry %d is torn or damaged", i)
	case l.Index != i:
		return fault.New(fault.Corrupt, "entry %d is stored in the place of entry %d", l.Index, i)
	}
	return checkSeal(l)
}

// GetLog reads an entry for raft.
func (d *disk) GetLog(i uint64, l *raft.Log) error {
	err := d.entry(i, l)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		d.give(err)
	}
	return err
}

// StoreLog stores one entry.
func (d *disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

// StoreLogs makes entries durable. The leader's new ones are sealed here; a follower's are checked, so that damage
// on the way is refused and the leader sends them again.
func (d *disk) StoreLogs(logs []*raft.Log) error {
	if d.full.Load() && !d.truncated.Load() {
		return fault.New(fault.Full, "no space is left to store entries")
	}
	d.truncated.Store(false)
	for _, l := range logs {
		if l.Extensions == nil {
			l.Extensions = sealOf(l)
		} else if err := checkSeal(l); err != nil {
			return fmt.Errorf("refusing what arrived: %w", err)
		}
	}
	return d.write("storing entries", func() error { return d.db.StoreLogs(logs) })
}

// DeleteRange removes entries from first to last, both included.
func (d *disk) DeleteRange(first, last uint64) error {
	// Raft follows the removal of a conflicting suffix by StoreLogs and is confused if only that is refused.
	end, err := d.LastIndex()
	if err != nil {
		return err
	}
	if suffix := last >= end; suffix {
		if d.full.Load() {
			return fault.New(fault.Full, "no space is left to replace entries")
		}
		d.truncated.Store(true)
	}
	return d.write("removing entries", func() error { return d.db.DeleteRange(first, last) })
}

// Set stores a value with its checksum.
func (d *disk) Set(key, value []byte) error {
	b := make([]byte, frameHeader, frameHeader+len(value))
	b[0] = sealVersion
	binary.BigEndian.PutUint32(b[1:], checksum(b[:1], key, value))
	b = append(b, value...)
	err := d.write(fmt.Sprintf("storing %s", key), func() error { return d.db.Set(key, b) })
	if err != nil {
		d.give(err)
	}
	return err
}

// Get returns a value that Set stored; the error for none is the one whose text raft knows.
func (d *disk) Get(key []byte) ([]byte, error) {
	var b []byte
	err := d.guard(func() (err error) { b, err = d.db.Get(key); return err })
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, raftboltdb.ErrKeyNotFound
	}
	if err == nil && (len(b) < frameHeader || b[0] != sealVersion ||
		binary.BigEndian.Uint32(b[1:]) != checksum(b[:1], key, b[frameHeader:])) {
		err = fault.New(fault.Corrupt, "the stored value of %s is damaged", key)
	}
	if err != nil {
		d.give(err)
		return nil, err
	}
	return b[frameHeader:], nil
}

// SetUint64 stores a number.
func (d *disk) SetUint64(key []byte, v uint64) error {
	return d.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 returns a number that SetUint64 stored.
func (d *disk) GetUint64(key []byte) (uint64, error) {
	b, err := d.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fault.New(fault.Corrupt, "the stored value of %s is not a number", key)
	}
	return binary.BigEndian.Uint64(b), nil
}
