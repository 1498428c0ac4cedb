package journal

import "strings"

// masked is a message without what differs from machine to machine: numbers, addresses and digests become #. Messages
// that say the same thing of many machines become one.
func masked(text string) string {
	if !strings.ContainsAny(text, "0123456789") {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); {
		if !isWordByte(text[i]) {
			b.WriteByte(text[i])
			i++
			continue
		}
		end := i
		for end < len(text) && (isWordByte(text[end]) || joins(text, end)) {
			end++
		}
		maskWord(&b, text[i:end])
		i = end
	}
	return b.String()
}

func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// joins tells whether the character at i holds an address together: a dot, a colon or two, a hyphen between two parts of it.
func joins(text string, i int) bool {
	part := func(c byte) bool { return isHexByte(c) || c == ':' && text[i] == ':' }
	return strings.IndexByte(".:-", text[i]) >= 0 && i > 0 && i+1 < len(text) && part(text[i-1]) && part(text[i+1])
}

func isHexByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// maskWord writes # for a word that is a number, an address or a digest, and for each run of digits in any other.
func maskWord(b *strings.Builder, word string) {
	digits, other := 0, 0
	for i := range len(word) {
		switch c := word[i]; {
		case c >= '0' && c <= '9':
			digits++
		case !isHexByte(c) && strings.IndexByte(".:-", c) < 0:
			other++
		}
	}
	if digits > 0 && other == 0 && (digits+1)*4 >= len(word) {
		b.WriteByte('#')
		return
	}
	run := false
	for i := range len(word) {
		digit := word[i] >= '0' && word[i] <= '9'
		if !digit {
			b.WriteByte(word[i])
		} else if !run {
			b.WriteByte('#')
		}
		run = digit
	}
}
