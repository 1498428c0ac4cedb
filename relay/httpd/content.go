package httpd

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/cache"
)

const (
	retryAfter = 3                // seconds, at most, after which an agent should come back
	bodyTime   = 30 * time.Second // for a request's body
)

// later tells an agent when to come back, if that was not said; not all at once.
func later(w http.ResponseWriter) {
	if w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", strconv.Itoa(1+rand.N(retryAfter)))
	}
}

// plainChunk serves a chunk to firmware, which verifies nothing: it is verified here, now. An agent comes here too, for
// it needs no secrecy, and says that it verifies.
func (s *Server) plainChunk(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get(api.HeaderVerifies) != "" {
		return s.nodeChunk(w, r)
	}
	return s.chunk(w, r, cache.Request{Strict: true}, firmwareTime)
}

// nodeChunk serves a chunk to an agent, which verifies it. One that found it damaged says so as HTTP has it, by asking
// for no cached answer (RFC 9111 §5.2.1.4): then it is verified here, too.
func (s *Server) nodeChunk(w http.ResponseWriter, r *http.Request) error {
	damaged := strings.Contains(r.Header.Get("Cache-Control"), "no-cache")
	return s.chunk(w, r, cache.Request{Strict: damaged, Fresh: damaged}, agentTime)
}

func (s *Server) chunk(w http.ResponseWriter, r *http.Request, q cache.Request, wait time.Duration) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	release, err := s.turn(w, r, wait)
	if err != nil {
		return err
	}
	defer release()
	ref, err := s.cfg.Chunks.Public(r.Context(), id)
	if err != nil {
		return s.lacking(r, q.Strict, err)
	}
	f, err := s.cfg.Chunks.Open(r.Context(), ref, q)
	if err != nil {
		return s.lacking(r, q.Strict, err)
	}
	defer f.Close()
	// Only firmware fetches kernels; to look whose each of an image's segments is would cost more than to send it.
	if sent := serve(w, r, id, f); sent == ref.Size && q.Strict {
		s.whole(remote(r), id, sent)
	}
	return nil
}

// whole notes that something was sent as a whole to a machine that boots. When it has all that it fetches before its
// kernel starts, its turn is over.
func (s *Server) whole(addr netip.Addr, id chunk.ID, sent int64) {
	e, all := s.fetched(addr, id, sent)
	if !all {
		return
	}
	s.turns.over(addr, false)
	s.cfg.Record(e)
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
	nearer := func(progress int64) {
		w.Header().Set(api.HeaderProgress, strconv.FormatInt(progress, 10))
		w.WriteHeader(http.StatusProcessing)
		w.Header().Del(api.HeaderProgress)
	}
	f, err := s.cfg.Chunks.Open(r.Context(), chunk.Ref{ID: id, Size: size}, cache.Request{Hops: hops, Ahead: r.Header.Get(api.HeaderAhead) != "", Nearer: nearer})
	if err != nil {
		return err
	}
	defer f.Close()
	replyOf(w).sentOn = s.turns.sent
	serve(w, r, id, f)
	return nil
}

// serve sends a chunk, or the part of it that was asked for, and returns how many bytes went out. What a chunk's path
// names never changes, so anybody may keep it for ever.
func serve(w http.ResponseWriter, r *http.Request, id chunk.ID, f chunkstore.File) int64 {
	w.Header().Set("Content-Type", "application/octet-stream")
	immutable(w, id)
	c := replyOf(w)
	before := c.sent
	http.ServeContent(c, r, "", time.Time{}, f.Content())
	return c.sent - before
}

func immutable(w http.ResponseWriter, id chunk.ID) {
	w.Header().Set("ETag", `"`+id.String()+`"`)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
}

// file serves all segments of an image one after the other: an initramfs that a kernel unpacks. Firmware verifies
// nothing, so every segment is verified here before it is sent.
func (s *Server) file(w http.ResponseWriter, r *http.Request) error {
	id, err := chunk.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	release, err := s.turn(w, r, firmwareTime)
	if err != nil {
		return err
	}
	defer release()
	m, err := s.cfg.Chunks.Manifest(r.Context(), id)
	if err != nil {
		return s.lacking(r, true, err)
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
	var next func() (chunkstore.File, error)
	var first chunkstore.File
	pieces := part.of(m.Segments)
	if len(pieces) > 0 && r.Method != http.MethodHead {
		var stop func()
		next, stop = s.ahead(r.Context(), pieces)
		defer stop()
		if first, err = next(); err != nil {
			return s.lacking(r, true, err)
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
			if f, err = next(); err != nil {
				s.broke(r, id, err)
			}
		}
		n, err := send(w, f, p)
		if sent += n; err != nil {
			s.broke(r, id, err)
		}
	}
	if sent == size {
		s.whole(remote(r), id, sent)
	}
	return nil
}

// readAhead is how many segments are opened, that is, verified or fetched, while one is sent.
const readAhead = 2

// ahead opens the segments of pieces in order, some of them before next asks for them, unless all that is to be done is to
// open them. stop closes those that nobody asked for.
func (s *Server) ahead(ctx context.Context, pieces []piece) (next func() (chunkstore.File, error), stop func()) {
	type opened struct {
		file chunkstore.File
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	var files chan opened
	begin := func() {
		files = make(chan opened, readAhead-1) // and one that waits to be put there
		go func(pieces []piece) {
			defer close(files)
			for _, p := range pieces {
				f, err := s.cfg.Chunks.Open(ctx, p.ref, cache.Request{Strict: true})
				select {
				case files <- opened{f, err}:
				case <-ctx.Done():
					if f != nil {
						f.Close()
					}
					return
				}
				if err != nil {
					return
				}
			}
		}(pieces)
	}
	next = func() (chunkstore.File, error) {
		if files == nil {
			if f, ok := s.cfg.Chunks.Held(pieces[0].ref); ok {
				pieces = pieces[1:]
				return f, nil
			}
			begin()
		}
		o, ok := <-files
		if !ok {
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "the reader is gone")
		}
		return o.file, o.err
	}
	stop = func() {
		cancel()
		if files == nil {
			return
		}
		for o := range files {
			if o.file != nil {
				o.file.Close()
			}
		}
	}
	return next, stop
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
	body := f.Content()
	if _, err := body.Seek(p.offset, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := replyOf(w).ReadFrom(&io.LimitedReader{R: body, N: p.length})
	if err == nil && n < p.length {
		err = fault.New(fault.Corrupt, "segment %s ends early", p.ref.ID.Short())
	}
	return n, err
}
