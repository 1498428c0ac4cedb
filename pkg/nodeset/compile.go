package nodeset

import (
	"strconv"
	"strings"
)

const formulaRule = "write numbers, n1 to n9, + - * / % and parentheses, as in {(n1-1)%42+1}"

// ParseFormula reads a formula. Text without braces is one too, the same for every name. What is wrong is one line,
// fault.Invalid, that gives the position.
func ParseFormula(text string) (Formula, error) {
	if len(text) > MaxFormula {
		return Formula{}, describe("formula", flaw(MaxFormula, "a formula has %d bytes, more than %d", len(text), MaxFormula), text)
	}
	c := compiler{cursor: cursor{text: text}}
	f := Formula{text: text}
	for {
		before := c.take(len(c.rest()))
		if i := strings.IndexAny(before, "{}"); i >= 0 {
			c.pos -= len(before) - i
			before = before[:i]
		}
		switch {
		case c.rest() == "":
			f.end = before
			return f, nil
		case c.rest()[0] == '}':
			return Formula{}, describe("formula", flaw(c.pos, "this brace was never opened"), text)
		}
		p, err := c.braces()
		if err != nil {
			return Formula{}, describe("formula", err, text)
		}
		p.before = before
		f.parts = append(f.parts, p)
	}
}

// compiler reads what stands in braces, from left to right:
//
//	sum     = product { (+|-) product }
//	product = factor { (*|/|%) factor }
//	factor  = number | nDIGIT | ( sum ) | - factor
type compiler struct {
	cursor
	nested int
	code   []instruction
}

// braces reads from an opening brace to the closing one.
func (c *compiler) braces() (part, error) {
	open := c.pos
	length := strings.IndexByte(c.rest(), '}')
	if length < 0 {
		return part{}, flaw(open, "this brace is never closed")
	}
	c.pos++
	c.code = nil
	if err := c.sum(); err != nil {
		return part{}, err
	}
	p := part{code: c.code, base: 10}
	switch c.peek() {
	case '}':
	case ':':
		c.pos++
		format := c.take(open + length - c.pos)
		if !p.format(format) {
			return part{}, flaw(c.pos-len(format), "%.20q is not a format", format).
				hint("write {n1:03d} for three digits with leading zeros, {n1:02x} for two hexadecimal ones")
		}
	default:
		return part{}, c.flaw()
	}
	c.pos++
	return p, nil
}

// format reads a format, and tells whether it is one. A width is for zeros: nobody wants blanks in an address.
func (p *part) format(text string) bool {
	width, hexadecimal := strings.CutSuffix(text, "x")
	if hexadecimal {
		p.base = 16
	} else {
		var decimal bool
		if width, decimal = strings.CutSuffix(text, "d"); !decimal {
			return false
		}
	}
	if width == "" {
		return true
	}
	n, err := strconv.ParseUint(width, 10, 8)
	p.width = int(n)
	return err == nil && width[0] == '0' && 1 <= n && n <= maxWidth
}

func (c *compiler) sum() error { return c.chain("+-", c.product) }

func (c *compiler) product() error { return c.chain("*/%", c.factor) }

// chain reads operands with operators between them, which apply from left to right.
func (c *compiler) chain(operators string, operand func() error) error {
	err := operand()
	for err == nil && strings.IndexByte(operators, c.peek()) >= 0 {
		op, at := c.peek(), c.pos
		c.pos++
		err = operand()
		c.code = append(c.code, instruction{op: op, at: at})
	}
	return err
}

func (c *compiler) factor() error {
	if c.nested++; c.nested > maxNested {
		return flaw(c.pos, "more than %d parentheses and signs within one another", maxNested)
	}
	defer func() { c.nested-- }()
	first := c.peek()
	at := c.pos
	switch first {
	case '-':
		c.pos++
		err := c.factor()
		c.code = append(c.code, instruction{op: '_', at: at})
		return err
	case '(':
		c.pos++
		if err := c.sum(); err != nil {
			return err
		}
		if c.peek() != ')' {
			return c.flaw()
		}
		c.pos++
		return nil
	case 'n':
		c.pos++
		run := c.take(len(digits(c.rest())))
		if len(run) != 1 || run == "0" {
			return flaw(at, "the numbers of a name are n1 to n9")
		}
		c.code = append(c.code, instruction{op: 'n', at: at, value: int64(run[0] - '1')})
		return nil
	}
	run := c.take(len(digits(c.rest())))
	if run == "" {
		return c.flaw()
	}
	v, err := strconv.ParseInt(run, 10, 64)
	if err != nil || v > maxValue {
		return flaw(at, "a number is greater than %d", maxValue)
	}
	c.code = append(c.code, instruction{op: '1', at: at, value: v})
	return nil
}

// peek is the next character that counts, 0 at the end.
func (c *compiler) peek() byte {
	c.pos += len(c.rest()) - len(strings.TrimLeft(c.rest(), " "))
	if c.rest() == "" {
		return 0
	}
	return c.rest()[0]
}

// flaw is for a character that cannot stand where the compiler is.
func (c *compiler) flaw() error {
	if b := c.peek(); b != '}' {
		return flaw(c.pos, "%.1q cannot stand here", c.rest()).hint("%s", formulaRule)
	}
	return flaw(c.pos, "something is missing before the brace").hint("%s", formulaRule)
}
