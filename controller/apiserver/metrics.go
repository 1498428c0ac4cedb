package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// typeMetrics is the media type of metrics.
const typeMetrics = "text/plain; version=0.0.4"

// messages counts the requests that were let in, by the path of their route: how many there were, and the most in any
// second. The paths are a table.
type messages struct {
	mu sync.Mutex
	by map[string]*messageCount
}

type messageCount struct {
	all          int64
	second       int64 // Unix seconds that the next counts
	within, most int
}

func (m *messages) count(path string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = map[string]*messageCount{}
	}
	one(m.by, path, now)
	if path == api.PathEvents || path == api.PathRelayStatus {
		one(m.by, "", now)
	}
}

// one counts under a name. Under "" is all that relays tell unasked, which is to stay below api.MaxMessages.
func one(by map[string]*messageCount, name string, now time.Time) {
	c := by[name]
	if c == nil {
		c = &messageCount{}
		by[name] = c
	}
	c.all++
	if s := now.Unix(); s != c.second {
		c.second, c.within = s, 0
	}
	c.within++
	c.most = max(c.most, c.within)
}

// getMetrics shows what was counted, in the text format of Prometheus.
func (s *Server) getMetrics(w http.ResponseWriter, _ *http.Request, _ caller) error {
	s.messages.mu.Lock()
	by := map[string]messageCount{}
	for path, c := range s.messages.by {
		by[path] = *c
	}
	s.messages.mu.Unlock()
	told := by[""]
	delete(by, "")
	w.Header().Set("Content-Type", typeMetrics)
	fmt.Fprintln(w, "# HELP wulf_controller_requests_total Requests let in, by path.\n# TYPE wulf_controller_requests_total counter")
	for _, path := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintf(w, "wulf_controller_requests_total{path=%q} %d\n", path, by[path].all)
	}
	fmt.Fprintf(w, "# HELP wulf_controller_messages_total What relays told unasked: batches of boot events, and how they are.\n# TYPE wulf_controller_messages_total counter\nwulf_controller_messages_total %d\n", told.all)
	fmt.Fprintf(w, "# HELP wulf_controller_messages_most Most of these within one second since the start.\n# TYPE wulf_controller_messages_most gauge\nwulf_controller_messages_most %d\n", told.most)
	chunks, bytes := s.served.totals()
	fmt.Fprintf(w, "# HELP wulf_controller_chunks_total Chunks sent to relays.\n# TYPE wulf_controller_chunks_total counter\nwulf_controller_chunks_total %d\n", chunks)
	_, err := fmt.Fprintf(w, "# HELP wulf_controller_chunk_bytes_total Bytes of these.\n# TYPE wulf_controller_chunk_bytes_total counter\nwulf_controller_chunk_bytes_total %d\n", bytes)
	return err
}
