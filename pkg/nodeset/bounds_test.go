package nodeset_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// malformed are sets that Warewulf takes as they stand, or for no nodes at all, and what is wrong with them.
var malformed = map[string]string{
	"n[]":        `node set "n[]" at 3: a number is missing`,
	"n[3-1]":     `node set "n[3-1]" at 3: the range 3-1 runs backwards`,
	"n[1-2-3]":   `node set "n[1-2-3]" at 5: "2-3" is not a number`,
	"n[a-b]":     `node set "n[a-b]" at 3: "a" is not a number`,
	"n[1":        `node set "n[1" at 2: this bracket is never closed`,
	"n1]":        `node set "n1]" at 3: this bracket was never opened`,
	"n[[1]]":     `node set "n[[1]]" at 3: a bracket inside a bracket`,
	"n[1,,2]":    `node set "n[1,,2]" at 5: a number is missing`,
	"n[1-4/0]":   `node set "n[1-4/0]" at 6: a step needs a range and must not be 0`,
	"n[1-2]n[]":  `node set "n[1-2]n[]" at 9: a number is missing`,
	"ok,n[3-1]":  `node set "ok,n[3-1]" at 6: the range 3-1 runs backwards`,
	"ok!n[a]":    `node set "ok!n[a]" at 6: "a" is not a number`,
	",":          `node set "," at 1: a name is missing before ','`,
	"ok,":        `node set "ok," at 4: a name is missing after the last operator`,
	" ":          `node set " " at 2: a name is missing after the last operator`,
	"\n":         `node set "\n" at 2: a name is missing after the last operator`,
	"n[1-2]\x00": `node set "n[1-2]\x00" at 7: "\x00" has no place here`,
}

func TestMalformedSetsAreNeitherAllNorNothing(t *testing.T) {
	for in, want := range malformed {
		set, err := parser().Parse(in)
		if !errors.Is(err, fault.Invalid) || err.Error() != want || set.Len() != 0 {
			t.Errorf("%q = %v, %v\nwant %s", in, set, err, want)
		}
	}
	if _, err := nodeset.Parse(""); err == nil || err.Error() != `node set "" at 1: the expression is empty` {
		t.Errorf("an empty expression: %v", err)
	}
}

func TestLargeInputIsRefusedAtOnce(t *testing.T) {
	const mega = 1 << 20
	p := parser()
	p.Match = func(*regexp.Regexp) ([]string, error) { return nil, nil }
	for name, c := range map[string]struct{ text, want string }{
		"a long range":            {"n[1-99999999999]", `at 1: n[1-99999999999] would make more than 1048576 names`},
		"many dimensions":         {"n" + strings.Repeat("[1-9]", 7), `at 1: n[1-9][1-9][1-9][1-9][1-9][1-9][1-9] would make more than 1048576 names`},
		"endless dimensions":      {"n" + strings.Repeat("[1]", mega), `at 761: a name has more than 253 ranges`},
		"endless open brackets":   {strings.Repeat("[", 4*mega), `at 2: a bracket inside a bracket`},
		"an endless list":         {"n[" + strings.Repeat("1,", mega) + "1]", `at 3: these are more than 1048576 ranges`},
		"an endless name":         {strings.Repeat("n", 4*mega), `at 1: a name has 4194304 characters, more than 253`},
		"an endless number":       {"n[" + strings.Repeat("1", mega) + "]", `at 3: a number has 1048576 digits, more than 18`},
		"a name too many":         {"n[1-1048576],a", `at 14: a would make more than 1048576 names`},
		"endless names":           {strings.Repeat("a ", 2*mega), `at 2097153: a would make more than 1048576 names`},
		"endless operators":       {"n[1-1000000]" + strings.Repeat("!a", 40000), `the expression has too many operators for the names it stands for`},
		"a long text":             {strings.Repeat("a", 10*mega), `at 4194305: the expression has 10485760 bytes, more than 4194304`},
		"blanks":                  {strings.Repeat(" ", 10*mega), `at 4194305: the expression has 10485760 bytes, more than 4194304`},
		"a long group":            {"@rack:r[1-99999]", `at 1: more than 4096 groups, regular expressions and files`},
		"endless ranges of group": {"@rack:r[" + strings.Repeat("1,", mega) + "1]", `at 9: these are more than 4096 ranges`},
		"a long expression":       {"~" + strings.Repeat("a", 1025), `at 1: a regular expression has 1025 bytes, more than 1024`},
		"regular expressions":     {strings.Repeat("~a ", 65), `at 193: more than 64 regular expressions`},
		"greedy expressions":      {"~(((a{100}){100}){100})", `at 1: "(((a{100}){100}){100})" is not a regular expression`},
	} {
		set, err := p.Parse(c.text) // at once: what took time would run into the tests' time-out
		if !errors.Is(err, fault.Invalid) || !strings.HasSuffix(err.Error(), c.want) || len(err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %d names, %.500v\nwant %s", name, set.Len(), err, c.want)
		}
	}
}
