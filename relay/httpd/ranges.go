package httpd

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// span is a run of bytes of a file.
type span struct{ start, length int64 }

// header is the Content-Range of the span (RFC 9110 §14.4).
func (s span) header(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.start, s.start+s.length-1, size)
}

// parseRange reads a Range header (RFC 9110 §14.2) for a file that never changes. One range is answered; for several,
// which nobody who boots asks for, and for anything that is not understood, the whole file is, as §14.2 allows.
// A range beyond the end is an error.
func parseRange(header, ifRange string, id chunk.ID, size int64) (span, int, error) {
	whole := span{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") || ifRange != "" && ifRange != `"`+id.String()+`"` {
		return whole, http.StatusOK, nil
	}
	from, to, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return whole, http.StatusOK, nil
	}
	number := func(s string) (int64, bool) {
		n, err := strconv.ParseUint(s, 10, 63)
		return int64(n), err == nil
	}
	if from == "" { // the last bytes
		n, ok := number(to)
		if !ok {
			return whole, http.StatusOK, nil
		}
		if n == 0 || size == 0 {
			return span{}, 0, fault.New(fault.Invalid, "range %q lies beyond %d bytes", header, size)
		}
		n = min(n, size)
		return span{size - n, n}, http.StatusPartialContent, nil
	}
	start, ok := number(from)
	if !ok {
		return whole, http.StatusOK, nil
	}
	end := size - 1
	if to != "" {
		if end, ok = number(to); !ok || end < start {
			return whole, http.StatusOK, nil
		}
		end = min(end, size-1)
	}
	if start >= size {
		return span{}, 0, fault.New(fault.Invalid, "range %q lies beyond %d bytes", header, size)
	}
	return span{start, end - start + 1}, http.StatusPartialContent, nil
}

// piece is a part of one segment.
type piece struct {
	ref            chunk.Ref
	offset, length int64
}

// of is what the span takes of each segment, in order.
func (s span) of(segments []chunk.Segment) []piece {
	var all []piece
	at := int64(0)
	for _, seg := range segments {
		from, to := max(s.start, at), min(s.start+s.length, at+seg.Size)
		if from < to {
			all = append(all, piece{seg.Ref, from - at, to - from})
		}
		at += seg.Size
	}
	return all
}
