// Package state holds the declared state of the cluster on one controller.
//
// The replicated log drives a State: it applies every entry with catalog.Apply and publishes the catalog that comes
// out. Readers load a pointer and take no lock; followers ask for the entries since a revision, of which the last
// ones are kept; writers propose changes and learn what came of them.
//
// All methods may be called by any number of goroutines at once, but for Apply and Restore, which the log calls one
// after the other. The only goroutines are those of Fresh, which end with the last caller that waits for them.
package state

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/replication"
)

// State is the catalog of one controller and its place in the log. Make one with New, and Attach the log before
// anything is proposed or read linearizably.
type State struct {
	log   Log
	reads reads

	now atomic.Pointer[moment]

	mu     sync.Mutex // orders recent with now: who holds it sees both of one revision
	recent recent
}

// moment is a catalog until the next one is published.
type moment struct {
	catalog *catalog.Catalog
	over    chan struct{} // closed when it is the present one no longer
}

var _ replication.Machine = (*State)(nil)

// New returns the state that a new cluster starts from: the empty catalog.
func New() *State {
	s := &State{}
	s.now.Store(&moment{new(catalog.Catalog), make(chan struct{})})
	return s
}

// Current is the newest catalog on this controller. It may be behind what others have acknowledged; see Fresh.
func (s *State) Current() *catalog.Catalog { return s.now.Load().catalog }

// Watch is Current with a channel that is closed when there is a newer one.
func (s *State) Watch() (*catalog.Catalog, <-chan struct{}) {
	m := s.now.Load()
	return m.catalog, m.over
}

// Wait returns the first catalog seen at or after the revision; fault.Timeout if ctx ends before.
func (s *State) Wait(ctx context.Context, rev catalog.Revision) (*catalog.Catalog, error) {
	for {
		c, over := s.Watch()
		if c.Revision >= rev {
			return c, nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Timeout, ctx.Err(), "this controller is at revision %d and has not reached revision %d", c.Revision, rev)
		}
	}
}

// Since returns the entries after a revision and the catalog that they lead to, for those who hold the catalog of
// that revision. It reports false if the entries are no longer kept, or if the revision lies in the future.
func (s *State) Since(rev catalog.Revision) ([]api.LogEntry, *catalog.Catalog, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.Current()
	if rev > c.Revision {
		return nil, c, false
	}
	entries, ok := s.recent.since(rev)
	return entries, c, ok
}

// Apply applies entries of the log; each result is a catalog.Outcome. An entry that cannot be decoded is an error,
// after which this controller must stop: it can no longer know what its peers know.
func (s *State) Apply(entries []replication.Entry) ([]any, error) {
	results := make([]any, len(entries))
	next := s.Current()
	for i, e := range entries {
		c, out, err := next.Apply(catalog.Revision(e.Revision), e.Command)
		if err != nil {
			return nil, fmt.Errorf("the log holds a change that this program does not understand: %w", err)
		}
		next, results[i] = c, out
	}
	s.publish(next, func() {
		for _, e := range entries {
			s.recent.add(api.LogEntry{Revision: catalog.Revision(e.Revision), Entry: e.Command})
		}
	})
	return results, nil
}

// Snapshot is the present catalog, which never changes and may be written at leisure.
func (s *State) Snapshot() io.WriterTo { return s.Current() }

// Restore replaces the catalog by one that was written from a Snapshot.
func (s *State) Restore(r io.Reader) error {
	c, err := catalog.ReadSnapshot(r)
	if err != nil {
		return err
	}
	s.publish(c, func() { s.recent = recent{floor: c.Revision} })
	return nil
}

// publish makes c the present catalog and wakes whoever waits for news.
func (s *State) publish(c *catalog.Catalog, record func()) {
	s.mu.Lock()
	record()
	before := s.now.Swap(&moment{c, make(chan struct{})})
	s.mu.Unlock()
	close(before.over)
}
