package overlay

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

// maxElements bounds the parts that a text is split into.
const maxElements = 1 << 20

// bounded puts in place of functions that multiply what they are given, in a single call, such as look first how much
// that would be: a guard comes too late for them.
func bounded(all template.FuncMap) {
	all["replace"] = func(old, new, s string) (string, error) {
		if err := within(strings.Count(s, old), max(0, len(new)-len(old))); err != nil {
			return "", err
		}
		return strings.ReplaceAll(s, old, new), nil
	}
	join := all["join"].(func(string, any) string)
	all["join"] = func(sep string, list any) (string, error) {
		if v := reflect.ValueOf(list); v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
			if err := within(v.Len(), len(sep)); err != nil {
				return "", err
			}
		}
		return join(sep, list), nil
	}
	for _, literal := range []bool{false, true} {
		name := map[bool]string{false: "egexReplaceAll", true: "egexReplaceAllLiteral"}[literal]
		f := func(expr, s, repl string) (string, error) { return regexReplace(expr, s, repl, literal) }
		all["r"+name], all["mustR"+name] = f, f
	}
	split := func(sep, s string) ([]string, error) {
		if n := strings.Count(s, sep); n > maxElements {
			return nil, fmt.Errorf("it splits a text into %d parts, more than %d", n, maxElements)
		}
		return strings.Split(s, sep), nil
	}
	all["splitList"] = split
	all["split"] = func(sep, s string) (map[string]string, error) {
		parts, err := split(sep, s)
		return numbered(parts), err
	}
	all["splitn"] = func(sep string, n int, s string) (map[string]string, error) {
		if _, err := split(sep, s); err != nil {
			return nil, err
		}
		return numbered(strings.SplitN(s, sep, n)), nil
	}
	wrap := all["wrapWith"].(func(int, string, string) string)
	all["wrapWith"] = func(width int, end, s string) (string, error) {
		if err := within(len(s)/max(width, 1)+strings.Count(s, " "), len(end)); err != nil {
			return "", err
		}
		return wrap(width, end, s), nil
	}
	regexes(all)
	printing(all)
	all["seq"] = sequence
}

// numbered is what sprig's split makes of parts: a map of _0, _1 and so on.
func numbered(parts []string) map[string]string {
	m := make(map[string]string, len(parts))
	for i, p := range parts {
		m["_"+strconv.Itoa(i)] = p
	}
	return m
}

// regexes bounds those that list matches.
func regexes(all template.FuncMap) {
	find := func(expr, s string, n int) ([]string, error) {
		r, err := regexp.Compile(expr)
		if err != nil {
			return nil, err
		}
		if n < 0 || n > maxElements {
			n = maxElements
		}
		return r.FindAllString(s, n), nil
	}
	split := func(expr, s string, n int) ([]string, error) {
		r, err := regexp.Compile(expr)
		if err != nil {
			return nil, err
		}
		if n > maxElements || n < 0 && len(s) > maxElements {
			n = maxElements
		}
		return r.Split(s, n), nil
	}
	all["regexFindAll"], all["mustRegexFindAll"] = find, find
	all["regexSplit"], all["mustRegexSplit"] = split, split
}

func regexReplace(expr, s, repl string, literal bool) (string, error) {
	r, err := regexp.Compile(expr)
	if err != nil {
		return "", err
	}
	matches := len(r.FindAllStringIndex(s, maxElements))
	size := len(repl)
	if !literal {
		size += strings.Count(repl, "$") * len(s) / max(matches, 1)
	}
	if err := within(matches, size); err != nil || matches == maxElements {
		return "", fmt.Errorf("it replaces %d matches, which makes more than may be", matches)
	}
	if literal {
		return r.ReplaceAllLiteralString(s, repl), nil
	}
	return r.ReplaceAllString(s, repl), nil
}

// printing puts functions of our own in place of the built-in ones, so that what they make is looked at.
func printing(all template.FuncMap) {
	all["print"] = fmt.Sprint
	all["println"] = fmt.Sprintln
	all["html"], all["js"], all["urlquery"] = template.HTMLEscaper, template.JSEscaper, template.URLQueryEscaper
	all["printf"] = func(format string, args ...any) (string, error) {
		largest := 0
		for _, a := range args {
			left := MaxOutput
			weigh(reflect.ValueOf(a), &left, 0)
			largest = max(largest, MaxOutput-left)
		}
		if err := within(strings.Count(format, "%"), largest/4); err != nil { // an argument can be named more than once
			return "", err
		}
		return fmt.Sprintf(format, args...), nil
	}
}

// sequence is sprig's seq: the numbers of seq(1) in one line.
func sequence(args ...int) (string, error) {
	first, step, last := 1, 1, 0
	switch len(args) {
	case 0:
		return "", nil
	case 1:
		last = args[0]
		if last < first {
			step = -1
		}
	case 2:
		first, last = args[0], args[1]
		if last < first {
			step = -1
		}
	case 3:
		first, step, last = args[0], args[1], args[2]
		if step == 0 || step > 0 && last < first || step < 0 && last > first {
			return "", nil
		}
	default:
		return "", nil
	}
	if err := within((last-first)/step, 8); err != nil {
		return "", err
	}
	var out []string
	for i := first; step > 0 && i <= last || step < 0 && i >= last; i += step {
		out = append(out, strconv.Itoa(i))
	}
	return strings.Join(out, " "), nil
}
