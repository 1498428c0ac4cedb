package httpd

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
)

// count is what went through one route with one status.
type count struct {
	requests int64
	bytes    int64
}

type countKey struct {
	route  string
	status int
}

// counts are what was served, by route and status. The keys are few: routes are a table, statuses those of pkg/api.
type counts struct {
	mu sync.Mutex
	by map[countKey]count
}

func newCounts() *counts { return &counts{by: map[countKey]count{}} }

func (c *counts) add(route string, r *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := countKey{route, r.status}
	n := c.by[k]
	n.requests++
	n.bytes += r.sent
	c.by[k] = n
}

// Counter is something else that the relay counts, which /metrics shows as wulf_relay_NAME.
type Counter struct {
	Name, Help string
	By         []Count
}

// Count is a part of a Counter, or all of it.
type Count struct {
	Of string // what it is of; "" where there is only one
	N  uint64
}

// metrics shows the counts in the text format of Prometheus.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	s.counts.mu.Lock()
	by := maps.Clone(s.counts.by)
	s.counts.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(by), func(a, b countKey) int {
		if a.route != b.route {
			if a.route < b.route {
				return -1
			}
			return 1
		}
		return a.status - b.status
	})
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintln(w, "# HELP wulf_relay_http_requests_total Requests answered, by route and status.\n# TYPE wulf_relay_http_requests_total counter")
	for _, k := range keys {
		fmt.Fprintf(w, "wulf_relay_http_requests_total{route=%q,status=\"%d\"} %d\n", k.route, k.status, by[k].requests)
	}
	fmt.Fprintln(w, "# HELP wulf_relay_http_bytes_total Bytes of bodies sent, by route and status.\n# TYPE wulf_relay_http_bytes_total counter")
	for _, k := range keys {
		fmt.Fprintf(w, "wulf_relay_http_bytes_total{route=%q,status=\"%d\"} %d\n", k.route, k.status, by[k].bytes)
	}
	l := s.Load()
	for _, m := range []struct {
		name, kind, help string
		value            float64
	}{
		{"slots", "gauge", "Machines that are sent large things to at once, without the reserve.", float64(l.Slots)},
		{"reserve", "gauge", "Slots besides these, for urgent machines.", float64(l.Reserve)},
		{"busy", "gauge", "Slots that are lent.", float64(l.Busy)},
		{"slow", "gauge", "Machines that take so little that they have no slot.", float64(l.Slow)},
		{"queued", "gauge", "Machines that wait for their turn.", float64(l.Queued)},
		{"refused_total", "counter", "Answers that said to come back.", float64(l.Refused)},
		{"rate_bytes", "gauge", "Bytes a second, lately.", float64(l.Rate)},
		{"longest_wait_seconds", "gauge", "How long a machine has waited that waits still.", l.Longest.Seconds()},
		{"turn_seconds", "gauge", "How long a machine keeps a slot, lately.", l.Turn.Seconds()},
	} {
		fmt.Fprintf(w, "# HELP wulf_relay_transfer_%[1]s %[2]s\n# TYPE wulf_relay_transfer_%[1]s %[3]s\nwulf_relay_transfer_%[1]s %[4]g\n", m.name, m.help, m.kind, m.value)
	}
	if s.cfg.Counters != nil {
		for _, c := range s.cfg.Counters() {
			fmt.Fprintf(w, "# HELP wulf_relay_%[1]s %[2]s\n# TYPE wulf_relay_%[1]s counter\n", c.Name, c.Help)
			for _, n := range c.By {
				label := ""
				if n.Of != "" {
					label = fmt.Sprintf("{kind=%q}", n.Of)
				}
				fmt.Fprintf(w, "wulf_relay_%s%s %d\n", c.Name, label, n.N)
			}
		}
	}
	s.waits.mu.Lock()
	waiting := len(s.waits.of)
	s.waits.mu.Unlock()
	fmt.Fprintf(w, "# HELP wulf_relay_http_waiting Running nodes that wait for news of their overlays.\n# TYPE wulf_relay_http_waiting gauge\nwulf_relay_http_waiting %d\n", waiting)
	fmt.Fprintf(w, "# HELP wulf_relay_goroutines Goroutines of the relay.\n# TYPE wulf_relay_goroutines gauge\nwulf_relay_goroutines %d\n", runtime.NumGoroutine())
}
