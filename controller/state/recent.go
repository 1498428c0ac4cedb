package state

import (
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// Bounds of the entries kept for followers. A relay that was away for longer than they reach back gets the whole
// catalog, which by then is not much more than they would be.
const (
	maxRecent      = 8192
	maxRecentBytes = 16 << 20
)

// recent is the tail of the log. When it is full the oldest entries go.
type recent struct {
	floor   catalog.Revision // entries after it are here
	entries []api.LogEntry
	bytes   int
}

func (r *recent) add(e api.LogEntry) {
	r.entries = append(r.entries, e)
	r.bytes += len(e.Entry)
	drop := 0
	for len(r.entries)-drop > maxRecent || r.bytes > maxRecentBytes && drop < len(r.entries) {
		r.floor = r.entries[drop].Revision
		r.bytes -= len(r.entries[drop].Entry)
		r.entries[drop] = api.LogEntry{} // let go of its bytes; append copies what is left before long
		drop++
	}
	r.entries = r.entries[drop:]
}

// since returns the entries after rev in a slice of their own.
func (r *recent) since(rev catalog.Revision) ([]api.LogEntry, bool) {
	if rev < r.floor {
		return nil, false
	}
	at, _ := slices.BinarySearchFunc(r.entries, rev+1, func(e api.LogEntry, rev catalog.Revision) int {
		switch {
		case e.Revision < rev:
			return -1
		case e.Revision > rev:
			return 1
		}
		return 0
	})
	return slices.Clone(r.entries[at:]), true
}
