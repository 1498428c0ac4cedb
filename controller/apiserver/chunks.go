package apiserver

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// served counts what was sent to relays.
type served struct {
	mu     sync.Mutex
	chunks int64
	bytes  int64
	by     map[string]int64 // times by chunk ID; at most maxServed chunks
}

// maxServed bounds the chunks that are counted each by itself.
const maxServed = 100_000

func (s *served) count(id chunk.ID, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks++
	s.bytes += bytes
	name := id.String()
	if _, known := s.by[name]; known || len(s.by) < maxServed {
		s.by[name]++
	}
}

func (s *served) totals() (chunks, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunks, s.bytes
}

func (s *served) each() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.by)
}

// leastRate is how slow a peer may take a chunk, in bytes a second, before it is given up.
const leastRate = 64 << 10

// getChunk sends a chunk, or tells its size. Controllers and operators who ask for the size are about to rely on it.
func (s *Server) getChunk(w http.ResponseWriter, r *http.Request, by caller) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	store := s.cfg.Chunks.Store()
	if r.Method == http.MethodHead && by.role != relay {
		if _, err := store.Stat(r.Context(), id); err != nil {
			return err
		}
	}
	f, err := s.openChunk(r, store, id)
	if err != nil {
		return err
	}
	defer f.Close()
	took := time.Duration(f.Size()/leastRate) * time.Second
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(streamTime + took))
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Etag", `"`+id.String()+`"`)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	counted := &countingWriter{ResponseWriter: w}
	http.ServeContent(counted, r, "", time.Time{}, f.Content())
	if by.role == relay && counted.n > 0 {
		s.served.count(id, counted.n)
		_, bytes := s.served.totals()
		s.egress.sent(bytes, time.Now())
	}
	return nil
}

// openChunk opens a chunk. One that is not here yet is fetched from another controller first, if the caller says
// how many bytes it has: the news of an image may be faster than the last of its chunks.
func (s *Server) openChunk(r *http.Request, store chunkstore.Store, id chunk.ID) (chunkstore.File, error) {
	f, err := store.Open(r.Context(), id)
	size, ok := sizeAsked(r)
	if !errors.Is(err, fault.NotFound) || !ok || r.Method != http.MethodGet {
		return f, err
	}
	ref := chunk.Ref{ID: id, Size: size}
	done := s.fetching.DoChan(id.String(), func() (_ any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), streamTime) // others may wait when this caller has left
		defer cancel()
		ctx, stop := s.untilDrained(ctx)
		defer stop()
		s.inFlight.run(func() { err = s.cfg.Chunks.Obtain(ctx, ref) })
		return nil, err
	})
	select {
	case <-done:
	case <-r.Context().Done():
	}
	return store.Open(r.Context(), id)
}

func sizeAsked(r *http.Request) (int64, bool) {
	n, err := strconv.ParseInt(r.Header.Get(api.HeaderSize), 10, 64)
	return n, err == nil && n > 0
}

// postMissing tells which of some chunks are not here. It counts as a use of the others.
func (s *Server) postMissing(w http.ResponseWriter, r *http.Request, _ caller) error {
	var q api.MissingRequest
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	if len(q.Chunks) > api.MaxMissing {
		return fault.New(fault.Invalid, "%d chunks are asked for, more than %d", len(q.Chunks), api.MaxMissing)
	}
	missing, err := s.cfg.Chunks.Missing(r.Context(), q.Chunks)
	if err != nil {
		return err
	}
	api.WriteJSON(w, api.MissingResult{Missing: append([]chunk.ID{}, missing...)}) // a list, also an empty one
	return nil
}

// putChunk stores a chunk that another controller pushes, or an operator who makes a version of an image; it is durable
// when the answer says so.
func (s *Server) putChunk(w http.ResponseWriter, r *http.Request, _ caller) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if r.ContentLength <= 0 {
		return fault.New(fault.Invalid, "the chunk comes without its length")
	}
	if err := s.cfg.Chunks.Store().Put(r.Context(), chunk.Ref{ID: id, Size: r.ContentLength}, readStream(w, r)); err != nil {
		return err
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(streamTime))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// countingWriter counts the bytes of a body and lets the kernel send files, as the writer underneath can.
type countingWriter struct {
	http.ResponseWriter
	n int64
}

// Write sends bytes.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

// ReadFrom sends what r gives.
func (c *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.n += n
	return n, err
}

// Unwrap gives http.ResponseController the writer underneath.
func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
