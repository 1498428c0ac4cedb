package segment

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// The file index and the extras are each one zstd stream of JSON lines. The first line says what it is and in
// which version of its format.
//
// History: index 1, extras 1 (2026-11) first.
const (
	indexKind   = "wulfmesh-index"
	extrasKind  = "wulfmesh-extras"
	linesFormat = 1
	// maxLine bounds a line: six bytes for each byte of a path and a link target at worst, and the extended
	// attributes of one file, of which maxXattrs bytes are taken.
	maxLine   = 2 << 20
	maxXattrs = 1 << 20
	maxXattr  = 64 << 10 // of one attribute, as in the kernel (XATTR_SIZE_MAX)
)

type linesHead struct {
	Kind   string `json:"kind"`
	Format int    `json:"format"`
}

// IndexEntry is one path of an image in its file index.
type IndexEntry struct {
	Path    string   `json:"path,omitempty"`
	RawPath []byte   `json:"raw_path,omitempty"` // instead of Path in the chunk, where that is not UTF-8
	Type    Type     `json:"type"`
	Mode    uint32   `json:"mode"`
	UID     uint32   `json:"uid,omitempty"`
	GID     uint32   `json:"gid,omitempty"`
	Size    int64    `json:"size,omitempty"`
	MTime   int64    `json:"mtime,omitempty"`
	Segment int      `json:"segment"`            // its place in the manifest's list
	SHA256  chunk.ID `json:"sha256,omitzero"`    // of a regular file's content
	Link    string   `json:"link,omitempty"`     // where a symbolic link points
	RawLink []byte   `json:"raw_link,omitempty"` // as RawPath
	Group   int      `json:"group,omitempty"`    // hard links of one file have one number
	Major   uint32   `json:"major,omitempty"`
	Minor   uint32   `json:"minor,omitempty"`
}

// newIndexEntry is the index's view of e.
func newIndexEntry(e *Entry, segment int, sum chunk.ID) *IndexEntry {
	x := &IndexEntry{Type: e.Type, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size, MTime: e.MTime,
		Segment: segment, SHA256: sum, Group: e.Group, Major: e.Major, Minor: e.Minor}
	x.Path, x.RawPath = splitRaw(e.Path)
	x.Link, x.RawLink = splitRaw(e.Link)
	return x
}

// ReadIndex reads the file index of an image, in the order of ComparePaths, with at most limit bytes after
// decompression. It stops at the first error, which is fault.Corrupt if the bytes are to blame.
func ReadIndex(r io.Reader, limit int64) iter.Seq2[IndexEntry, error] {
	return func(yield func(IndexEntry, error) bool) {
		for line, err := range readLines(r, indexKind, limit) {
			var e IndexEntry
			if err == nil {
				err = json.Unmarshal(line, &e)
				if err != nil {
					err = fault.Wrap(fault.Corrupt, err, "reading the file index")
				}
			}
			e.Path, e.RawPath = joinRaw(e.Path, e.RawPath), nil
			e.Link, e.RawLink = joinRaw(e.Link, e.RawLink), nil
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// extra is what newc cannot carry of one path.
type extra struct {
	Path    string            `json:"path,omitempty"`
	RawPath []byte            `json:"raw_path,omitempty"`
	Xattrs  map[string][]byte `json:"xattrs"`
}

// newExtra is what newc cannot carry of e.
func newExtra(e *Entry) *extra {
	x := &extra{Xattrs: make(map[string][]byte, len(e.Xattrs))}
	x.Path, x.RawPath = splitRaw(e.Path)
	for name, value := range e.Xattrs {
		x.Xattrs[name] = []byte(value)
	}
	return x
}

// readExtras reads the extras chunk of an image; paths are checked.
func readExtras(r io.Reader, limit int64) iter.Seq2[extra, error] {
	return func(yield func(extra, error) bool) {
		for line, err := range readLines(r, extrasKind, limit) {
			var x extra
			if err == nil {
				if err = json.Unmarshal(line, &x); err != nil {
					err = fault.Wrap(fault.Corrupt, err, "reading the extras")
				}
			}
			x.Path, x.RawPath = joinRaw(x.Path, x.RawPath), nil
			if err == nil {
				err = CheckPath(x.Path)
			}
			if !yield(x, err) || err != nil {
				return
			}
		}
	}
}

// lines collects JSON lines.
type lines struct {
	buf bytes.Buffer
	enc *json.Encoder
}

func newLines(kind string) (*lines, error) {
	l := new(lines)
	l.enc = json.NewEncoder(&l.buf)
	l.enc.SetEscapeHTML(false)
	return l, l.enc.Encode(linesHead{Kind: kind, Format: linesFormat})
}

// readLines yields the JSON lines after the head.
func readLines(r io.Reader, kind string, limit int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderLowmem(true))
		if err != nil {
			yield(nil, fault.Wrap(fault.Corrupt, err, "reading %s", kind))
			return
		}
		defer z.Close()
		in := &io.LimitedReader{R: z, N: limit + 1}
		s := bufio.NewScanner(in)
		s.Buffer(make([]byte, 64<<10), maxLine)
		var head linesHead
		if !s.Scan() || json.Unmarshal(s.Bytes(), &head) != nil || head.Kind != kind {
			yield(nil, fault.Wrap(fault.Corrupt, s.Err(), "this is no %s", kind))
			return
		}
		if head.Format != linesFormat {
			yield(nil, fault.New(fault.Invalid, "%s has format %d; this program reads format %d", kind, head.Format, linesFormat).
				WithFix("upgrade wulfmesh here"))
			return
		}
		for s.Scan() {
			if in.N <= 0 {
				yield(nil, fault.New(fault.Corrupt, "%s is longer than %d bytes", kind, limit))
				return
			}
			if !yield(s.Bytes(), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			if errors.Is(err, bufio.ErrTooLong) {
				err = nil
			}
			yield(nil, fault.Wrap(fault.Corrupt, err, "reading %s", kind))
		}
	}
}
