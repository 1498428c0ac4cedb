package apiserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/controller/state"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// feed makes the answers of PathCatalog. After a change, all the relays that waited ask for the same few bytes at
// once, and after a power cut they all ask for the whole catalog: each is encoded once.
type feed struct {
	state *state.State

	mu       sync.Mutex
	to       catalog.Revision // that deltas lead to
	deltas   map[catalog.Revision]func() ([]byte, error)
	at       catalog.Revision // of snapshot
	snapshot func() ([]byte, error)
}

// Bounds of the deltas that are kept: relays that keep up ask for little, from the last revision or the few before it.
const (
	maxDeltas = 64
	maxDelta  = 256 << 10 // bytes of its entries
)

// delta returns the answer for those who hold the catalog of a revision; false if they need all of it.
func (f *feed) delta(since catalog.Revision) (encode func() ([]byte, error), to catalog.Revision, ok bool) {
	entries, c, ok := f.state.Since(since)
	if !ok {
		return nil, 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to != c.Revision || f.deltas == nil {
		f.to, f.deltas = c.Revision, map[catalog.Revision]func() ([]byte, error){}
	}
	if encode, ok := f.deltas[since]; ok {
		return encode, c.Revision, true
	}
	encode = sync.OnceValues(func() ([]byte, error) {
		return json.Marshal(api.Delta{Entries: append([]api.LogEntry{}, entries...), Revision: c.Revision, Hash: c.Hash})
	})
	size := 0
	for _, e := range entries {
		size += len(e.Entry)
	}
	if len(f.deltas) < maxDeltas && size <= maxDelta {
		f.deltas[since] = encode
	}
	return encode, c.Revision, true
}

// whole returns the whole catalog, of at least that revision and not so old that what followed is forgotten.
func (f *feed) whole(least catalog.Revision) (encode func() ([]byte, error), at catalog.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, c, covered := f.state.Since(f.at); f.snapshot == nil || !covered || f.at < least {
		f.at, f.snapshot = c.Revision, sync.OnceValues(func() ([]byte, error) {
			var b bytes.Buffer
			_, err := c.WriteTo(&b)
			return b.Bytes(), err
		})
	}
	return f.snapshot, f.at
}

// settle is how long news is held back for more of it: a burst of changes should not wake every relay for each.
const settle = 20 * time.Millisecond

// getCatalog answers ?since=&wait=: with what happened since, waiting for something to happen, or with everything.
func (s *Server) getCatalog(w http.ResponseWriter, r *http.Request, _ caller) error {
	since, wait, err := feedQuery(r)
	if err != nil {
		return err
	}
	if err := s.mayFeed(r); err != nil {
		return err
	}
	if since == 0 {
		return s.sendCatalog(w, 0)
	}
	if err := s.awaitNews(r, since, wait); err != nil {
		return err
	}
	if c := s.cfg.State.Current(); since > c.Revision {
		// The caller knows more than this controller. It may have it from another one, and this one is behind; or the
		// cluster was put back to an older state, and then the leader does not know more either.
		c, err := s.cfg.State.Fresh(r.Context())
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "this controller is behind revision %d", since)
		}
		if since > c.Revision {
			return s.sendCatalog(w, c.Revision)
		}
	}
	encode, to, ok := s.feed.delta(since)
	if !ok {
		return s.sendCatalog(w, since+1)
	}
	return sendFeed(w, api.TypeDelta, to, encode)
}

// maxFeedAge is how long a controller feeds others after it last heard the leader.
const maxFeedAge = 30 * time.Second

// mayFeed refuses to feed followers from a controller that is cut off, or was removed and does not know it: they
// should go to another one. Where there is no better, they may ask for what is stale.
func (s *Server) mayFeed(r *http.Request) error {
	if age := s.age(); age > maxFeedAge && r.URL.Query().Get("consistency") != "stale" {
		return fault.New(fault.Unavailable, "this controller has not heard of a leader for %s", min(age, maxAge).Round(time.Second))
	}
	return nil
}

// awaitNews waits until the catalog is newer than since, for as long as asked and allowed.
func (s *Server) awaitNews(r *http.Request, since catalog.Revision, wait time.Duration) error {
	c, over := s.cfg.State.Watch()
	if c.Revision > since {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for c.Revision <= since {
		select {
		case <-over:
		case <-timer.C:
			return nil
		case <-s.draining:
			return nil
		case <-r.Context().Done():
			return fault.Wrap(fault.Unavailable, r.Context().Err(), "given up")
		}
		c, over = s.cfg.State.Watch()
	}
	timer.Reset(settle)
	select {
	case <-timer.C:
	case <-s.draining:
	case <-r.Context().Done():
	}
	return nil
}

func (s *Server) sendCatalog(w http.ResponseWriter, least catalog.Revision) error {
	encode, at := s.feed.whole(least)
	return sendFeed(w, api.TypeSnapshot, at, encode)
}

func sendFeed(w http.ResponseWriter, media string, rev catalog.Revision, encode func() ([]byte, error)) error {
	b, err := encode()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set(api.HeaderRevision, strconv.FormatUint(uint64(rev), 10))
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "no-store")
	_, err = w.Write(b)
	return err
}

// feedQuery reads ?since=&wait=.
func feedQuery(r *http.Request) (since catalog.Revision, wait time.Duration, err error) {
	q := r.URL.Query()
	if t := q.Get("since"); t != "" {
		n, err := strconv.ParseUint(t, 10, 64)
		if err != nil {
			return 0, 0, fault.New(fault.Invalid, "%.40q is not a revision", t)
		}
		since = catalog.Revision(n)
	}
	if t := q.Get("wait"); t != "" {
		if wait, err = time.ParseDuration(t); err != nil || wait < 0 {
			return 0, 0, fault.New(fault.Invalid, "%.40q is not a time to wait", t).WithFix("write it as 30s")
		}
	}
	return since, min(wait, api.MaxWait), nil
}
