package replication

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Where things are below Config.Dir.
const (
	storeDir       = "raft"      // log, votes and snapshots; set aside as a whole when damaged
	databaseFile   = "raft.db"   // in storeDir
	snapshotDir    = "snapshots" // in storeDir; the name is raft's
	quarantine     = "raft.corrupt-"
	quarantineKeep = 2 // damaged stores kept for whoever wants to look
	keepSnapshots  = 2
	databasePage   = 4096 // bytes
	cachedEntries  = 512
)

// Keys in the database: one of ours, and raft's.
const (
	keyStore    = "wulf/store"
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"
)

// store is everything durable of one member.
type store struct {
	dir   string
	id    string // see Member.Store
	fresh bool   // it holds nothing yet
	disk  *disk
	files *raft.FileSnapshotStore
}

// openStore verifies what is stored, opens it for writing, and removes what a crash may have left half done.
// Damage is fault.Corrupt; a store that another process holds is fault.Conflict.
func openStore(dir string, log *slog.Logger, fail func(error)) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshots, newRaftLogger(log))
	if err != nil {
		return nil, err
	}
	v := verifier{dir: dir, files: files, log: log}
	if err := v.verify(); err != nil {
		return nil, err
	}
	s := &store{dir: dir, fresh: v.last == 0 && v.snapshot == nil, files: files, disk: &disk{}}
	if s.disk.db, err = openDatabase(filepath.Join(dir, databaseFile), false); err != nil {
		return nil, err
	}
	if err := s.settle(&v); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.disk.fail = fail
	return s, nil
}

// settle gives a new store its name and takes back a log that the newest snapshot contradicts.
func (s *store) settle(v *verifier) error {
	id, err := s.disk.Get([]byte(keyStore))
	switch {
	case err == nil:
		s.id = string(id)
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
		if !s.fresh {
			return fault.New(fault.Corrupt, "the store in %s has lost its name", s.dir)
		}
		b := make([]byte, 8)
		rand.Read(b)
		s.id = hex.EncodeToString(b)
		if err := s.disk.Set([]byte(keyStore), []byte(s.id)); err != nil {
			return err
		}
	default:
		return err
	}
	return s.dropContradicted(v.snapshot)
}

// dropContradicted removes the log if its entry at the snapshot's index is of another term, as a crash may have left
// it; see snapshots.Create.
func (s *store) dropContradicted(newest *raft.SnapshotMeta) error {
	if newest == nil {
		return nil
	}
	var l raft.Log
	if err := s.disk.entry(newest.Index, &l); errors.Is(err, raft.ErrLogNotFound) || err == nil && l.Term == newest.Term {
		return nil
	} else if err != nil {
		return err
	}
	return dropLog(s.disk)
}

func dropLog(log raft.LogStore) error {
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	return log.DeleteRange(first, last)
}

// newest returns the newest snapshot there is, or nil.
func (s *store) newest() (*raft.SnapshotMeta, error) {
	metas, err := s.files.List()
	if err != nil || len(metas) == 0 {
		return nil, err
	}
	return metas[0], nil
}

func (s *store) close() error { return s.disk.guard(s.disk.db.Close) }

func openDatabase(path string, readOnly bool) (db *raftboltdb.BoltStore, err error) {
	err = new(disk).guard(func() (err error) {
		db, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
			// The free list is rebuilt at start instead of written at each commit, and found in O(1).
			NoFreelistSync: true,
			PageSize:       databasePage, // the same everywhere, see verifyHeads
			FreelistType:   bbolt.FreelistMapType,
			Timeout:        time.Second,
			ReadOnly:       readOnly,
		}})
		return err
	})
	var sys *os.PathError
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fault.New(fault.Conflict, "another process uses %s", path).WithFix("stop the other controller, or give this one its own --data directory")
	case errors.As(err, &sys):
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return nil, fault.Wrap(fault.Corrupt, err, "the log's database %s is damaged", path)
}

// verifier reads everything that is stored once, before raft trusts any of it.
type verifier struct {
	dir   string
	files *raft.FileSnapshotStore
	log   *slog.Logger

	first, last uint64             // what the log holds; 0 for nothing
	snapshot    *raft.SnapshotMeta // the newest good one
}

func (v *verifier) verify() error {
	path := filepath.Join(v.dir, databaseFile)
	info, err := os.Stat(path)
	if err == nil && info.Size() > 0 {
		err = v.verifyDatabase(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return v.verifySnapshots()
}

// verifyDatabase checks every entry. The database is opened for reading only: opening it for writing walks its pages
// on a goroutine of the library's, where a damaged page would end the process.
func (v *verifier) verifyDatabase(path string) error {
	if err := verifyHeads(path); err != nil {
		return err
	}
	db, err := openDatabase(path, true)
	if err != nil {
		return err
	}
	d := &disk{db: db}
	err = v.verifyEntries(d)
	return errors.Join(err, d.guard(db.Close))
}

// verifyHeads checks the two head pages of the database, of which the newer counts. The library goes back to the
// older one without a word when the newer is damaged, and the last write is gone. A power cut does not do that: a
// head lies within one sector.
func verifyHeads(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const pageHeader, sumAt = 16, 56 // of bbolt, file format 2: the FNV-1a of what is before it follows the fields
	for page := range int64(2) {
		head := make([]byte, sumAt+8)
		if _, err := f.ReadAt(head, page*databasePage+pageHeader); err != nil {
			return fault.Wrap(fault.Corrupt, err, "head %d of %s cannot be read", page, path)
		}
		sum := fnv.New64a()
		sum.Write(head[:sumAt])
		if sum.Sum64() != binary.NativeEndian.Uint64(head[sumAt:]) {
			return fault.New(fault.Corrupt, "head %d of %s is damaged; the last write may be missing", page, path)
		}
	}
	return nil
}

func (v *verifier) verifyEntries(d *disk) (err error) {
	if v.first, err = d.FirstIndex(); err != nil {
		return err
	}
	if v.last, err = d.LastIndex(); err != nil {
		return err
	}
	for _, key := range []string{keyStore, keyTerm, keyVoteTerm, keyVote} {
		if _, err := d.Get([]byte(key)); err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return err
		}
	}
	if v.last == 0 {
		return nil
	}
	var term uint64
	for i := v.first; i <= v.last; i++ {
		var l raft.Log
		if err := d.entry(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			return fault.New(fault.Corrupt, "entry %d is missing between %d and %d", i, v.first, v.last)
		} else if err != nil {
			return err
		}
		if l.Term < term {
			return fault.New(fault.Corrupt, "entry %d is of term %d, the one before it of term %d", i, l.Term, term)
		}
		term = l.Term
		if l.Type == raft.LogCommand {
			if _, err := decodeFrame(l.Data); err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
		}
	}
	current, err := d.GetUint64([]byte(keyTerm))
	if err != nil {
		return fault.Wrap(fault.Corrupt, err, "the current term cannot be read")
	}
	if current < term {
		return fault.New(fault.Corrupt, "the current term is %d, the last entry is of term %d", current, term)
	}
	return nil
}

// verifySnapshots finds the newest good snapshot and removes damaged ones that the log makes up for, because raft
// would go on offering them to followers.
func (v *verifier) verifySnapshots() error {
	base := filepath.Join(v.dir, snapshotDir)
	dirs, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	bad := make(map[string]uint64)
	for _, d := range dirs {
		name := d.Name()
		if !d.IsDir() || strings.HasSuffix(name, ".tmp") { // a snapshot that was not finished
			if err := os.RemoveAll(filepath.Join(base, name)); err != nil {
				return err
			}
			continue
		}
		meta, err := v.verifySnapshot(name)
		if err != nil {
			index, perr := snapshotIndex(name)
			if perr != nil {
				return perr
			}
			v.log.Warn("a snapshot is damaged", "name", name, "err", err)
			bad[name] = index
			continue
		}
		if v.snapshot == nil || meta.Term > v.snapshot.Term || meta.Term == v.snapshot.Term && meta.Index > v.snapshot.Index {
			v.snapshot = meta
		}
	}
	var covered uint64
	if v.snapshot != nil {
		covered = v.snapshot.Index
	}
	if v.first > covered+1 {
		return fault.New(fault.Corrupt, "the log begins at entry %d, and the newest good snapshot ends at %d", v.first, covered)
	}
	for name, index := range bad {
		if index > max(covered, v.last) {
			return fault.New(fault.Corrupt, "the snapshot of index %d is damaged, and nothing else reaches as far", index)
		}
		if err := os.RemoveAll(filepath.Join(base, name)); err != nil {
			return err
		}
	}
	return nil
}

// snapshotIndex reads the index out of a snapshot's directory name, term-index-milliseconds.
func snapshotIndex(name string) (uint64, error) {
	parts := strings.Split(name, "-")
	if len(parts) == 3 {
		if i, err := strconv.ParseUint(parts[1], 10, 64); err == nil {
			return i, nil
		}
	}
	return 0, fault.New(fault.Corrupt, "%q is not the name of a snapshot", name)
}

func (v *verifier) verifySnapshot(name string) (*raft.SnapshotMeta, error) {
	meta, rc, err := v.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if prefix := fmt.Sprintf("%d-%d-", meta.Term, meta.Index); meta.ID != name || !strings.HasPrefix(name, prefix) {
		return nil, fault.New(fault.Corrupt, "the snapshot %s is filed as %s", meta.ID, name)
	}
	r, err := newSnapshotReader(rc)
	if err != nil {
		return nil, err
	}
	if err := r.head.fits(meta); err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, r)
	return meta, err
}

// setAside renames a damaged store so that an empty one can take its place, and returns the new name. The oldest of
// several damaged ones go.
func setAside(dir string, now time.Time) (string, error) {
	to := filepath.Join(dir, quarantine+now.UTC().Format("20060102T150405.000Z"))
	if err := os.Rename(filepath.Join(dir, storeDir), to); err != nil {
		return "", err
	}
	if err := syncDir(dir); err != nil {
		return "", err
	}
	kept, err := filepath.Glob(filepath.Join(dir, quarantine+"*")) // sorted, so by time
	if err != nil {
		return "", err
	}
	for len(kept) > quarantineKeep {
		if err := os.RemoveAll(kept[0]); err != nil {
			return "", err
		}
		kept = kept[1:]
	}
	return to, nil
}
