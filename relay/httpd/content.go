package httpd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/cache"
)

// Admission. All transfers at once at full speed beat many more that all time out. Firmware cannot be told to come
// back, so it waits for its turn; an agent can.
const (
	maxTransfers = 512
	turnTime     = 20 * time.Second // that firmware waits; iPXE gives a silent server up after half a minute
	retryAfter   = "2"              // seconds, for agents
	bodyTime     = 30 * time.Second // for a request's body
	slowest      = 32 << 10         // bytes a second that a reader must take, on average over what it asked for
	slack        = 30 * time.Second // besides
)

// turn takes a slot for a transfer and returns what gives it back.
func (s *Server) turn(ctx context.Context, wait time.Duration) (func(), error) {
	release := func() { <-s.slots }
	select {
	case s.slots <- struct{}{}:
		return release, nil
	default:
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case s.slots <- struct{}{}:
		return release, nil
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, fault.New(fault.Unavailable, "relay %s sends to %d readers already", s.cfg.Name, maxTransfers)
}

// firmwareChunk serves a chunk to firmware, which verifies nothing: it is verified here, now.
func (s *Server) firmwareChunk(w http.ResponseWriter, r *http.Request) error {
	return s.chunk(w, r, cache.Request{Strict: true}, turnTime)
}

// nodeChunk serves a chunk to an agent, which verifies it.
func (s *Server) nodeChunk(w http.ResponseWriter, r *http.Request) error {
	return s.chunk(w, r, cache.Request{}, 0)
}

func (s *Server) chunk(w http.ResponseWriter, r *http.Request, q cache.Request, wait time.Duration) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	release, err := s.turn(r.Context(), wait)
	if err != nil {
		w.Header().Set("Retry-After", retryAfter)
		return err
	}
	defer release()
	ref, err := s.cfg.Chunks.Public(r.Context(), id)
	if err != nil {
		return err
	}
	f, err := s.cfg.Chunks.Open(r.Context(), ref, q)
	if err != nil {
		return err
	}
	defer f.Close()
	if sent := serve(w, r, id, f); sent == ref.Size {
		if e, whole := s.booting.fetched(remote(r), id, sent); whole {
			s.cfg.Record(e)
		}
	}
	return nil
}

// meshChunk serves a chunk to another relay, fetching it first if need be: so the relays' trees come about.
func (s *Server) meshChunk(w http.ResponseWriter, r *http.Request) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	hops, err := strconv.Atoi(r.Header.Get(api.HeaderHops))
	if err != nil || hops < 0 || hops > api.MaxHops {
		return fault.New(fault.Invalid, "%s is not between 0 and %d", api.HeaderHops, api.MaxHops)
	}
	size, ok := s.cfg.Chunks.Size(id)
	if !ok { // a chunk of something published just now, which this relay has not heard of
		if size, err = strconv.ParseInt(r.Header.Get(api.HeaderSize), 10, 64); err != nil || size < 0 {
			return fault.New(fault.NotFound, "chunk %s is not known here", id.Short())
		}
	}
	f, err := s.cfg.Chunks.Open(r.Context(), chunk.Ref{ID: id, Size: size}, cache.Request{Hops: hops})
	if err != nil {
		return err
	}
	defer f.Close()
	serve(w, r, id, f)
	return nil
}

// serve sends a chunk, or the part of it that was asked for, and returns how many bytes went out. What a chunk's path
// names never changes, so anybody may keep it for ever.
func serve(w http.ResponseWriter, r *http.Request, id chunk.ID, f chunkstore.File) int64 {
	w.Header().Set("Content-Type", "application/octet-stream")
	immutable(w, id)
	allow(w, f.Size())
	c := &counter{ResponseWriter: w}
	http.ServeContent(c, r, "", time.Time{}, f.Content())
	return c.sent
}

func immutable(w http.ResponseWriter, id chunk.ID) {
	w.Header().Set("ETag", `"`+id.String()+`"`)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
}

// allow gives a reader the time that the slowest one deserves for so many bytes, from now on.
func allow(w http.ResponseWriter, size int64) {
	// A response that cannot have a deadline is a test's; there is nothing to be done about an error.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(slack + time.Duration(size/slowest)*time.Second))
}

// counter counts what is sent and hands files on to the connection, which sends them without a copy.
type counter struct {
	http.ResponseWriter
	sent int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sent += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, by which net/http uses sendfile(2).
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.sent += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// file serves all segments of an image one after the other: an initramfs that a kernel unpacks. Firmware verifies
// nothing, so every segment is verified here before it is sent.
func (s *Server) file(w http.ResponseWriter, r *http.Request) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	release, err := s.turn(r.Context(), turnTime)
	if err != nil {
		w.Header().Set("Retry-After", retryAfter)
		return err
	}
	defer release()
	m, err := s.cfg.Chunks.Manifest(r.Context(), id)
	if err != nil {
		return err
	}
	size := m.Size()
	part, status, err := parseRange(r.Header.Get("Range"), r.Header.Get("If-Range"), id, size)
	if err != nil {
		w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		http.Error(w, err.Error(), http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	immutable(w, id)
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Type", "application/octet-stream")
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, id.String()) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	// The first piece is opened before anything is promised; a later one that cannot be had breaks the answer off, which
	// the reader notices by Content-Length.
	pieces := part.of(m.Segments)
	var first chunkstore.File
	if len(pieces) > 0 && r.Method != http.MethodHead {
		if first, err = s.cfg.Chunks.Open(r.Context(), pieces[0].ref, cache.Request{Strict: true}); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Length", strconv.FormatInt(part.length, 10))
	if status == http.StatusPartialContent {
		w.Header().Set("Content-Range", part.header(size))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	sent := int64(0)
	for i, p := range pieces {
		f := first
		if i > 0 {
			if f, err = s.cfg.Chunks.Open(r.Context(), p.ref, cache.Request{Strict: true}); err != nil {
				s.broke(r, id, err)
			}
		}
		n, err := send(w, f, p)
		if sent += n; err != nil {
			s.broke(r, id, err)
		}
	}
	if sent == size {
		if e, whole := s.booting.fetched(remote(r), id, sent); whole {
			s.cfg.Record(e)
		}
	}
	return nil
}

// broke ends an answer that has begun in the only way that a reader cannot take for its end.
func (s *Server) broke(r *http.Request, id chunk.ID, err error) {
	if r.Context().Err() == nil {
		s.cfg.Log.Warn("an image broke off while it was sent", "image", id.Short(), "peer", r.RemoteAddr, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// send sends a piece of a segment.
func send(w http.ResponseWriter, f chunkstore.File, p piece) (int64, error) {
	defer f.Close()
	allow(w, p.length)
	body := f.Content()
	if _, err := body.Seek(p.offset, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.CopyN(w, body, p.length)
	if errors.Is(err, io.EOF) {
		err = fault.New(fault.Corrupt, "segment %s ends early", p.ref.ID.Short())
	}
	return n, err
}
