package rig

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// maxLines bounds what an Output remembers; the file has everything.
const maxLines = 20000

// A Line is one line that a process or a machine has written.
type Line struct {
	After time.Duration // since the process started, or the machine was switched on
	Text  string        // without the escapes that place a cursor or choose a colour
}

// An Output collects what one run of a process or a machine writes, line by line with the time, in memory and in a file.
// Its methods may be called concurrently.
type Output struct {
	name string
	file *os.File

	mu      sync.Mutex
	start   time.Time
	lines   []Line
	partial strings.Builder // the line being written; a prompt never ends
	escape  []byte          // the escape sequence being read
	changed chan struct{}   // closed and replaced at every write
	ended   bool
}

// newOutput starts an output that appends to the file at path.
func newOutput(name, path string) (*Output, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	fmt.Fprintf(f, "=== %s starts at %s\n", name, start.Format(time.RFC3339Nano)) // the file may hold several runs
	return &Output{name: name, file: f, start: start, changed: make(chan struct{})}, nil
}

// copyFrom reads until the end of r, then closes the output.
func (o *Output) copyFrom(r io.Reader) {
	br := bufio.NewReader(r)
	for {
		b, err := br.ReadByte()
		if err != nil {
			break
		}
		o.mu.Lock()
		o.put(b)
		for range br.Buffered() { // what has come already costs one lock
			b, _ := br.ReadByte()
			o.put(b)
		}
		o.wake()
		o.mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.partial.Len() > 0 {
		o.endLine()
	}
	o.ended = true
	o.wake()
	o.file.Close()
}

// put takes one byte. Firmware draws on its console as on a screen: a sequence that moves the cursor ends the line,
// every other one is dropped.
func (o *Output) put(b byte) {
	if o.escape != nil {
		o.escape = append(o.escape, b)
		switch {
		case len(o.escape) == 2 && b == '[': // more to come
		case b >= '@' && b <= '~' || len(o.escape) > 32:
			o.escape = nil
			if (b == 'H' || b == 'J') && o.partial.Len() > 0 {
				o.endLine()
			}
		}
		return
	}
	switch {
	case b == 0x1b:
		o.escape = []byte{b}
	case b == '\n':
		o.endLine()
	case b == '\t' || b >= ' ' && b != 0x7f:
		o.partial.WriteByte(b)
	}
}

func (o *Output) endLine() {
	line := Line{After: time.Since(o.start), Text: strings.TrimRight(o.partial.String(), " ")}
	o.partial.Reset()
	if len(o.lines) < maxLines {
		o.lines = append(o.lines, line)
	}
	fmt.Fprintf(o.file, "%8.2f %s\n", line.After.Seconds(), line.Text)
}

func (o *Output) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// Lines are the lines written so far, the one being written included.
func (o *Output) Lines() []Line {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.snapshot(0)
}

func (o *Output) snapshot(from int) []Line {
	lines := append([]Line(nil), o.lines[min(from, len(o.lines)):]...)
	if o.partial.Len() > 0 {
		lines = append(lines, Line{After: time.Since(o.start), Text: o.partial.String()})
	}
	return lines
}

// Wait blocks until a line that contains text has been written, now or earlier in this run, and returns it. The error
// says why there will be none (the context ended, or the writer did) and shows the last lines.
func (o *Output) Wait(ctx context.Context, text string) (Line, error) {
	for seen := 0; ; {
		o.mu.Lock()
		fresh, ended, changed := o.snapshot(seen), o.ended, o.changed
		seen = len(o.lines)
		o.mu.Unlock()
		for _, line := range fresh {
			if strings.Contains(line.Text, text) {
				return line, nil
			}
		}
		if ended {
			return Line{}, fmt.Errorf("%s ended without writing %q; its last lines:\n%s", o.name, text, o.Tail(15))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, fmt.Errorf("waiting for %s to write %q: %w; its last lines:\n%s", o.name, text, context.Cause(ctx), o.Tail(15))
		}
	}
}

// Tail is the last n lines, indented, for a message.
func (o *Output) Tail(n int) string {
	lines := o.Lines()
	var b strings.Builder
	for _, line := range lines[max(0, len(lines)-n):] {
		fmt.Fprintf(&b, "    %8.2f %s\n", line.After.Seconds(), line.Text)
	}
	return b.String()
}
