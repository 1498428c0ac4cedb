package nodeset

import (
	"strconv"
	"strings"
)

// Formula makes a text from a name: what stands in braces is computed from the numbers in the name, all else is as it
// is. For r3n12, 10.1.{n1}.{n2+100} is 10.1.3.112. In the braces stand
//
//	7  n1 … n9        a number; the first to the ninth number in the name, from the left
//	+ - * / %  ( )    whole-number arithmetic, with the usual precedence
//	:d  :03d          then maybe a format: decimal; with zeros to a width, at most 16
//	:x  :02x          hexadecimal likewise
//
// A division is rounded down, and % is what it leaves: for a divisor above 0 never less than 0, so that {(n1-1)%42+1}
// counts from 1 to 42 again and again. No value may go beyond ±2³¹.
//
// A Formula is made by ParseFormula and never changes. The zero Formula is the empty text.
type Formula struct {
	text  string
	parts []part
	end   string // after the last brace
}

// part is a text and the expression in braces after it.
type part struct {
	before string
	code   []instruction
	width  int // zeros are put before shorter numbers
	base   int
}

// instruction is a step of a stack machine, so that what is read once is computed for every node without looking at
// the text again.
type instruction struct {
	op    byte // '1' pushes value, 'n' the number of the name with the index value, '_' negates, others are as written
	at    int  // position in the text, for errors
	value int64
}

const (
	// MaxFormula is the longest text of a formula in bytes.
	MaxFormula = 1024

	maxNested   = 32              // parentheses and signs within one another
	maxOperands = 2*maxNested + 1 // each level keeps a summand and a factor waiting, then comes a number
	maxValue    = 1 << 31         // of every number on the way: products of two of them do not overflow
	maxWidth    = 16
	maxNumbers  = 9
)

// IsFormula tells whether text has braces, and so is to be read by ParseFormula. All other text stands for itself.
func IsFormula(text string) bool { return strings.ContainsAny(text, "{}") }

// String is the formula as it was written.
func (f Formula) String() string { return f.text }

// MarshalText is String, for JSON and other texts.
func (f Formula) MarshalText() ([]byte, error) { return []byte(f.text), nil }

// UnmarshalText is ParseFormula.
func (f *Formula) UnmarshalText(text []byte) error {
	read, err := ParseFormula(string(text))
	if err == nil {
		*f = read
	}
	return err
}

// Eval is the text for a name. A name without a number that the formula asks for, a division by 0 and a number that
// becomes too large are fault.Invalid, and the error has the name. It may be called by any number of goroutines.
func (f Formula) Eval(name string) (string, error) {
	if len(f.parts) == 0 {
		return f.end, nil
	}
	var numbers [maxNumbers]int64
	count := numbersIn(name, &numbers)
	var room [64]byte // most results are shorter, and cost one allocation
	out := room[:0]
	for i := range f.parts {
		p := &f.parts[i]
		v, err := p.value(numbers[:count], name)
		if err != nil {
			return "", describe("formula", err, f.text)
		}
		out = p.append(append(out, p.before...), v)
	}
	return string(append(out, f.end...)), nil
}

// numbersIn finds the runs of digits in a name and returns how many it found. One that is too large is -1: it counts,
// so that the numbers after it keep their places, and whoever asks for it gets an error.
func numbersIn(name string, numbers *[maxNumbers]int64) int {
	count := 0
	for i := 0; i < len(name) && count < maxNumbers; i++ {
		run := digits(name[i:])
		if run == "" {
			continue
		}
		i += len(run)
		n := int64(0)
		for j := 0; j < len(run) && n >= 0; j++ {
			if n = 10*n + int64(run[j]-'0'); n > maxValue {
				n = -1
			}
		}
		numbers[count] = n
		count++
	}
	return count
}

// value computes what stands in the braces.
func (p *part) value(numbers []int64, name string) (int64, error) {
	var stack [maxOperands]int64
	top := -1 // index of the last operand
	for _, in := range p.code {
		var v int64
		switch in.op {
		case '1':
			top++
			v = in.value
		case 'n':
			switch {
			case in.value >= int64(len(numbers)):
				return 0, flaw(in.at, "the name %.80q has no number n%d", name, in.value+1).
					hint("they are counted from the left: in r3n12, n1 is 3 and n2 is 12")
			case numbers[in.value] < 0:
				return 0, flaw(in.at, "the number n%d of the name %.80q is too large", in.value+1, name)
			}
			top++
			v = numbers[in.value]
		case '_':
			v = -stack[top]
		default:
			var ok bool
			top--
			if v, ok = calculate(in.op, stack[top], stack[top+1]); !ok {
				return 0, flaw(in.at, "this divides by 0 for the name %.80q", name)
			}
			if v > maxValue || v < -maxValue {
				return 0, flaw(in.at, "the result is too large for the name %.80q", name).
					hint("no number on the way may be beyond %d", maxValue)
			}
		}
		stack[top] = v
	}
	return stack[0], nil
}

// calculate is false if it would divide by 0.
func calculate(op byte, a, b int64) (int64, bool) {
	switch op {
	case '+':
		return a + b, true
	case '-':
		return a - b, true
	case '*':
		return a * b, true
	}
	if b == 0 {
		return 0, false
	}
	q, r := a/b, a%b
	if r != 0 && (r < 0) != (b < 0) { // Go rounds towards 0
		q, r = q-1, r+b
	}
	if op == '/' {
		return q, true
	}
	return r, true
}

// append writes a number as the format says. A sign counts to the width.
func (p *part) append(out []byte, v int64) []byte {
	width := p.width
	if v < 0 {
		out = append(out, '-')
		v, width = -v, width-1
	}
	var room [20]byte
	text := strconv.AppendInt(room[:0], v, p.base)
	for range width - len(text) {
		out = append(out, '0')
	}
	return append(out, text...)
}
