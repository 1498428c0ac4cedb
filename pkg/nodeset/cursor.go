package nodeset

import "strings"

// cursor is a place in an expression.
type cursor struct {
	text string
	pos  int
}

func (c *cursor) rest() string { return c.text[c.pos:] }

// skip passes white space and tells whether there was any.
func (c *cursor) skip() bool {
	n := len(c.rest()) - len(strings.TrimLeft(c.rest(), space))
	c.pos += n
	return n > 0
}

// take passes n bytes and returns them.
func (c *cursor) take(n int) string {
	s := c.rest()[:n]
	c.pos += n
	return s
}

// name takes a plain name with its ranges.
func (c *cursor) name() string {
	rest, depth := c.rest(), 0
	for i := range len(rest) {
		switch b := rest[i]; {
		case b == '[':
			depth++
		case b == ']' && depth > 0:
			depth--
		case depth > 0 && !strings.ContainsRune(space, rune(b)): // what a range may hold, parsePattern knows better
		case !isNameByte(b):
			return c.take(i)
		}
	}
	return c.take(len(rest))
}

// until takes everything before the first of the stop bytes that is not inside square brackets.
func (c *cursor) until(stop string) string {
	rest, depth := c.rest(), 0
	for i := range len(rest) {
		switch b := rest[i]; {
		case b == '[':
			depth++
		case b == ']' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(stop, b) >= 0:
			return c.take(i)
		}
	}
	return c.take(len(rest))
}

// regexp takes a regular expression: everything before a comma, '!', '&' or white space outside its brackets. An
// escaped character never ends it.
func (c *cursor) regexp() string {
	rest, depth, class := c.rest(), 0, false
	for i := 0; i < len(rest); i++ {
		switch b := rest[i]; {
		case b == '\\':
			i++
		case class:
			class = b != ']'
		case b == '[':
			class = true
		case b == '(' || b == '{':
			depth++
		case (b == ')' || b == '}') && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(",!&"+space, b) >= 0:
			return c.take(i)
		}
	}
	return c.take(len(rest))
}
