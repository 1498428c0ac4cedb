package replication

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Entry is one command in its place in the log.
type Entry struct {
	Revision uint64 // index in the log: grows, with gaps, and is the same on every member
	Command  []byte // as it was given to Propose; it must not be changed
}

// Machine is what the log drives. Its methods are called by one goroutine at a time.
//
// Every member calls Apply with the same entries in the same order, so everything Apply does must follow from its
// entries and the state before them: no clock, no randomness, no map order.
type Machine interface {
	// Apply applies a batch, oldest entry first, and returns one result per entry; the proposer of an entry gets
	// its result. A command that breaks a rule is a result, the same on every member. An error says that an entry
	// cannot be understood: this member stops, for going on would let it differ from the others. Entries before
	// the one that failed may or may not have been applied, so the machine must not be used after an error.
	Apply(entries []Entry) ([]any, error)

	// Snapshot returns the present state in O(1), for example a pointer to an immutable value. WriteTo of it runs
	// later and concurrently with Apply, and may never be called.
	Snapshot() io.WriterTo

	// Restore replaces the state by one that a snapshot wrote. It must read to io.EOF before it lets go of the
	// state it has: a damaged snapshot gives an error in the place of io.EOF.
	Restore(r io.Reader) error
}

// unapplied is the result of an entry that was ordered but that this member could not apply.
type unapplied struct{ err error }

// driver drives the Machine for raft. It outlives raft instances: when one is replaced in the running process, the
// entries that the machine has already seen are offered again and skipped.
type driver struct {
	machine Machine
	log     *slog.Logger
	fail    func(error) // stops the Node
	moved   *signal     // fires when applied grows

	applied  atomic.Uint64 // revision of the last entry applied
	work     atomic.Int64  // nanoseconds that the machine has worked on entries since the last snapshot
	offered  uint64        // index of the last entry that the present raft instance offered
	broken   error         // why nothing is applied any more
	restored func()        // called after a snapshot was restored
}

var _ raft.BatchingFSM = (*driver)(nil)

// begin tells the driver that another raft instance drives it from now on.
func (d *driver) begin() { d.offered = 0 }

// ApplyBatch gives commands to the machine. Raft also sends configuration entries, which only move the revision.
func (d *driver) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	entries := make([]Entry, 0, len(logs))
	places := make([]int, 0, len(logs))
	last := d.applied.Load()
	for i, l := range logs {
		d.offered = l.Index
		if l.Index <= last || d.broken != nil {
			results[i] = unapplied{d.broken}
			continue
		}
		last = l.Index
		if l.Type != raft.LogCommand {
			continue
		}
		command, err := decodeFrame(l.Data)
		if err != nil {
			d.stop(fmt.Errorf("revision %d cannot be applied: %w", l.Index, err))
			results[i] = unapplied{d.broken}
			break
		}
		entries = append(entries, Entry{Revision: l.Index, Command: command})
		places = append(places, i)
	}
	if d.broken == nil && len(entries) > 0 {
		out, err := d.apply(entries)
		if err != nil {
			d.stop(err)
		} else {
			for i, r := range out {
				results[places[i]] = r
			}
		}
	}
	if d.broken != nil {
		for i := range results {
			results[i] = unapplied{d.broken}
		}
		return results
	}
	if last > d.applied.Load() {
		d.applied.Store(last)
		d.moved.fire()
	}
	return results
}

// apply calls the machine; a panic in it is an error, for the process may have other work than this log.
func (d *driver) apply(entries []Entry) (out []any, err error) {
	first, last := entries[0].Revision, entries[len(entries)-1].Revision
	defer func() {
		if p := recover(); p != nil {
			d.log.Error("the state machine panicked", "revision", last, "err", p, "stack", string(debug.Stack()))
			err = fault.New(fault.Corrupt, "applying revisions %d to %d panicked: %v", first, last, p)
		}
	}()
	began := time.Now()
	out, err = d.machine.Apply(entries)
	d.work.Add(int64(time.Since(began)))
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "revisions %d to %d cannot be applied", first, last).
			WithFix("run the version of wulf that wrote them, or one that knows them")
	}
	if len(out) != len(entries) {
		return nil, fault.New(fault.Internal, "applying revisions %d to %d gave %d results for %d entries", first, last, len(out), len(entries))
	}
	return out, nil
}

func (d *driver) stop(err error) {
	d.broken = err
	d.fail(err)
}

// Apply is never called by raft, which prefers ApplyBatch.
func (d *driver) Apply(l *raft.Log) any { return d.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot is called between batches, on the goroutine that applies.
func (d *driver) Snapshot() (raft.FSMSnapshot, error) {
	if d.broken != nil {
		return nil, d.broken
	}
	if d.offered < d.applied.Load() {
		// Still replaying: raft would file the state under an index lower than its own. It takes this error in silence.
		return nil, raft.ErrNothingNewToSnapshot
	}
	d.work.Store(0) // if it cannot be written, the next try comes after as much work again
	return &snapshot{revision: d.applied.Load(), state: d.machine.Snapshot()}, nil
}

// Restore replaces the machine's state by the snapshot.
func (d *driver) Restore(rc io.ReadCloser) error {
	sr, err := newSnapshotReader(rc)
	if err != nil {
		return err
	}
	err = d.machine.Restore(sr)
	if err == nil { // a machine that stopped before the end has not seen the checksum
		_, err = io.Copy(io.Discard, sr)
	}
	if err != nil {
		// What was stored was whole, so another try would end the same, and the machine's state may be anything.
		err = fault.Wrap(fault.Corrupt, err, "the snapshot of revision %d cannot be restored", sr.head.Revision)
		d.stop(err)
		return err
	}
	d.applied.Store(sr.head.Revision)
	d.offered = sr.head.Index
	d.work.Store(0)
	d.moved.fire()
	d.restored()
	return nil
}

// snapshot is a state on its way to disk.
type snapshot struct {
	revision uint64
	state    io.WriterTo
}

// Persist writes the state; raft runs it concurrently with ApplyBatch and cancels the sink if it fails.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	out, ok := sink.(*snapshotSink)
	if !ok {
		return errors.New("the snapshot store is not ours")
	}
	return out.writeState(s.revision, s.state)
}

// Release has nothing to give back: the state is an immutable value.
func (s *snapshot) Release() {}
