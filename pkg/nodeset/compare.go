package nodeset

import (
	"cmp"
	"strings"
)

// Compare orders names as people count: runs of digits by their number, all else by its bytes, so that n2 comes
// before n10 and r1n10 before r2n1. Names that differ in zero padding only are ordered by the first run that
// differs, the shorter first. It is 0 for equal strings only.
func Compare(a, b string) int {
	// Names of one cluster begin alike. What is alike says nothing, but for a number that goes on after it.
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	for i > 0 && isDigit(a[i-1]) {
		i--
	}
	j, padding := i, 0
	for i < len(a) && j < len(b) {
		if !isDigit(a[i]) || !isDigit(b[j]) {
			if a[i] != b[j] {
				return cmp.Compare(a[i], b[j])
			}
			i, j = i+1, j+1
			continue
		}
		x, y := digits(a[i:]), digits(b[j:])
		i, j = i+len(x), j+len(y)
		if x == y {
			continue
		}
		if len(x) == len(y) {
			return strings.Compare(x, y)
		}
		nx, ny := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c := cmp.Or(cmp.Compare(len(nx), len(ny)), strings.Compare(nx, ny)); c != 0 {
			return c
		}
		padding = cmp.Or(padding, cmp.Compare(len(x), len(y)))
	}
	return cmp.Or(cmp.Compare(len(a)-i, len(b)-j), padding)
}

// digits is the run of digits that s begins with.
func digits(s string) string {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[:n]
}

// value is the number that a run of at most maxDigits digits is.
func value(run string) uint64 {
	var n uint64
	for i := range len(run) {
		n = 10*n + uint64(run[i]-'0')
	}
	return n
}
