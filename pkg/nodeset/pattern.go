package nodeset

import (
	"math/bits"
	"strconv"
	"strings"
)

// pattern is a name with ranges: parts of text, and after each of them, the last aside, a list of ranges.
type pattern struct {
	text  []string
	lists [][]span
}

// span is one range in brackets.
type span struct {
	first, last, step uint64
	width             int // zero padding; 0 without
}

// maxDigits is how long a number may be: what surely fits in 64 bits. In a name, longer runs of digits are text.
const maxDigits = 18

// parsePattern reads text with ranges in brackets. at is the position of s in the expression, for errors; most is how
// many ranges a list may have.
func parsePattern(s string, at, most int) (pattern, error) {
	var p pattern
	for {
		open := strings.IndexAny(s, "[]")
		if open < 0 {
			p.text = append(p.text, s)
			return p, nil
		}
		if s[open] == ']' {
			return p, flaw(at+open, "this bracket was never opened")
		}
		length := strings.IndexAny(s[open+1:], "[]")
		switch {
		case length < 0:
			return p, flaw(at+open, "this bracket is never closed").hint("no white space may stand between brackets")
		case s[open+1+length] == '[':
			return p, flaw(at+open+1+length, "a bracket inside a bracket").hint("several dimensions stand side by side: r[1-2]n[1-4]")
		}
		if len(p.lists) == MaxName {
			return p, flaw(at+open, "a name has more than %d ranges", MaxName)
		}
		list, err := parseSpans(s[open+1:open+1+length], at+open+1, most)
		if err != nil {
			return p, err
		}
		p.text, p.lists = append(p.text, s[:open]), append(p.lists, list)
		done := open + length + 2
		s, at = s[done:], at+done
	}
}

func parseSpans(s string, at, most int) ([]span, error) {
	n := strings.Count(s, ",") + 1
	if n > most {
		return nil, flaw(at, "these are more than %d ranges", most)
	}
	list := make([]span, 0, n)
	for item := range strings.SplitSeq(s, ",") {
		sp, err := parseSpan(item, at)
		if err != nil {
			return nil, err
		}
		list = append(list, sp)
		at += len(item) + 1
	}
	return list, nil
}

func parseSpan(s string, at int) (span, error) {
	ends, step, stepped := strings.Cut(s, "/")
	first, last, ranged := strings.Cut(ends, "-")
	if !ranged {
		last = first
	}
	sp := span{step: 1}
	var err error
	if sp.first, err = number(first, at); err != nil {
		return sp, err
	}
	if sp.last, err = number(last, at+len(ends)-len(last)); err != nil {
		return sp, err
	}
	if stepped {
		if sp.step, err = number(step, at+len(ends)+1); err != nil {
			return sp, err
		}
		if !ranged || sp.step == 0 {
			return sp, flaw(at+len(ends), "a step needs a range and must not be 0").hint("write n[0-12/4] for n0, n4, n8 and n12")
		}
	}
	if sp.last < sp.first {
		return sp, flaw(at, "the range %s runs backwards", s).hint("write the smaller number first")
	}
	padded := func(n string) bool { return len(n) > 1 && n[0] == '0' }
	if padded(first) {
		sp.width = len(first)
	}
	// n[1-08] or n[01-008]: whoever wrote it meant one of two padded ranges, and each guess is wrong once.
	if len(last) < sp.width || padded(last) && len(last) != sp.width {
		return sp, flaw(at, "the ends of the range %s have unlike zero padding", s).hint("write both ends with the same number of digits: n[01-08]")
	}
	return sp, nil
}

func number(s string, at int) (uint64, error) {
	switch {
	case s == "":
		return 0, flaw(at, "a number is missing").hint("ranges look like n[1-8], n[01-08,12] or n[0-12/4]")
	case len(digits(s)) != len(s):
		return 0, flaw(at, "%.20q is not a number", s).hint("ranges look like n[1-8], n[01-08,12] or n[0-12/4]")
	case len(s) > maxDigits:
		return 0, flaw(at, "a number has %d digits, more than %d", len(s), maxDigits)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, flaw(at, "%.20q is not a number", s)
	}
	return n, nil
}

// count is how many names the pattern stands for, or -1 if they are more than limit.
func (p pattern) count(limit int) int {
	if limit < 1 {
		return -1
	}
	total := uint64(1)
	for _, list := range p.lists {
		var n uint64
		for _, s := range list {
			n += (s.last-s.first)/s.step + 1 // at most 10^18 each, and n is checked every time
			if n > uint64(limit) {
				return -1
			}
		}
		hi, lo := bits.Mul64(total, n)
		if hi != 0 || lo > uint64(limit) {
			return -1
		}
		total = lo
	}
	return int(total)
}

// longest is how many bytes the longest name has.
func (p pattern) longest() int {
	n := 0
	for _, t := range p.text {
		n += len(t)
	}
	for _, list := range p.lists {
		most := 0
		for _, s := range list {
			most = max(most, len(appendNumber(nil, s.last, s.width)))
		}
		n += most
	}
	return n
}

// expand appends the names in the order of their writing, the last dimension fastest.
func (p pattern) expand(names []string) []string {
	return p.from(0, make([]byte, 0, p.longest()), names)
}

func (p pattern) from(dim int, head []byte, names []string) []string {
	head = append(head, p.text[dim]...)
	if dim == len(p.lists) {
		return append(names, string(head))
	}
	for _, s := range p.lists[dim] {
		for v := s.first; v <= s.last; v += s.step {
			names = p.from(dim+1, appendNumber(head, v, s.width), names)
		}
	}
	return names
}

// appendNumber writes v with zeros to the width.
func appendNumber(b []byte, v uint64, width int) []byte {
	var buf [20]byte
	text := strconv.AppendUint(buf[:0], v, 10)
	for i := len(text); i < width; i++ {
		b = append(b, '0')
	}
	return append(b, text...)
}
