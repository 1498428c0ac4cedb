package stageone

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// console is the log of stage one: short lines for whoever looks at the screen, the last of them kept so that a
// failure can be reported with what came before it.
type console struct {
	out *os.File

	mu   *sync.Mutex
	tail *bytes.Buffer
	with []slog.Attr
}

const maxTail = 4 << 10

func newConsole(out *os.File) *console {
	return &console{out: out, mu: &sync.Mutex{}, tail: &bytes.Buffer{}}
}

// Enabled implements slog.Handler.
func (c *console) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle implements slog.Handler.
func (c *console) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "wulfmesh[%s] %s", uptime(), r.Message)
	attr := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range c.with {
		attr(a)
	}
	r.Attrs(attr)
	b.WriteString("\r\n")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail.Write(b.Bytes())
	if extra := c.tail.Len() - maxTail; extra > 0 {
		c.tail.Next(extra)
	}
	_, err := c.out.Write(b.Bytes())
	return err
}

// WithAttrs implements slog.Handler.
func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	d := *c
	d.with = append(append([]slog.Attr{}, c.with...), attrs...)
	return &d
}

// WithGroup implements slog.Handler; groups are not shown.
func (c *console) WithGroup(string) slog.Handler { return c }

// last is what was said last.
func (c *console) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tail.String()
}

// uptime is the seconds since the kernel started, as it says them itself.
func uptime() string {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "?"
	}
	first, _, _ := bytes.Cut(b, []byte(" "))
	return string(first)
}
