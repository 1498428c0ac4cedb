package httpd

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// made is a body that is made while it is sent: its length is known, and it is the same whenever it is made.
type made struct {
	id   chunk.ID // of what it is made of, and how
	size int64
	time time.Time // zero: it has none
	// write makes it, but for what cut.pass lets it leave out, and stops when w fails.
	write func(w *cut) error
}

// cut lets the part of a body through that was asked for.
type cut struct {
	w     io.Writer
	skip  int64  // bytes before it
	left  int64  // of it
	begin func() // before the first byte
}

// errEnough ends the making of a body of which the rest was not asked for.
var errEnough = errors.New("the rest was not asked for")

// pass skips n bytes that need not be made, if none of them was asked for.
func (c *cut) pass(n int64) bool {
	if n > c.skip {
		return false
	}
	c.skip -= n
	return true
}

func (c *cut) Write(p []byte) (int, error) {
	all := len(p)
	n := min(c.skip, int64(all))
	c.skip -= n
	p = p[n:]
	if len(p) == 0 {
		return all, nil
	}
	if c.left == 0 {
		return 0, errEnough
	}
	if c.begin != nil {
		c.begin()
		c.begin = nil
	}
	part := p[:min(int64(len(p)), c.left)]
	k, err := c.w.Write(part)
	c.left -= int64(k)
	if err == nil && c.left == 0 && len(part) < len(p) {
		err = errEnough
	}
	return all, err
}

// stream sends a body, or the part of it that was asked for, and reports whether the whole of it went out. Nothing is
// promised before the first byte is there: until then an error is an answer. A later one breaks the answer off.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, b made) (whole bool, err error) {
	h := w.Header()
	h.Set("ETag", `"`+b.id.String()+`"`)
	h.Set("Cache-Control", "no-cache") // the path names the node, and not what it gets
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	if !b.time.IsZero() {
		h.Set("Last-Modified", b.time.UTC().Format(http.TimeFormat))
	}
	if unchanged(r, b) {
		w.WriteHeader(http.StatusNotModified)
		return false, nil
	}
	part, status, err := parseRange(r.Header.Get("Range"), r.Header.Get("If-Range"), b.id, b.size)
	if err != nil {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(b.size, 10))
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return false, nil
	}
	begun := false
	begin := func() {
		begun = true
		h.Set("Content-Length", strconv.FormatInt(part.length, 10))
		if status == http.StatusPartialContent {
			h.Set("Content-Range", part.header(b.size))
		}
		w.WriteHeader(status)
	}
	if r.Method == http.MethodHead || part.length == 0 {
		begin()
		return false, nil
	}
	c := &cut{w: w, skip: part.start, left: part.length, begin: begin}
	if err = b.write(c); errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil && c.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err == nil:
		return status == http.StatusOK, nil
	case begun:
		s.broke(r, b.id, err)
	}
	for _, name := range []string{"ETag", "Accept-Ranges", "Last-Modified", "Content-Type"} {
		h.Del(name)
	}
	return false, err
}

// unchanged tells whether the reader has the body (RFC 9110 §13.2.2).
func unchanged(r *http.Request, b made) bool {
	if match := r.Header.Get("If-None-Match"); match != "" {
		return strings.Contains(match, b.id.String())
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	return err == nil && !b.time.IsZero() && !b.time.Truncate(time.Second).After(since)
}

// buffered gathers the small pieces that archives are written in.
func buffered(w io.Writer, write func(io.Writer) error) error {
	b := bufio.NewWriterSize(w, 256<<10)
	if err := write(b); err != nil {
		return err
	}
	return b.Flush()
}
