package apiserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/replication"
)

// patience is how long a request waits for a leader before it says that there is none.
const patience = 3 * time.Second

// read returns the catalog that a request asks for: one that holds everything acknowledged before, or with
// ?consistency=stale the one that is here, with its age. It sets the headers that say which it is.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (*catalog.Catalog, error) {
	switch q := r.URL.Query().Get("consistency"); q {
	case "", "linearizable":
		c, err := s.cfg.State.Fresh(r.Context())
		if err != nil {
			return nil, err
		}
		setRevision(w, c)
		return c, nil
	case "stale":
		c := s.cfg.State.Current()
		setRevision(w, c)
		w.Header().Set("Age", strconv.FormatInt(int64(s.age().Seconds()), 10))
		return c, nil
	default:
		return nil, fault.New(fault.Invalid, "there is no consistency %.40q", q).WithFix("it is linearizable or stale")
	}
}

// maxAge stands for an age that is not known: this controller has heard of no leader since it started.
const maxAge = 365 * 24 * time.Hour

// age is how long ago this controller last knew that it is up to date.
func (s *Server) age() time.Duration {
	switch st := s.cfg.Log.Status(); {
	case st.Role == replication.Leader:
		return 0
	case st.Contact.IsZero():
		return maxAge
	default:
		return time.Since(st.Contact)
	}
}

func setRevision(w http.ResponseWriter, c *catalog.Catalog) {
	w.Header().Set(api.HeaderRevision, strconv.FormatUint(uint64(c.Revision), 10))
}

// writeList answers with an api.List whose items are made one by one, so that a list of everything in a large
// cluster is never in memory as a whole.
func writeList[T any](w http.ResponseWriter, rev catalog.Revision, items iter.Seq[T]) error {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(b, `{"revision":%d,"items":[`, rev)
	first := true
	for item := range items {
		line, err := json.Marshal(item)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "encoding the answer")
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		if _, err := b.Write(line); err != nil {
			return err // the client is gone
		}
	}
	b.WriteString("]}\n")
	return b.Flush()
}

// values are the things that pointers yielded by a catalog point at.
func values[T any](seq iter.Seq[*T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for v := range seq {
			if !yield(*v) {
				return
			}
		}
	}
}

// progressReader gives a stream's body more time as long as something arrives.
type progressReader struct {
	io.ReadCloser
	c *http.ResponseController
}

func readStream(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	return progressReader{r.Body, http.NewResponseController(w)}
}

// Read reads what arrives within streamTime. After the end nothing more is expected, however long the answer takes:
// net/http goes on reading to notice when the client leaves, and would take a deadline for that.
func (p progressReader) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(streamTime))
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		_ = p.c.SetReadDeadline(time.Time{})
	}
	return n, err
}

// lines writes a stream of JSON values, one a line, each of which the client must take within streamTime.
type lines struct {
	w http.ResponseWriter
	c *http.ResponseController
}

// typeLines is the media type of a stream of JSON values.
const typeLines = "application/x-ndjson"

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", typeLines)
	w.Header().Set("Cache-Control", "no-store")
	return &lines{w, http.NewResponseController(w)}
}

// begin sends the header, so that the client knows that it is heard.
func (l *lines) begin() error {
	l.w.WriteHeader(http.StatusOK)
	return l.c.Flush()
}

// write sends one value at once.
func (l *lines) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding the answer")
	}
	_ = l.c.SetWriteDeadline(time.Now().Add(streamTime))
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return l.c.Flush()
}

// untilDrained is a context that also ends when the server stops taking its time.
func (s *Server) untilDrained(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := make(chan struct{})
	go s.inFlight.run(func() {
		select {
		case <-s.draining:
			cancel()
		case <-stop:
		}
	})
	return ctx, func() { cancel(); close(stop) }
}
