package nodeset

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// DefaultMax is how many names an expression may stand for where a Parser says nothing else.
const DefaultMax = 1 << 20

// MaxText is the longest expression in bytes, and the longest line of a file: ten times what 40 000 names need that are
// listed one by one.
const MaxText = 4 << 20

// maxWork bounds how many times the names that an expression may have are walked by operators: a minus costs what
// its left side has, and there is room for a great many in a short text.
const maxWork = 64

// maxLookups bounds the groups, regular expressions and files of one expression, for each may cost a walk over all
// nodes.
const maxLookups = 4096

// Regular expressions are bounded more tightly: one takes longer over all nodes, and to compile it may take a
// hundred times the memory of its text.
const (
	maxMatches = 64
	maxRegexp  = 1024 // bytes
)

// Groups knows the groups of names.
type Groups interface {
	// Group returns the names in a group. The source is empty where the expression names none; the group "*" is
	// everything in the source. An unknown source or group is fault.NotFound. Parse calls it once for every group
	// of an expression, from its own goroutine.
	Group(source, name string) ([]string, error)
}

// Parser reads expressions. Its zero value knows names only: groups, regular expressions and files are refused.
type Parser struct {
	Groups Groups
	Match  func(re *regexp.Regexp) ([]string, error) // all names that match
	Read   func(file string) (string, error)         // the text of a file; of standard input for "-"
	Max    int                                       // names before repetitions are dropped; DefaultMax if 0
}

// Parse reads an expression of plain names; see Parser.Parse.
func Parse(expression string) (Set, error) { return Parser{}.Parse(expression) }

// Parse reads an expression. What is wrong with it is one line, fault.Invalid, that gives the position; errors of
// Groups, Match and Read keep their kind. Nothing is expanded that would exceed Max.
func (p Parser) Parse(expression string) (Set, error) {
	if p.Max == 0 {
		p.Max = DefaultMax
	}
	return (&evaluation{Parser: p, budget: p.Max, lookups: maxLookups, matches: maxMatches, work: maxWork * p.Max}).set(expression)
}

// evaluation is what the expressions of one call, files included, share.
type evaluation struct {
	Parser
	budget  int // names that may still come
	lookups int // groups, regular expressions and files that may still come
	matches int // of them, regular expressions
	work    int // names that operators other than the union may still walk
	inFile  bool
}

const (
	operators = ",!&^"
	space     = " \t\r\n"
)

// set evaluates one expression from left to right.
func (e *evaluation) set(expression string) (Set, error) {
	if len(expression) > MaxText {
		return Set{}, describe("node set", flaw(MaxText, "the expression has %d bytes, more than %d", len(expression), MaxText).
			hint("list the names in a file, one a line, and write ^file"), expression)
	}
	c := cursor{text: expression}
	var done Set         // the result of all operators that were not unions
	var pending []string // to be united with it: many unions cost one sort
	op := byte(',')
	for {
		c.skip()
		at := c.pos
		if op == ',' {
			var err error
			if pending, err = e.term(&c, pending); err != nil {
				return Set{}, describe("node set", err, expression)
			}
		} else {
			names, err := e.term(&c, nil)
			if err != nil {
				return Set{}, describe("node set", err, expression)
			}
			done, pending = settle(done, pending), nil
			if e.work -= done.Len() + len(names); e.work < 0 {
				return Set{}, describe("node set", flaw(at, "the expression has too many operators for the names it stands for"), expression)
			}
			done = combine(op, done, Set{normal(names)})
		}
		spaced := c.skip()
		switch {
		case c.rest() == "":
			return settle(done, pending), nil
		case strings.IndexByte(operators, c.rest()[0]) >= 0:
			op = c.rest()[0]
			c.pos++
		case spaced:
			op = ','
		default:
			return Set{}, describe("node set", stray(&c), expression)
		}
	}
}

func settle(done Set, pending []string) Set {
	if len(pending) == 0 {
		return done
	}
	more := Set{normal(pending)}
	if done.Len() == 0 {
		return more
	}
	return done.Union(more)
}

func combine(op byte, l, r Set) Set {
	switch op {
	case '!':
		return l.Minus(r)
	case '&':
		return l.Intersect(r)
	default:
		return l.Xor(r)
	}
}

// term reads one operand and appends its names, in any order and maybe repeated.
func (e *evaluation) term(c *cursor, all []string) ([]string, error) {
	at := c.pos
	rest := c.rest()
	switch {
	case rest == "" && at == 0:
		return nil, flaw(at, "the expression is empty").hint("all nodes are @*")
	case rest == "":
		return nil, flaw(at, "a name is missing after the last operator")
	case rest[0] == '@':
		c.pos++
		return e.group(c.until(operators+space), at, all)
	case rest[0] == '~':
		c.pos++
		return e.match(c.regexp(), at, all)
	case rest[0] == '^':
		c.pos++
		return e.file(c.until(operators+space), at, all)
	case rest == "-" || rest[0] == '-' && strings.IndexByte(operators+space, rest[1]) >= 0:
		c.pos++
		return e.file("-", at, all)
	case strings.IndexByte(operators, rest[0]) >= 0:
		return nil, flaw(at, "a name is missing before %q", rest[0])
	}
	text := c.name()
	if text == "" {
		return nil, stray(c)
	}
	return e.names(text, at, all)
}

// names expands a plain term.
func (e *evaluation) names(text string, at int, all []string) ([]string, error) {
	if text[0] == '-' || text[0] == '.' {
		return nil, flaw(at, "no name begins with %q", text[0])
	}
	if len(text) <= MaxName && e.budget > 0 && !strings.ContainsAny(text, "[]") {
		e.budget-- // long expressions are mostly lists of such
		return append(all, strings.Clone(text)), nil
	}
	p, err := parsePattern(text, at, e.Max)
	if err != nil {
		return nil, err
	}
	if n := p.longest(); n > MaxName {
		return nil, flaw(at, "a name has %d characters, more than %d", n, MaxName)
	}
	n := p.count(e.budget)
	if n < 0 {
		return nil, flaw(at, "%.40s would make more than %d names", text, e.Max).hint("name fewer nodes at once")
	}
	e.budget -= n
	return p.expand(slices.Grow(all, n)), nil
}

// group resolves what follows an @: source:name or name, where the name may have ranges.
func (e *evaluation) group(text string, at int, all []string) ([]string, error) {
	if e.Groups == nil {
		return nil, flaw(at, "groups are not known here")
	}
	source, name, ok := strings.Cut(text, ":")
	if !ok {
		source, name = "", text
	}
	if name == "" || ok && source == "" {
		return nil, flaw(at, "the group has no name").hint("write @group, @source:group, or @* for all nodes")
	}
	p, err := parsePattern(name, at+len(text)-len(name)+1, maxLookups)
	if err != nil {
		return nil, err
	}
	if p.count(e.lookups) < 0 {
		return nil, tooManyLookups(at)
	}
	for _, g := range p.expand(nil) {
		names, err := e.Groups.Group(source, g)
		if all, err = e.found(all, names, err, "@"+text, at); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (e *evaluation) match(text string, at int, all []string) ([]string, error) {
	if e.Match == nil {
		return nil, flaw(at, "regular expressions are not known here")
	}
	if len(text) > maxRegexp {
		return nil, flaw(at, "a regular expression has %d bytes, more than %d", len(text), maxRegexp)
	}
	if e.matches--; e.matches < 0 {
		return nil, flaw(at, "more than %d regular expressions", maxMatches).hint("write ~^(a|b) for names that match one of two")
	}
	re, err := regexp.Compile(text)
	if err != nil || text == "" {
		f := flaw(at, "%.40q is not a regular expression", text)
		if cause, ok := errors.AsType[*syntax.Error](err); ok {
			f.hint("%s", cause.Code) // without the quotation, which may hold anything
		}
		return nil, f
	}
	names, err := e.Match(re)
	return e.found(all, names, err, "~"+text, at)
}

// found takes what a hook gave: it counts, checks and appends.
func (e *evaluation) found(all, names []string, err error, what string, at int) ([]string, error) {
	if err != nil {
		return nil, &problem{at: at, text: fmt.Sprintf("%.40q", what), err: err}
	}
	if e.lookups--; e.lookups < 0 {
		return nil, tooManyLookups(at)
	}
	if e.budget -= len(names); e.budget < 0 {
		return nil, flaw(at, "%.40q brings more than %d names", what, e.Max).hint("name fewer nodes at once")
	}
	for _, n := range names {
		if !IsName(n) {
			return nil, flaw(at, "%.40q has %.40q, which is not a name", what, n)
		}
	}
	return append(all, names...), nil
}

// file reads the expressions in a file, one a line, and unites them.
func (e *evaluation) file(name string, at int, all []string) ([]string, error) {
	switch {
	case e.Read == nil:
		return nil, flaw(at, "files are not read here")
	case e.inFile:
		return nil, flaw(at, "a file of node sets cannot name another")
	case name == "":
		return nil, flaw(at, "a file name is missing after ^").hint("between two sets, ^ is the exclusive or: a^b")
	}
	if e.lookups--; e.lookups < 0 {
		return nil, tooManyLookups(at)
	}
	text, err := e.Read(name)
	if err != nil {
		return nil, &problem{at: at, text: fmt.Sprintf("reading %.200q", name), err: err}
	}
	e.inFile = true
	defer func() { e.inFile = false }()
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.Trim(line, space); line == "" {
			continue
		}
		s, err := e.set(line)
		if err != nil {
			return nil, &problem{at: at, text: fmt.Sprintf("%.200q line %d", name, number), err: err}
		}
		all = append(all, s.names...)
	}
	return all, nil
}

func tooManyLookups(at int) error {
	return flaw(at, "more than %d groups, regular expressions and files", maxLookups)
}

// stray explains a character that belongs to no term, most often to another program's grammar.
func stray(c *cursor) error {
	rest := c.rest()
	f := flaw(c.pos, "%.1q has no place here", rest)
	switch rest[0] {
	case '@':
		before, after := c.text[:c.pos], rest[1:]
		f.hint("for what is in both, write %q", tail(before)+"&@"+head(after))
	case ']':
		f = flaw(c.pos, "this bracket was never opened")
	case '{', '}':
		f.hint("ranges stand in square brackets: n[1-8]")
	case '(', ')':
		f.hint("there are no parentheses; operators apply from left to right")
	case '*', '?':
		f.hint("to match names, write a regular expression: ~^n.*x$; all nodes are @*")
	case '/':
		f.hint("to match names, write a regular expression: ~^n1")
	case ';', '|', '+':
		f.hint("the operators are , (or) & (and) ! (without) ^ (either)")
	default:
		f.hint("%s", nameRule)
	}
	return f
}

// head and tail are the term that s begins or ends with, for hints.
func head(s string) string {
	if i := strings.IndexAny(s, operators+space); i >= 0 {
		s = s[:i]
	}
	return s[:min(len(s), 40)]
}

func tail(s string) string {
	s = s[strings.LastIndexAny(s, operators+space)+1:]
	return s[max(0, len(s)-40):]
}
