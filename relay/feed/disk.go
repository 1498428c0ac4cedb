package feed

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// A store keeps the catalog in two files: a snapshot, and the deltas that came after it, one a line. So a change
// costs what it changes, and is on disk before it is served. Both check themselves: the snapshot by its digest, the
// deltas by the state hash that must come out of them.
//
// The first line of the deltas says which snapshot they belong to. One that is older than that was put back by
// somebody: it is better than none, until a controller answers, but never silently.
type store struct {
	dir string
	fs  durable.FS

	base  int64            // bytes of the snapshot
	tail  int64            // bytes of the deltas
	floor catalog.Revision // the latest that is known to have been served
	whole bool             // the files do not fit together: the next write is a snapshot
}

const (
	snapshotFile = "catalog"
	deltaFile    = "catalog.deltas"
	damaged      = ".damaged" // added to the name of a file that cannot be read

	// The deltas may grow to half of the snapshot, and to this much in any case.
	minTail = 256 << 10
	maxLine = api.MaxAnswer
)

// deltaHead is the first line of the deltas.
//
// History: 1 (2026-11) first: this line, then an api.Delta a line.
type deltaHead struct {
	Format   int              `json:"wulfmesh_feed"`
	Revision catalog.Revision `json:"revision"`
	Hash     catalog.Hash     `json:"hash"`
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

// load returns the catalog on disk, nil if there is none, and what is wrong with it, for people.
func (s *store) load() (*catalog.Catalog, string) {
	s.whole = true
	c, err := s.loadSnapshot()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ""
	}
	if err != nil {
		problem := fmt.Sprintf("the catalog on disk cannot be read (%v); it was put aside and is fetched again", err)
		if err := os.Rename(s.path(snapshotFile), s.path(snapshotFile+damaged)); err != nil {
			problem += ": " + err.Error()
		}
		return nil, problem
	}
	return s.loadDeltas(c)
}

func (s *store) loadSnapshot() (*catalog.Catalog, error) {
	f, err := os.Open(s.path(snapshotFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil {
		s.base = i.Size()
	}
	return catalog.ReadSnapshot(f)
}

// loadDeltas brings c, from the snapshot, up to date.
func (s *store) loadDeltas(c *catalog.Catalog) (*catalog.Catalog, string) {
	s.floor = c.Revision
	f, err := os.Open(s.path(deltaFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, "" // a crash came between the two
	}
	if err != nil {
		return c, fmt.Sprintf("the catalog's deltas on disk cannot be read: %v", err)
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	var h deltaHead
	if line, err := lines.ReadBytes('\n'); err != nil || json.Unmarshal(line, &h) != nil || h.Format != 1 {
		return c, "the catalog's deltas on disk cannot be read"
	}
	switch {
	case h.Revision > c.Revision:
		s.floor = h.Revision
		return c, fmt.Sprintf("the catalog on disk is of revision %d, but revision %d was served here before: an old file was put back. It is served until a controller answers", c.Revision, h.Revision)
	case h.Revision < c.Revision:
		return c, "" // a crash came between the two: all of the deltas are in the snapshot
	}
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			s.whole = false
			if i, err := f.Stat(); err == nil {
				s.tail = i.Size()
			}
			return c, ""
		}
		if err != nil || len(line) > maxLine {
			return c, "" // a crash broke the last line off: it was never served
		}
		var d api.Delta
		if err := json.Unmarshal(line, &d); err != nil {
			return c, fmt.Sprintf("the catalog's deltas on disk are damaged after revision %d", c.Revision)
		}
		next, err := api.Follow(c, &d)
		if err != nil {
			return c, fmt.Sprintf("the catalog's deltas on disk are damaged after revision %d: %v", c.Revision, err)
		}
		c, s.floor = next, next.Revision
	}
}

// append keeps a delta, of which next came.
func (s *store) append(next *catalog.Catalog, d *api.Delta) error {
	line, err := json.Marshal(d)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding a delta")
	}
	if s.whole || s.tail+int64(len(line)) > max(minTail, s.base/2) {
		return s.replace(next)
	}
	if err := appendFile(s.path(deltaFile), append(line, '\n')); err != nil {
		s.whole = true // half a line may stand there
		return err
	}
	s.tail += int64(len(line)) + 1
	s.floor = max(s.floor, next.Revision)
	return nil
}

// replace keeps a whole catalog, and no deltas after it.
func (s *store) replace(c *catalog.Catalog) error {
	s.whole = true
	f, err := s.fs.Create(s.path(snapshotFile), 0o600)
	if err != nil {
		return err
	}
	defer f.Abort()
	if s.base, err = c.WriteTo(f); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	head, err := json.Marshal(deltaHead{1, c.Revision, c.Hash})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding a delta")
	}
	if err := s.fs.WriteFile(s.path(deltaFile), append(bytes.Clone(head), '\n'), 0o600); err != nil {
		return err
	}
	s.whole, s.tail = false, int64(len(head))+1
	s.floor = max(s.floor, c.Revision)
	return nil
}

// appendFile adds to a file that exists, durably.
func appendFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// forget removes what is kept.
func (s *store) forget() error {
	s.whole, s.floor = true, 0
	for _, name := range []string{snapshotFile, deltaFile} {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
