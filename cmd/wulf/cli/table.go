package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table is rows of cells that stand below one another. The first row is the heading.
type table struct {
	rows      [][]string
	width     int  // of the terminal; 0: nothing is cut off, for what is piped must be whole
	colour    bool // states are coloured, besides what they say
	plainHead bool // the first row is a row like any other
}

const gap = "  "

func (t *table) write(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	out := bufio.NewWriter(w)
	for i, row := range t.rows {
		out.WriteString(t.line(row, widths, i == 0 && !t.plainHead))
		out.WriteByte('\n')
	}
	return out.Flush()
}

// line is one row. The last cell is not padded, so that no line ends in spaces, and it alone is cut to fit.
func (t *table) line(row []string, widths []int, head bool) string {
	var b strings.Builder
	for column := 0; len(row) > 0 && column < len(row); column++ {
		cell := row[column]
		pad := widths[column] - utf8.RuneCountInString(cell)
		if column == len(row)-1 {
			pad = 0
			if used := sum(widths[:column]) + column*len(gap); t.width > used+8 {
				cell = cut(cell, t.width-used)
			}
		}
		if column > 0 {
			b.WriteString(gap)
		}
		b.WriteString(t.paint(cell, head))
		b.WriteString(strings.Repeat(" ", pad))
	}
	return strings.TrimRight(b.String(), " ")
}

// Colours by meaning. A state is never told by its colour alone.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

func (t *table) paint(cell string, head bool) string {
	if !t.colour || cell == "" {
		return cell
	}
	switch {
	case head:
		return bold + cell + reset
	case cell == "up", cell == "alive", cell == "leader", strings.HasPrefix(cell, "✓"):
		return green + cell + reset
	case strings.HasPrefix(cell, "✗"), cell == "dead":
		return red + cell + reset
	case cell == "silent":
		return yellow + cell + reset
	}
	return cell
}

// paintAll colours a whole line.
func (t *table) paintAll(line, colour string) string {
	if !t.colour {
		return line
	}
	return colour + line + reset
}

func sum(n []int) int {
	total := 0
	for _, v := range n {
		total += v
	}
	return total
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// ago says how long ago something was: 3m ago.
func ago(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return brief(time.Since(at)) + " ago"
}

// brief is a duration in the largest unit that is right for it.
func brief(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// size is a number of bytes for people: 1.4 GiB.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v /= 1 << 10; v < 1<<10 {
			break
		}
	}
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// or is s, or - where a cell would be empty.
func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// deref is what a setting decides, or "".
func deref[T ~string](s *T) string {
	if s == nil {
		return ""
	}
	return string(*s)
}
