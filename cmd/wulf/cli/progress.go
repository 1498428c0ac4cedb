package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress shows how far something is: a line that is written over on a terminal, elsewhere a line for every step and
// one every ten seconds. Any number of goroutines may call it.
type progress struct {
	out io.Writer
	tty bool

	mu     sync.Mutex
	step   string
	at     time.Time // of the last line
	unread bool      // a line stands on the terminal without an end
}

const (
	barEvery   = 100 * time.Millisecond
	plainEvery = 10 * time.Second
	barWidth   = 24
)

// report says how much of a step is done, of bytes or of whatever there is; total 0 is not known.
func (p *progress) report(step string, done, total int64, bytes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every := plainEvery
	if p.tty {
		every = barEvery
	}
	if step == p.step && time.Since(p.at) < every && (total == 0 || done < total || !p.tty) {
		return
	}
	p.step, p.at = step, time.Now()
	line := plain(step)
	if bytes {
		line += "  " + size(done)
	}
	if total > 0 {
		line += fmt.Sprintf("  %d%%", min(100, 100*done/total))
	}
	if !p.tty {
		fmt.Fprintln(p.out, line)
		return
	}
	if total > 0 {
		full := int(min(barWidth, barWidth*done/total))
		line = strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + "  " + line
	}
	fmt.Fprint(p.out, "\r\x1b[K"+line)
	p.unread = true
}

// line prints a whole line between the reports.
func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.out, plain(fmt.Sprintf(format, args...)))
}

// end takes the last report off the terminal.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.unread {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.unread = false
	}
}
