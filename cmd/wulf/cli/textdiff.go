package cli

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a textual difference.
const (
	diffContext = 2         // lines around what differs
	diffEffort  = 4_000_000 // products of lines, above which a text is taken to be another one altogether
	diffWidth   = 160       // characters of a line
)

// unified shows how two texts differ, in at most so many lines: "-" is the first text's, "+" the second's. What is no text
// is told by its size.
func unified(a, b []byte, most int) []string {
	if !legible(a) || !legible(b) {
		return []string{fmt.Sprintf("not text: %d bytes, %d bytes", len(a), len(b))}
	}
	x, y := diffLines(a), diffLines(b)
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	var out []string
	add := func(mark string, lines []string) {
		for _, l := range lines {
			if r := []rune(l); len(r) > diffWidth {
				l = string(r[:diffWidth]) + "…"
			}
			out = append(out, mark+l)
		}
	}
	add(" ", x[max(0, head-diffContext):head])
	middle(x[head:len(x)-tail], y[head:len(y)-tail], add)
	add(" ", x[len(x)-tail:min(len(x), len(x)-tail+diffContext)])
	if more := len(out) - most; more > 0 {
		out = append(out[:most:most], fmt.Sprintf("… %d more", more))
	}
	return out
}

// middle shows what differs between two lists of which neither begins nor ends like the other, by a longest common
// subsequence.
func middle(x, y []string, add func(string, []string)) {
	if len(x)*len(y) > diffEffort || len(x) == 0 || len(y) == 0 {
		add("-", x)
		add("+", y)
		return
	}
	length := make([][]int32, len(x)+1) // of the longest one of x[i:] and y[j:]
	for i := range length {
		length[i] = make([]int32, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			add(" ", x[i:i+1])
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && length[i+1][j] >= length[i][j+1]:
			add("-", x[i:i+1])
			i++
		default:
			add("+", y[j:j+1])
			j++
		}
	}
}

// diffLines are the lines of a text. That the last one has no end is a difference, too, and shown as one.
func diffLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	lines := strings.Split(string(b), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		return lines[:last]
	}
	lines[len(lines)-1] += " (without a line end)"
	return lines
}

func legible(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }
