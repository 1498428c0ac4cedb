package replication

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives raft's lines to slog. What raft calls Info is detail for us (this package logs the events that
// operators want itself), and its errors about a peer that is away come many a second, so a line that was said in
// the last half minute goes to Debug.
type raftLogger struct {
	out  *slog.Logger
	name string
	args []any
	said *recently
}

var _ hclog.Logger = (*raftLogger)(nil)

func newRaftLogger(out *slog.Logger) *raftLogger {
	return &raftLogger{out: out, said: &recently{at: make(map[string]time.Time)}}
}

// recently remembers which messages were logged when. Raft's messages are constants, so the map stays small.
type recently struct {
	mu sync.Mutex
	at map[string]time.Time
}

const sayAgainAfter = 30 * time.Second

func (r *recently) repeats(msg string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if last, ok := r.at[msg]; ok && now.Sub(last) < sayAgainAfter {
		return true
	}
	if len(r.at) >= 256 {
		clear(r.at)
	}
	r.at[msg] = now
	return false
}

// Log emits a line at the level that fits wulfmesh.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Warn && !l.said.repeats(msg) {
		to = slog.LevelWarn // raft's errors are about peers and retries; what ends this member is logged as an error by us
	}
	if !l.out.Enabled(context.Background(), to) {
		return
	}
	attrs := make([]any, 0, len(l.args)+len(args))
	for i, a := range append(l.args[:len(l.args):len(l.args)], args...) {
		if i%2 == 0 && a == "error" {
			a = "err"
		}
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		attrs = append(attrs, a)
	}
	l.out.Log(context.Background(), to, "raft: "+msg, attrs...)
}

// The methods of hclog.Logger, each as its interface says.

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }
func (l *raftLogger) IsTrace() bool                 { return false }
func (l *raftLogger) IsDebug() bool {
	return l.out.Enabled(context.Background(), slog.LevelDebug)
}
func (l *raftLogger) IsInfo() bool          { return l.IsDebug() }
func (l *raftLogger) IsWarn() bool          { return true }
func (l *raftLogger) IsError() bool         { return true }
func (l *raftLogger) ImpliedArgs() []any    { return l.args }
func (l *raftLogger) Name() string          { return l.name }
func (l *raftLogger) SetLevel(hclog.Level)  {} // the slog.Handler decides
func (l *raftLogger) GetLevel() hclog.Level { return hclog.Debug }

func (l *raftLogger) With(args ...any) hclog.Logger {
	c := *l
	c.args = append(l.args[:len(l.args):len(l.args)], args...)
	return &c
}

func (l *raftLogger) Named(name string) hclog.Logger {
	c := *l
	c.name = name
	return &c
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger { return l.Named(name) }

func (l *raftLogger) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(o), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

type lineWriter struct{ l *raftLogger }

func (w lineWriter) Write(p []byte) (int, error) {
	w.l.Debug(string(p))
	return len(p), nil
}
