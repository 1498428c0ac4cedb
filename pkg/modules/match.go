package modules

import "strings"

// match tells whether a name fits a pattern of modules.alias, as fnmatch(3) without flags says it, which is what
// kmod uses: * for any characters, slashes included (path.Match stops at them), ? for one, [a-z] and [!a-z] or
// [^a-z] for one of a set, and a backslash before a character that stands for itself.
func match(pattern, name string) bool {
	// After a failure the last star takes one character more; no star before it needs to be tried again, so the
	// time is bounded by the product of the lengths.
	var star, from = -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch width, ok := one(pattern[p:], name[n]); {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case ok:
			p += width
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// one matches a character with what a pattern, which does not begin with a star, begins with, and says how much
// of the pattern that is.
func one(pattern string, c byte) (width int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	case '[':
		if width, ok, closed := set(pattern, c); closed {
			return width, ok
		}
	}
	return 1, pattern[0] == c
}

// set matches a character with a bracket expression; one that never closes is an ordinary character.
func set(pattern string, c byte) (width int, ok, closed bool) {
	i := 1
	not := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if not {
		i++
	}
	for first := true; i < len(pattern); first = false {
		if pattern[i] == ']' && !first {
			return i + 1, ok != not, true
		}
		low := pattern[i]
		high := low
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		i++
		ok = ok || low <= c && c <= high
	}
	return 0, false, false
}
