package stageone

import (
	"cmp"
	"strings"
)

// CompareVersions orders kernel versions by how much they are wanted, the least first. The numbers that a version
// begins with decide, a longer version being after one that it begins with: 5.14.0-427.13.1 is after 5.14.0-427. Of
// equal numbers the plain one is wanted most, and then the first by the alphabet: 6.1.0-18-amd64 before
// 6.1.0-18-cloud-amd64 and 6.1.0-18-rt-amd64, 5.14.0-427.el9.aarch64 before its +64k, 6.9 before 6.9-rc7.
func CompareVersions(a, b string) int {
	x, y := parts(a), parts(b)
	head := true // in the numbers that the version begins with
	for i := range min(len(x), len(y)) {
		xn, yn := isDigit(x[i][0]), isDigit(y[i][0])
		var c int
		switch {
		case xn && yn:
			c = cmp.Or(cmp.Compare(len(x[i]), len(y[i])), cmp.Compare(x[i], y[i]))
		case xn != yn:
			c = 1
			if yn == head {
				c = -1
			}
		default:
			head = false
			c = cmp.Compare(y[i], x[i])
		}
		if c != 0 {
			return c
		}
	}
	switch n := min(len(x), len(y)); {
	case len(x) > n:
		return rest(x[n], head)
	case len(y) > n:
		return -rest(y[n], head)
	}
	return 0
}

// rest compares a version that goes on with one that ends there.
func rest(part string, head bool) int {
	if head && isDigit(part[0]) {
		return 1
	}
	return -1
}

// parts cuts a version into numbers, without leading zeros, and words.
func parts(v string) []string {
	var all []string
	for v != "" {
		n := 1
		switch {
		case isDigit(v[0]):
			for n < len(v) && isDigit(v[n]) {
				n++
			}
			all = append(all, cmp.Or(strings.TrimLeft(v[:n], "0"), "0"))
		case isLetter(v[0]):
			for n < len(v) && isLetter(v[n]) {
				n++
			}
			all = append(all, v[:n])
		}
		v = v[n:]
	}
	return all
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
