package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	linesPerWindow = 20 // of memberlist's, at Info and above; the rest is counted
	logWindow      = 10 * time.Second
)

// logWriter turns memberlist's lines, such as "[WARN] memberlist: …", into records. Anybody may send a bad packet, and
// memberlist writes a line for each, so the lines are limited.
type logWriter struct {
	log *slog.Logger

	mu      sync.Mutex
	start   time.Time // of the window
	lines   int
	dropped int
}

func newLogger(l *slog.Logger) *log.Logger { return log.New(&logWriter{log: l}, "", 0) }

func (w *logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelInfo, strings.TrimSpace(string(line))
	if tag, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(tag, "[") {
		text = strings.TrimPrefix(rest, "memberlist: ")
		switch tag[1:] {
		case "DEBUG":
			level = slog.LevelDebug
		case "WARN", "ERR", "ERROR":
			level = slog.LevelWarn // most are a peer's failure, none is fatal here
		}
	}
	if level > slog.LevelDebug {
		ok, dropped := w.admit(time.Now())
		if dropped > 0 {
			w.log.Warn("gossip messages were not logged", "count", dropped)
		}
		if !ok {
			return len(line), nil
		}
	}
	w.log.Log(context.Background(), level, "gossip: "+text)
	return len(line), nil
}

// admit counts a line and tells whether it is to be logged, and how many of the last window were not.
func (w *logWriter) admit(now time.Time) (ok bool, dropped int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.start) >= logWindow {
		dropped = w.dropped
		w.start, w.lines, w.dropped = now, 0, 0
	}
	if w.lines >= linesPerWindow {
		w.dropped++
		return false, dropped
	}
	w.lines++
	return true, dropped
}
