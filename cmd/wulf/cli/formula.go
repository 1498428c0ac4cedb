package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// spread makes a value for each of the names from what one flag says:
//
//	10.1.0.1            one value, for one name
//	10.1.0.1,10.1.0.7   one for each name, in the order of the node set
//	10.1.0.1+           counting up from there; next makes the one after
//	10.1.{n1}.{n2}      computed from the numbers in each name, n1 being the first: r3n12 gives 10.1.3.12
//
// Between the braces are whole numbers, n1 to n9, + - * / % and parentheses, then maybe a format: {n1+16:02x} is two
// hexadecimal digits.
func spread(flag, value string, names []string, next func(string) (string, error)) ([]string, error) {
	out := make([]string, len(names))
	switch {
	case strings.Contains(value, "{"):
		for i, name := range names {
			v, err := fill(value, name)
			if err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "--%s %s", flag, value)
			}
			out[i] = v
		}
	case strings.HasSuffix(value, "+"):
		v := strings.TrimSuffix(value, "+")
		for i := range names {
			if i > 0 {
				var err error
				if v, err = next(v); err != nil {
					return nil, fault.Wrap(fault.Invalid, err, "--%s %s", flag, value)
				}
			}
			out[i] = v
		}
	default:
		list := strings.Split(value, ",")
		if len(list) == 1 && len(names) > 1 {
			return nil, fault.New(fault.Invalid, "--%s gives one value for %d nodes", flag, len(names)).
				WithFix("count up with %s+, list them with commas, or compute them: see wulf help nodesets", value)
		}
		if len(list) != len(names) {
			return nil, fault.New(fault.Invalid, "--%s lists %d values for %d nodes", flag, len(list), len(names))
		}
		for i, v := range list {
			out[i] = strings.TrimSpace(v)
		}
	}
	return out, nil
}

// nextAddress is the IP address after s.
func nextAddress(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return "", fault.New(fault.Invalid, "%q is not an IP address", s)
	}
	if a = a.Next(); !a.IsValid() {
		return "", fault.New(fault.Invalid, "no address comes after %s", s)
	}
	return a.String(), nil
}

// nextHardware is the hardware address after s. The first three bytes say who made the device, and stay.
func nextHardware(s string) (string, error) {
	hw, err := catalog.ParseHardwareAddr(s)
	if err != nil {
		return "", err
	}
	b := strings.Split(string(hw), ":")
	for i := len(b) - 1; i >= len(b)-3; i-- {
		n, err := strconv.ParseUint(b[i], 16, 8)
		if err != nil {
			return "", err
		}
		b[i] = fmt.Sprintf("%02x", byte(n+1))
		if n < 0xff {
			return strings.Join(b, ":"), nil
		}
	}
	return "", fault.New(fault.Invalid, "no hardware address of the same maker comes after %s", s)
}

// fill replaces each expression in braces by what it is for a name.
func fill(template, name string) (string, error) {
	numbers := numbersIn(name)
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fault.New(fault.Invalid, "a brace is not closed")
		}
		expr, format, _ := strings.Cut(inside, ":")
		e := expression{text: expr, name: name, numbers: numbers}
		v, err := e.value()
		if err != nil {
			return "", err
		}
		text, err := formatted(v, format)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		template = after
	}
}

// formatted writes a number as a format says: nothing, or [0]WIDTH and d or x.
func formatted(v int64, format string) (string, error) {
	if format == "" {
		return strconv.FormatInt(v, 10), nil
	}
	width, kind := format[:len(format)-1], format[len(format)-1]
	zero := strings.HasPrefix(width, "0")
	n := 0
	if width != "" {
		var err error
		if n, err = strconv.Atoi(width); err != nil || n < 0 || n > 16 {
			return "", fault.New(fault.Invalid, "%q is not a format", format).WithFix("write {n1:03d} or {n1:02x}")
		}
	}
	base := 10
	switch kind {
	case 'd':
	case 'x':
		base = 16
	default:
		return "", fault.New(fault.Invalid, "%q is not a format", format).WithFix("write {n1:03d} or {n1:02x}")
	}
	s := strconv.FormatInt(v, base)
	if zero && v >= 0 && len(s) < n {
		s = strings.Repeat("0", n-len(s)) + s
	}
	return s, nil
}

// numbersIn are the runs of digits in a name, as numbers.
func numbersIn(name string) []int64 {
	var all []int64
	for _, run := range strings.FieldsFunc(name, func(r rune) bool { return r < '0' || r > '9' }) {
		if v, err := strconv.ParseInt(run, 10, 32); err == nil { // longer ones count nothing
			all = append(all, v)
		}
	}
	return all
}

// expression is what stands between braces, read from left to right:
//
//	sum     = product { (+|-) product }
//	product = factor { (*|/|%) factor }
//	factor  = number | nDIGIT | ( sum ) | - factor
type expression struct {
	text    string
	pos     int
	depth   int
	name    string
	numbers []int64
}

// maxDepth bounds the parentheses within parentheses.
const maxDepth = 32

func (e *expression) value() (int64, error) {
	v, err := e.sum()
	if err == nil && e.peek() != 0 {
		err = e.flaw()
	}
	return v, err
}

func (e *expression) sum() (int64, error) {
	v, err := e.product()
	for err == nil && (e.peek() == '+' || e.peek() == '-') {
		op := e.take()
		var w int64
		if w, err = e.product(); op == '-' {
			w = -w
		}
		if v += w; v > maxValue || v < -maxValue {
			return 0, fault.New(fault.Invalid, "the numbers of {%s} become too large", e.text)
		}
	}
	return v, err
}

// maxValue bounds every number on the way, so that none overflows.
const maxValue = 1 << 31

func (e *expression) product() (int64, error) {
	v, err := e.factor()
	for err == nil && (e.peek() == '*' || e.peek() == '/' || e.peek() == '%') {
		op := e.take()
		var w int64
		if w, err = e.factor(); err != nil {
			break
		}
		switch {
		case op == '*':
			v *= w
		case w == 0:
			return 0, fault.New(fault.Invalid, "{%s} divides by 0 for %s", e.text, e.name)
		case op == '/':
			v /= w
		default:
			v %= w
		}
		if v > maxValue || v < -maxValue {
			return 0, fault.New(fault.Invalid, "the numbers of {%s} become too large", e.text)
		}
	}
	return v, err
}

func (e *expression) factor() (int64, error) {
	if e.depth++; e.depth > maxDepth {
		return 0, e.flaw()
	}
	defer func() { e.depth-- }()
	switch c := e.peek(); {
	case c == '-':
		e.take()
		v, err := e.factor()
		return -v, err
	case c == '(':
		e.take()
		v, err := e.sum()
		if err == nil && e.peek() != ')' {
			return 0, e.flaw()
		}
		e.take()
		return v, err
	case c == 'n':
		e.take()
		i, err := e.digits()
		if err != nil {
			return 0, err
		}
		if i < 1 || i > int64(len(e.numbers)) {
			return 0, fault.New(fault.Invalid, "the name %s has no number n%d", e.name, i)
		}
		return e.numbers[i-1], nil
	}
	return e.digits()
}

func (e *expression) digits() (int64, error) {
	from := e.pos
	for e.pos < len(e.text) && e.text[e.pos] >= '0' && e.text[e.pos] <= '9' {
		e.pos++
	}
	v, err := strconv.ParseInt(e.text[from:e.pos], 10, 32)
	if err != nil {
		return 0, e.flaw()
	}
	return v, nil
}

// peek is the next character that counts, 0 at the end.
func (e *expression) peek() byte {
	for e.pos < len(e.text) && e.text[e.pos] == ' ' {
		e.pos++
	}
	if e.pos == len(e.text) {
		return 0
	}
	return e.text[e.pos]
}

func (e *expression) take() byte {
	c := e.peek()
	if c != 0 {
		e.pos++
	}
	return c
}

func (e *expression) flaw() error {
	return fault.New(fault.Invalid, "{%s} cannot be computed, from its character %d on", e.text, e.pos+1).
		WithFix("write numbers, n1 to n9, + - * / %% and parentheses, as in {(n1-1)%%42+1}")
}
